"""Which files a base is read from: every part's weights and configuration, in every published layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from recapture.models.wan.checkpoint import WEIGHTS, read_json
from recapture.models.wan.layouts import Part, component, find_transformers, is_pipeline
from recapture.models.wan.tensor_files import PICKLES, CheckpointError, SafetensorFiles, broken

ORIGINAL = {  # the names that Wan's original layout gives its parts, without ending
    "vae": ("Wan2.1_VAE", "Wan2.2_VAE"),
    "text_encoder": ("models_t5_umt5-xxl-enc-bf16",),
    "image_encoder": ("models_clip_open-clip-xlm-roberta-large-vit-huge-14",),
}
TOKENIZERS = ("tokenizer", "google/umt5-xxl")
WORDS = {
    "vae": "VAE",
    "text_encoder": "text encoder",
    "tokenizer": "tokenizer",
    "image_encoder": "image encoder",
}


@dataclass(frozen=True)
class Named:
    """What the settings name, each a path to a file or folder. A part named by itself takes precedence over
    `parts`, and that over what the base's own folder has."""

    base: Path
    base_2: Path | None = None
    parts: Path | None = None
    vae: Path | None = None
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    image_encoder: Path | None = None

    @classmethod
    def of(cls, base: str | Path, **others: str | Path | None) -> Named:
        """Return what is named by paths as text; None: not named."""
        return cls(
            Path(base), **{name: None if path is None else Path(path) for name, path in others.items()}
        )


@dataclass(frozen=True)
class Sources:
    """Every file of a base that is read."""

    transformer: Part
    vae: Part
    transformer_2: Part | None = None
    text_encoder: Part | None = None
    tokenizer: Path | None = None  # a folder, or the text encoder's file that contains it
    image_encoder: Part | None = None  # None for a transformer without image branch
    image_processor: Path | None = None
    boundary_ratio: float | None = None
    expand_timesteps: bool = False
    diffusers: bool = False  # a pipeline directory, whose model_index.json says the two above

    def files(self) -> dict[str, list[Path]]:
        """Return the files of every part by its name: weights, config.json, tokenizer."""
        found: dict[str, list[Path]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Part):
                found[field.name] = [*value.files, *([value.config] if value.config else [])]
            elif isinstance(value, Path):
                found[field.name] = sorted(_settings_files(value)) if value.is_dir() else [value]
        return found


def find_sources(named: Named, *, pickles: bool = False) -> Sources:
    """Find the files of a base; only headers of weights are read.

    base: a diffusers pipeline directory, a folder in Wan's original layout (transformer at its root, or
    high_noise_model/ and low_noise_model/), or one .safetensors or .gguf file of a transformer. pickles: also
    take parts that are .pth files, for conversion. Raises CheckpointError that names all missing parts and
    the way out.
    """
    base = named.base
    index = base / "model_index.json"
    told: dict[str, Any] = read_json(index) if index.is_file() else {}
    transformer, second = find_transformers(base)
    boundary = told.get("boundary_ratio")
    if is_pipeline(base) and (second is None) != (boundary is None):
        raise CheckpointError(
            f"base: {base} has two transformers, but no boundary_ratio in model_index.json"
            if second
            else f"base: {index} sets boundary_ratio {boundary}, but there is no transformer_2"
        )
    if named.base_2 is not None:
        if second is not None:
            raise CheckpointError(
                f"base: {base} has two transformers already; unset fill.base_2 ({named.base_2})"
            )
        second, more = find_transformers(named.base_2)
        if more is not None:
            raise CheckpointError(f"base: {named.base_2} has two transformers; name it as fill.base alone")
    image = _has_image_branch(transformer)
    found = {role: _part(role, named, pickles) for role in ORIGINAL if role != "image_encoder" or image}
    tokenizer = _tokenizer(named, found["text_encoder"])
    wanted = dict(found)
    if is_pipeline(base) and found["text_encoder"] is None and tokenizer is None:
        del wanted["text_encoder"]  # embeddings are given, as some tests and trainings do
    elif found["text_encoder"] is not None:
        wanted["tokenizer"] = tokenizer  # type: ignore[assignment]
    _check_all(wanted, named, pickles)
    vae = found["vae"]
    assert vae is not None
    return Sources(
        transformer,
        vae,
        second,
        found["text_encoder"],
        tokenizer,
        found.get("image_encoder"),
        _image_processor(named, found.get("image_encoder")),
        boundary_ratio=boundary,
        expand_timesteps=bool(told.get("expand_timesteps", False)),
        diffusers=is_pipeline(base),
    )


def _has_image_branch(transformer: Part) -> bool:
    return any("img_emb." in key or "image_embedder." in key for key in transformer.tensors().shapes)


def _places(named: Named) -> Iterator[Path]:
    """Yield the folders that parts may come from, the one that takes precedence first."""
    if named.parts is not None:
        if not named.parts.is_dir():
            raise CheckpointError(f"base: fill.base_parts: {named.parts} is not a directory")
        yield named.parts
    if named.base.is_dir():
        yield named.base


def _part(role: str, named: Named, pickles: bool) -> Part | None:
    stem = WEIGHTS if role == "vae" else "model"
    path: Path | None = getattr(named, role)
    if path is not None:
        if path.is_dir():
            return component(path, stem) if (path / "config.json").is_file() else _within(path, role, stem)
        if reason := broken(path, pickle=path.suffix in PICKLES):
            raise CheckpointError(f"base: fill.{role}: {path} {reason}")
        if path.suffix not in (".safetensors", *(PICKLES if pickles else ())):
            raise CheckpointError(
                f"base: fill.{role}: {path} is no .safetensors file"
                + ("; convert the folder of its base" if path.suffix in PICKLES else "")
            )
        return Part((path,))
    found = [part for place in _places(named) if (part := _within(place, role, stem)) is not None]
    usable = [part for part in found if pickles or not part.pickled]
    return (usable or found or [None])[0]  # type: ignore[list-item]


def _within(folder: Path, role: str, stem: str) -> Part | None:
    if (folder / role).is_dir():
        return component(folder / role, stem)
    for name in ORIGINAL[role]:
        for ending in (".safetensors", ".pth"):
            if (folder / (name + ending)).is_file():
                return Part((folder / (name + ending),))
    return None


def _tokenizer(named: Named, text_encoder: Part | None) -> Path | None:
    if named.tokenizer is not None:
        if not named.tokenizer.exists():
            raise CheckpointError(f"base: fill.tokenizer: {named.tokenizer} {broken(named.tokenizer)}")
        return named.tokenizer if named.tokenizer.is_dir() else named.tokenizer.parent
    beside = [text_encoder.where] if text_encoder is not None and named.text_encoder is not None else []
    for path in beside:
        tensors = None if path.is_dir() or path.suffix in PICKLES else SafetensorFiles([path])
        if tensors is not None and tensors.holds("spiece_model"):
            return path
    for place in _places(named):
        for name in TOKENIZERS:
            if (place / name).is_dir():
                return place / name
    return None


def _image_processor(named: Named, image_encoder: Part | None) -> Path | None:
    """Return the folder of the processor beside an image encoder's folder; None: the published one."""
    if image_encoder is None or image_encoder.config is None:
        return None
    folder = image_encoder.config.parent.parent / "image_processor"
    if not folder.is_dir():
        raise CheckpointError(f"base: {folder} is missing; finish the download")
    return folder


def _check_all(wanted: dict[str, Part | None], named: Named, pickles: bool) -> None:
    missing = [role for role, part in wanted.items() if part is None]
    pickled = [part.where for part in wanted.values() if isinstance(part, Part) and part.pickled]
    if pickled and not pickles:
        names = ", ".join(path.name for path in pickled)
        folder = pickled[0].parent
        raise CheckpointError(
            f"base: {folder} is in Wan's original layout, whose {names} are pickles, which are not opened for"
            f" sampling: convert it once by `recapture models convert {folder} NEW_FOLDER`, or name in "
            "fill.base_parts a diffusers directory with the same parts"
        )
    if missing:
        words = " and ".join(WORDS[role] for role in missing)
        settings = " or ".join(f"fill.{role}" for role in missing)
        looked = " nor ".join(f"{place}/{missing[0]}" for place in _places(named)) or str(named.base)
        raise CheckpointError(
            f"base: {named.base} comes without {words} (no {looked}): name in fill.base_parts a diffusers "
            f"directory that has them, or the files themselves in {settings}"
        )


def _settings_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".model", ".txt") and not path.name.startswith("."):
            yield path
