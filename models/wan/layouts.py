"""The transformers of a base in every published layout, and the weight files of one part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recapture.models.wan.checkpoint import WEIGHTS, weight_files
from recapture.models.wan.gguf_file import GGUF, GgufFile
from recapture.models.wan.tensor_files import PICKLES, CheckpointError, Tensors, broken, tensor_files

NOISE_LEVELS = ("high_noise_model", "low_noise_model")  # of Wan2.2, the first for the first steps


@dataclass(frozen=True)
class Part:
    """The weight files of one part, and its config.json if there is one."""

    files: tuple[Path, ...]
    config: Path | None = None

    @property
    def where(self) -> Path:
        """Return the file, or the folder of several."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    @property
    def pickled(self) -> bool:
        """Return whether the weights are a pickle."""
        return self.files[0].suffix in PICKLES

    def tensors(self) -> Tensors:
        """Open the weights. Raises CheckpointError for damaged files."""
        if self.files[0].suffix == GGUF:
            return GgufFile(self.files[0])
        return tensor_files(self.files)


def component(folder: Path, stem: str = WEIGHTS) -> Part:
    """Return a component's folder with its config.json. Raises CheckpointError for missing files."""
    config = folder / "config.json"
    return Part(
        tuple(weight_files(folder, stem)), config if config.is_file() or config.is_symlink() else None
    )


def find_transformers(base: Path) -> tuple[Part, Part | None]:
    """Return the transformer of a base, and the low-noise one of Wan2.2 where its folder has one.

    Raises CheckpointError for a path without one, naming what it is instead.
    """
    if base.suffix in (GGUF, ".safetensors") and not base.is_dir():
        if reason := broken(base) if base.suffix != GGUF or not base.is_file() else "":
            raise CheckpointError(f"base: {base} {reason}")
        return Part((base,)), None
    if not base.is_dir():
        reason = broken(base) if base.is_symlink() or base.is_file() else ""
        raise CheckpointError(
            f"base: {base} {reason or 'is not a directory, nor a .safetensors or .gguf file'}"
        )
    if is_pipeline(base):
        _need_config(base / "transformer")
        second = base / "transformer_2"
        return component(base / "transformer"), component(second) if second.is_dir() else None
    high, low = (base / name for name in NOISE_LEVELS)
    if high.is_dir() or low.is_dir():
        for folder in (high, low):
            if not folder.is_dir():
                raise CheckpointError(f"base: {base} has no {folder.name}; finish the download")
        return component(high), component(low)
    _refuse_cache(base)
    if not any(base.glob(f"{WEIGHTS}*")):
        _refuse_folder(base)
    return component(base), None


def _need_config(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"base: {folder / 'config.json'} is missing; finish the download")


def is_pipeline(base: Path) -> bool:
    """Return whether a folder is in diffusers layout."""
    return (base / "model_index.json").is_file() or (base / "transformer").is_dir()


def _refuse_cache(base: Path) -> None:
    snapshots = sorted((base / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
    if snapshots:
        raise CheckpointError(
            f"base: {base} is a folder of the Hugging Face cache; name {snapshots[-1]} instead"
        )


def _refuse_folder(base: Path) -> None:
    if next(base.rglob("*.incomplete"), None):
        raise CheckpointError(f"base: {base} holds no transformer: its download is unfinished; finish it")
    loose = sorted(path.name for path in base.iterdir() if path.suffix in (".safetensors", GGUF, *PICKLES))
    hint = f"; it holds {', '.join(loose[:3])}: name a file instead of its folder" if loose else ""
    raise CheckpointError(
        f"base: {base} holds no Wan transformer: no transformer/, no {WEIGHTS}*.safetensors and no "
        f"{NOISE_LEVELS[0]}/{hint}"
    )
