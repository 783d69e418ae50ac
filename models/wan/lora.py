"""LoRA adapters of a Wan transformer, through peft, in the files that `load_lora_weights` reads.

An adapter's tensors go by the names of its file, without the prefix: 'blocks.0.attn1.to_q.lora_A.weight'.
Source: LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")  # the last two: image branch
FEED_FORWARD = ("ffn.net.0.proj", "ffn.net.2")
TARGETS = ATTENTION + FEED_FORWARD
FILE_NAME = "pytorch_lora_weights.safetensors"  # looked for by diffusers in a folder
_PREFIX = "transformer."
_CONFIG, _NOTES = "lora_adapter_metadata", "recapture"  # entries of the file's metadata
_SAMPLES = 1 << 16  # values of a tensor that enter the fingerprint


class AdapterError(ValueError):
    """An adapter that is damaged, of another base, or of another kind than LoRA."""


def add_lora(
    transformer: Any,
    *,
    rank: int,
    alpha: int | None = None,  # None: the rank, so that a scale of 1 adds B A
    targets: Sequence[str] = TARGETS,
    first_block: int = 0,
    seed: int = 0,
    name: str = "default",
) -> None:
    """Add an adapter that changes nothing yet (B = 0); A is uniform in +-1/sqrt(fan in), drawn from `seed`.

    It becomes the only active adapter and its weights, in the base's dtype, the only ones with gradients.
    first_block: blocks before it stay as they are, so no gradient goes through them, which saves time.
    Raises ValueError where no layer is called by one of `targets`, or an adapter has the name already.
    """
    if rank < 1:
        raise ValueError(f"lora: rank {rank}; use 1 or more")
    if name in getattr(transformer, "peft_config", {}):
        raise ValueError(f"lora: the base has an adapter {name!r} already; remove it first")
    blocks = len(transformer.blocks)
    if not 0 <= first_block < blocks:
        raise ValueError(f"lora: the base has {blocks} blocks, none of them is the {first_block}th, from 0")
    paths = [path for path, _ in transformer.named_modules()]
    found = [target for target in targets if any(_called(path, target) for path in paths)]
    if first_block:
        upper = tuple(f"blocks.{number}." for number in range(first_block, blocks))
        found = [p for p in paths if p.startswith(upper) and any(_called(p, target) for target in found)]
    if not found:
        raise ValueError(f"lora: no layer of the base is called {', '.join(targets)}")
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=found)
    transformer.add_adapter(config, adapter_name=name)
    transformer.set_adapters(name, 1.0)
    random = torch.Generator().manual_seed(seed)
    for key, parameter in sorted(train_only(transformer, name).items()):
        with torch.no_grad():
            if ".lora_A." in key:
                drawn = torch.rand(parameter.shape, generator=random) * 2 - 1
                parameter.copy_(drawn / math.sqrt(parameter.shape[1]))
            else:
                parameter.zero_()


def adapter_parameters(transformer: Any, name: str = "default") -> dict[str, nn.Parameter]:
    """Return the adapter's own parameters by name. Raises ValueError where there is no such adapter."""
    ending = f".{name}.weight"
    found = {
        key.removesuffix(ending) + ".weight": parameter
        for key, parameter in transformer.named_parameters()
        if key.endswith(ending) and (".lora_A." in key or ".lora_B." in key)
    }
    if not found:
        raise ValueError(f"lora: the base has no adapter {name!r}; add or load one first")
    return found


def train_only(transformer: Any, name: str = "default") -> dict[str, nn.Parameter]:
    """Leave gradients to one adapter's parameters, and return them."""
    parameters = adapter_parameters(transformer, name)
    transformer.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def adapter_weights(transformer: Any, name: str = "default") -> dict[str, Tensor]:
    """Return copies of the adapter's weights, float32 on the CPU."""
    return {
        key: p.detach().to("cpu", torch.float32, copy=True)
        for key, p in adapter_parameters(transformer, name).items()
    }


def set_weights(transformer: Any, weights: Mapping[str, Tensor], name: str = "default") -> None:
    """Put weights, such as an average, into an adapter. Raises AdapterError for other names or shapes."""
    parameters = adapter_parameters(transformer, name)
    wrong = sorted(set(parameters) ^ set(weights)) or [
        key for key, p in parameters.items() if p.shape != weights[key].shape
    ]
    if wrong:
        raise AdapterError(f"lora: tensor {wrong[0]!r} does not fit adapter {name!r} of the base")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(weights[key])


def set_scale(transformer: Any, scale: float, name: str = "default") -> None:
    """Make this the only active adapter, with its change times `scale` (0: the base itself)."""
    adapter_parameters(transformer, name)
    trained = {key: parameter.requires_grad for key, parameter in transformer.named_parameters()}
    transformer.set_adapters(name, float(scale))  # turns gradients on
    for key, parameter in transformer.named_parameters():
        parameter.requires_grad_(trained[key])


@contextmanager
def with_adapter(
    transformer: Any, scale: float, weights: Mapping[str, Tensor] | None = None, name: str = "default"
) -> Iterator[None]:
    """Use the adapter at this scale, and with these weights if given, within the context."""
    own = None if weights is None else adapter_weights(transformer, name)
    if weights is not None:
        set_weights(transformer, weights, name)
    set_scale(transformer, scale, name)
    try:
        yield
    finally:
        set_scale(transformer, 1.0, name)
        if own is not None:
            set_weights(transformer, own, name)


def remove_lora(transformer: Any) -> None:
    """Take all adapters out; what remains is the base, bit for bit."""
    transformer.unload_lora()


def fingerprint(transformer: Any) -> str:
    """Return a hash of the base's configuration and weights, whatever adapters it carries.

    Up to 65,536 evenly spaced values of each tensor enter, rounded to bfloat16, so that it does not depend
    on the dtype (float32 or bfloat16) or device that the base was loaded with.
    """
    settings = {key: value for key, value in dict(transformer.config).items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for key, value in sorted(transformer.state_dict().items()):
        if ".lora_" in key:
            continue
        digest.update(f"{key.replace('.base_layer', '')} {list(value.shape)}".encode())
        flat = value.detach().flatten()
        sample = flat[:: max(1, -(-flat.numel() // _SAMPLES))].to("cpu", torch.float32).to(torch.bfloat16)
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def pack_adapter(
    transformer: Any,
    *,
    weights: Mapping[str, Tensor] | None = None,  # None: the adapter's own
    name: str = "default",
    notes: Mapping[str, str] | None = None,
) -> bytes:
    """Return the adapter as a safetensors file that `WanPipeline.load_lora_weights` reads.

    Its metadata name the base's fingerprint, the notes, and rank and alpha in diffusers' form.
    """
    weights = adapter_weights(transformer, name) if weights is None else weights
    config = transformer.peft_config[name]
    kept = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(config.target_modules),
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
    }
    about = {"base": fingerprint(transformer), **(notes or {})}
    content = save(
        {_PREFIX + key: value.contiguous() for key, value in weights.items()},
        metadata={
            "format": "pt",
            _CONFIG: json.dumps({_PREFIX + key: value for key, value in kept.items()}, sort_keys=True),
            _NOTES: json.dumps(about, sort_keys=True),
        },
    )
    return _with_sorted_header(content)


def save_adapter(folder: str | Path, transformer: Any, **given: Any) -> Path:
    """Write `pack_adapter` into a folder under the name that diffusers looks for: whole, or not at all."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(pack_adapter(transformer, **given))
    return partial.replace(path)


def load_adapter(
    transformer: Any, path: str | Path, *, name: str = "default", scale: float = 1.0
) -> dict[str, str]:
    """Put a saved adapter into the base as the only active one, and return its notes.

    path: the file, or the folder of one. An adapter of the same name is replaced. LoRA of other projects are
    read too (diffusers' own conversion of original and musubi names), as far as their shapes fit.
    Raises AdapterError for a file that is not safetensors, was tuned on another base or does not fit it.
    """
    path = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    tensors, config, notes = _read(path)
    if "base" in notes and notes["base"] != fingerprint(transformer):
        raise AdapterError(
            f"lora: {path} was tuned on base {notes['base']}, this one is {fingerprint(transformer)};"
            " load that base, or tune again on this one"
        )
    weights = {key.removeprefix(_PREFIX): value for key, value in tensors.items()}
    _check_shapes(transformer, weights, path)
    if name in getattr(transformer, "peft_config", {}):
        transformer.delete_adapters(name)
    transformer.load_lora_adapter(tensors, prefix="transformer", adapter_name=name, metadata=config)
    set_weights(transformer, weights, name)
    transformer.requires_grad_(False)
    set_scale(transformer, scale, name)
    return notes


def _with_sorted_header(content: bytes) -> bytes:
    """Sort the header of a safetensors file: `save` orders metadata differently in every process."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _called(path: str, target: str) -> bool:
    return path == target or path.endswith("." + target)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None, dict[str, str]]:
    """Read tensors with diffusers' names, LoRA configuration (prefixed keys) and notes."""
    if not path.is_file():
        raise AdapterError(f"lora: {path} is missing")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(metadata[_CONFIG]) if _CONFIG in metadata else None
        notes = json.loads(metadata.get(_NOTES, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"lora: {path} cannot be read as safetensors ({error}); pickles are never opened"
        ) from None
    tensors = WanPipeline.lora_state_dict(tensors)
    for key, value in tensors.items():
        if not key.startswith(_PREFIX) or not key.endswith((".lora_A.weight", ".lora_B.weight")):
            raise AdapterError(f"lora: {path} holds {key!r}, which is no LoRA of a Wan transformer")
        if not torch.isfinite(value).all():
            raise AdapterError(f"lora: tensor {key!r} of {path} has values that are not finite")
    if not tensors:
        raise AdapterError(f"lora: {path} holds no tensors")
    return tensors, config, notes


def _check_shapes(transformer: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    layers = {key.removesuffix(".base_layer"): module for key, module in transformer.named_modules()}
    for key, value in weights.items():
        path_in_base, part = key.removesuffix(".weight").rsplit(".", 1)
        other = weights.get(f"{path_in_base}.{'lora_B' if part == 'lora_A' else 'lora_A'}.weight")
        layer = layers.get(path_in_base)
        layer = getattr(layer, "base_layer", layer)
        if other is None or value.ndim != 2 or other.ndim != 2 or not isinstance(layer, nn.Linear):
            raise AdapterError(f"lora: tensor {key!r} of {path} has no place in this base or no counterpart")
        if part == "lora_A":
            needed = [other.shape[1], layer.in_features]
        else:
            needed = [layer.out_features, other.shape[0]]
        if list(value.shape) != needed:
            raise AdapterError(
                f"lora: tensor {key!r} of {path} is {list(value.shape)}, this base needs {needed};"
                " it was tuned on another base"
            )
