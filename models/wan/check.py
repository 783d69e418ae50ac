"""What a path holds, by headers alone: a base, a part of one or an adapter; what is missing, and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan

from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME, AdapterFile, open_adapter
from recapture.models.wan.checkpoint import compare, empty_model, renamed
from recapture.models.wan.gguf_file import GGUF
from recapture.models.wan.layouts import Part, component
from recapture.models.wan.load import Layout, identify_transformer, identify_vae, layout_of
from recapture.models.wan.load_encoders import check_shapes, empty_image_encoder, empty_text_encoder
from recapture.models.wan.sources import Named, Sources, find_sources
from recapture.models.wan.tensor_files import CheckpointError, SafetensorFiles, Tensors

KINDS: dict[Layout, str] = {
    "t2v": "text-to-video, which has no mask: for fill.method inverse",
    "inpaint": "inpainting (Fun-InP or I2V)",
    "control": "control (Fun-Control), whose control the render is",
    "vace": "VACE",
}
SIZES = {1536: "1.3B", 3072: "5B", 5120: "14B"}  # width of the published transformers
ADAPTERS = (FILE_NAME, "adapter_model.safetensors")


@dataclass(frozen=True)
class Weights:
    """The weights of one part."""

    role: str
    where: Path
    numbers: int
    stored: int  # bytes
    quantised: bool  # stays in memory as it is stored

    def line(self) -> str:
        """Return what is stored, and its memory in two precisions."""
        stored = f"{self.numbers / 1e6:,.1f} million numbers, {_size(self.stored)} in {self.where.name}"
        if self.quantised:
            return f"{self.role}: {stored}; in memory as stored"
        memory = f"{_size(2 * self.numbers)} in bfloat16, {_size(4 * self.numbers)} in float32"
        return f"{self.role}: {stored}; in memory {memory}"


@dataclass(frozen=True)
class Report:
    """What a path is. settings: what to set in order to use it; faults: why it cannot be used as it is."""

    what: str
    settings: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def check_model(path: Path) -> Report:
    """Say what a path is. No tensor is read, nothing raised for a bad one: its faults are in the report."""
    try:
        if (adapter := _adapter_file(path)) is not None:
            return _adapter(open_adapter(adapter), path)
        if path.is_file() and (found := _part_alone(Part((path,)))) is not None:
            return found
        if (path / "config.json").is_file() and (found := _component_alone(path)) is not None:
            return found
        return _base(path)
    except (CheckpointError, AdapterError) as error:
        return Report("nothing that can be used", faults=(str(error).removeprefix("base: "),))


def _base(path: Path) -> Report:
    if path.is_file():
        return _transformer_alone(path, Part((path,)))
    try:
        sources = find_sources(Named.of(path), pickles=True)
    except CheckpointError as error:
        if "comes without" not in str(error):
            raise
        return _transformer_alone(path, component(path))
    models = {"transformer": _transformer(sources.transformer)}
    if sources.transformer_2 is not None:
        models["transformer_2"] = _transformer(sources.transformer_2)
    config, translate = identify_vae(sources.vae, tensors := sources.vae.tensors())
    vae = empty_model(lambda: AutoencoderKLWan.from_config(config), sources.vae.where)
    compare(_shapes(vae), tensors, translate)
    layout = layout_of(models["transformer"], vae, sources.transformer.where)
    models["vae"] = vae
    for role, make in ENCODERS.items():
        part: Part | None = getattr(sources, role)
        if part is not None:
            models[role], names = make(part, stored := part.tensors())
            check_shapes(models[role], stored, names)
    return _whole_base(path, sources, models, layout)


def _whole_base(path: Path, sources: Sources, models: dict[str, Any], layout: Layout) -> Report:
    named: dict[str, Part] = {role: getattr(sources, role) for role in models}
    lines = [_weights(role, part, models[role]).line() for role, part in named.items()]
    pickles = [part.where.name for part in named.values() if part.pickled]
    faults = []
    if pickles:
        faults.append(
            f"{', '.join(pickles)} are pickles, which are not opened for sampling: "
            f"convert the folder once by `recapture models convert {path} NEW_FOLDER`"
        )
    how = "diffusers directory" if sources.diffusers else "Wan's original layout"
    what = f"a base, {_described(models['transformer'], layout, 'transformer_2' in models)}; {how}"
    return Report(what, {"fill.base": str(path)} | _sampling(layout, models), tuple(lines), tuple(faults))


def _transformer_alone(path: Path, part: Part) -> Report:
    model = _transformer(part)
    config = model.config
    layout: Layout = "vace" if hasattr(config, "vace_layers") else "inpaint"
    if layout == "inpaint" and config.in_channels == config.out_channels:
        layout = "t2v"
    elif layout == "inpaint" and config.in_channels >= 3 * config.out_channels:
        layout = "control"
    settings = {"fill.base": str(path)} | _sampling(layout, {"transformer": model})
    needs = "VAE, text encoder and tokenizer" + (", image encoder" if config.image_dim is not None else "")
    lines = (
        _weights("transformer", part, model).line(),
        f"it needs {needs} beside it: a diffusers directory in fill.base_parts, or files in fill.vae, "
        "fill.text_encoder, fill.tokenizer and fill.image_encoder",
    )
    return Report(f"a transformer, {_described(model, layout, False)}", settings, lines)


def _part_alone(part: Part) -> Report | None:
    """Return the report of a file that is a VAE or an encoder; None for anything else."""
    if part.files[0].suffix not in (".safetensors", ".pth"):
        return None
    tensors = part.tensors()
    keys = tensors.shapes.keys()
    role = next((role for role, marks in MARKS.items() if any(mark in keys for mark in marks)), None)
    return None if role is None else _report_of(role, part, tensors, part.files[0])


def _component_alone(folder: Path) -> Report | None:
    """Return the report of a component's folder that is a VAE or an encoder; None for anything else."""
    if not any(folder.glob("*.safetensors")):
        return None
    stem = "model" if any(folder.glob("model*.safetensors")) else "diffusion_pytorch_model"
    part = component(folder, stem)
    tensors = part.tensors()
    role = next((role for role, marks in MARKS.items() if any(m in tensors.shapes for m in marks)), None)
    return None if role is None else _report_of(role, part, tensors, folder)


def _report_of(role: str, part: Part, tensors: Tensors, path: Path) -> Report:
    if role == "vae":
        config, translate = identify_vae(part, tensors)
        model = empty_model(lambda: AutoencoderKLWan.from_config(config), part.where)
        compare(_shapes(model), tensors, translate)
    else:
        model, translate = ENCODERS[role](part, tensors)
        check_shapes(model, tensors, translate)
    lines = [_weights(role, part, model).line()]
    if role == "text_encoder":
        inside = isinstance(tensors, SafetensorFiles) and tensors.holds("spiece_model")
        lines.append(
            "its tokenizer is within" if inside else "its tokenizer: name its folder in fill.tokenizer"
        )
    faults = (f"{path.name} is a pickle: convert the folder of its base",) if part.pickled else ()
    return Report(NAMES[role], {f"fill.{role}": str(path)}, tuple(lines), faults)


def _adapter_file(path: Path) -> Path | None:
    if path.is_dir():
        return next((path / name for name in ADAPTERS if (path / name).is_file()), None)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    keys = SafetensorFiles([path]).shapes
    marks = ("lora_", "lokr_", "hada_", "dora_scale", ".diff", ".diff_b")
    return path if any(mark in key for key in keys for mark in marks) else None


def _adapter(file: AdapterFile, path: Path) -> Report:
    low_rank = [change for change in file.changes if change.low_rank]
    ranks = sorted({change.shapes[0][0] for change in low_rank})
    widths = {
        change.shapes[0][1] if change.low_rank else change.shapes[0][-1]
        for change in file.changes
        if ".attn1.to_q.weight" in change.parameter
    }
    base = ", ".join(SIZES.get(width, f"{width} wide") for width in sorted(widths)) or "unknown"
    kinds = sorted({_module(change.parameter) for change in file.changes})
    key = next(iter(file.changes)).keys[0]
    lines = [
        f"keys such as {key}",
        f"rank {', '.join(map(str, ranks)) or 'none'}; {len(low_rank)} low-rank changes, "
        f"{len(file.changes) - len(low_rank)} differences of weights, biases or norms",
        f"modules: {', '.join(kinds)}",
        f"for a transformer of size {base}"
        + ("; for both of Wan2.2" if {"high", "low"} <= file.parts else ""),
        *file.remarks,
    ]
    return Report("a LoRA adapter", {"fill.adapter": str(path)}, tuple(lines))


def _transformer(part: Part) -> Any:
    """Return the empty transformer of stored weights. Raises CheckpointError where they do not fit."""
    tensors = part.tensors()
    model_class, config, names = identify_transformer(part, tensors)
    model = empty_model(lambda: model_class.from_config(dict(config)), part.where)
    ignored = getattr(model_class, "_keys_to_ignore_on_load_unexpected", None) or []
    compare(_shapes(model), tensors, renamed(names), ignored)
    return model


def _described(model: Any, layout: Layout, two: bool) -> str:
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    size = SIZES.get(width, f"{width} wide")
    image = ", with image branch" if config.image_dim is not None else ""
    return f"{'two transformers' if two else 'one transformer'} of size {size}, {KINDS[layout]}{image}"


def _sampling(layout: Layout, models: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings in which the published models of a kind differ from the profile `wan`."""
    width = models["transformer"].config.num_attention_heads * models["transformer"].config.attention_head_dim
    settings = {"fill.method": "inverse"} if layout == "t2v" else {}
    if "transformer_2" in models:
        return settings | {"fill.shift": "5" if layout in ("inpaint", "control") else "12"}
    return settings | ({"fill.shift": "5"} if width > 1536 else {})


def _weights(role: str, part: Part, model: Any) -> Weights:
    stored = sum(path.stat().st_size for path in part.files)
    quantised = part.files[0].suffix == GGUF
    return Weights(role, part.where, sum(p.numel() for p in model.parameters()), stored, quantised)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _module(parameter: str) -> str:
    """Return the kind of a parameter's module: 'attn1.to_q' of 'blocks.3.attn1.to_q.weight'."""
    path = parameter.rpartition(".")[0].split(".")
    return ".".join(path[2:] if path[0].endswith("blocks") else path) or parameter


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


ENCODERS: dict[str, Callable[[Part, Tensors], tuple[Any, Any]]] = {
    "text_encoder": empty_text_encoder,
    "image_encoder": empty_image_encoder,
}
NAMES = {"vae": "a VAE", "text_encoder": "a UMT5 text encoder", "image_encoder": "a CLIP image encoder"}
MARKS = {  # tensors that only one part has
    "vae": ("encoder.conv1.weight", "encoder.conv_in.weight", "decoder.conv1.weight"),
    "text_encoder": ("shared.weight", "token_embedding.weight", "encoder.embed_tokens.weight"),
    "image_encoder": (
        *("visual.cls_embedding", "cls_embedding", "embeddings.class_embedding"),
        "vision_model.embeddings.class_embedding",
    ),
}
