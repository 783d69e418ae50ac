"""Adapters rewritten in the names that other programs read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from recapture.models.wan.adapter_alpha import CONFIG
from recapture.models.wan.adapter_apply import lora_config
from recapture.models.wan.adapter_change import AdapterError, Change, Part
from recapture.models.wan.adapter_file import NOTES, AdapterFile
from recapture.models.wan.adapter_names import MODULATION, original_name
from recapture.models.wan.adapter_save import with_sorted_header

Dialect = Literal["comfyui", "original", "diffusers"]
_PREFIXES: dict[Part, str] = {"": "transformer.", "high": "transformer.", "low": "transformer_2."}


def convert_part(file: AdapterFile, part: Part, to: Literal["comfyui", "original"]) -> bytes:
    """Return the changes of one transformer as a safetensors file with Wan's own names.

    comfyui: `diffusion_model.` names with lora_down, lora_up and alpha, as ComfyUI and VideoX-Fun read them.
    original: bare names with lora_A.default and lora_B.default and alpha folded into B, as DiffSynth writes
    them. Differences are `.diff`, `.diff_b` and `.diff_m` in both. Tensors keep their dtype; float8 becomes
    bfloat16.
    """
    tensors: dict[str, Tensor] = {}
    for change, values in file.read(file.of_part(part), upcast=False):
        if to == "comfyui":
            tensors |= _comfyui(change, values)
        else:
            tensors |= _original(change, values)
    return _packed(tensors, {}, file)


def convert_whole(files: Sequence[tuple[AdapterFile, Part, Part]]) -> bytes:
    """Return adapters as one file that `WanPipeline.load_lora_weights` reads.

    files: with the part to take of each, and the transformer of the result: '' or 'high' for the first, 'low'
    for the second. Raises AdapterError for differences, which that format has no place for.
    """
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for file, part, target in files:
        prefix, changes = _PREFIXES[target], file.of_part(part)
        for change, values in file.read(changes, upcast=False):
            if not change.low_rank:
                raise AdapterError(
                    f"lora: {change.keys[0]!r} of {file.path} is a difference, which diffusers' format has "
                    "no place for; convert to comfyui"
                )
            down, up = (_stored(value) for value in values)
            tensors |= {f"{prefix}{change.module}.lora_A.weight": down}
            tensors |= {f"{prefix}{change.module}.lora_B.weight": up}
        config = lora_config(changes)
        settings |= {
            f"{prefix}r": config.r,
            f"{prefix}lora_alpha": config.lora_alpha,
            f"{prefix}target_modules": sorted(change.module for change in changes),
            f"{prefix}rank_pattern": config.rank_pattern,
            f"{prefix}alpha_pattern": config.alpha_pattern,
        }
    return _packed(tensors, {CONFIG: settings}, files[0][0])


def _comfyui(change: Change, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    if not change.low_rank:
        return _difference("diffusion_model.", change, values[0])
    name = f"diffusion_model.{original_name(change.module)}"
    down, up = (_stored(value) for value in values)
    alpha = torch.tensor(change.factor * change.shapes[0][0], dtype=torch.float32)
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}


def _original(change: Change, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
    if not change.low_rank:
        return _difference("", change, values[0])
    name = original_name(change.module)
    down, up = (_stored(value) for value in values)
    if change.factor != 1.0:
        up = (up.float() * change.factor).to(up.dtype)
    return {f"{name}.lora_A.default.weight": down, f"{name}.lora_B.default.weight": up}


def _difference(prefix: str, change: Change, value: Tensor) -> dict[str, Tensor]:
    value = _stored(value)
    if change.factor != 1.0:
        value = (value.float() * change.factor).to(value.dtype)
    if change.parameter.endswith(MODULATION):
        return {f"{prefix}{change.module or 'head'}.diff_m": value}
    kind = "diff_b" if change.parameter.endswith(".bias") else "diff"
    return {f"{prefix}{original_name(change.module)}.{kind}": value}


def _stored(value: Tensor) -> Tensor:
    """Return a tensor in the dtype to write: its own, or bfloat16 for float8, which few programs read."""
    return (value.to(torch.bfloat16) if value.element_size() == 1 else value).contiguous()


def _packed(tensors: dict[str, Tensor], settings: dict[str, Any], file: AdapterFile) -> bytes:
    about = {NOTES: dict(file.notes)} if file.notes else {}
    entries = {key: json.dumps(value, sort_keys=True) for key, value in (settings | about).items()}
    return with_sorted_header(save(tensors, metadata={"format": "pt", **entries}))
