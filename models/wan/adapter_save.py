"""Saving an adapter that was tuned here, as diffusers reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from recapture.models.wan.adapter_alpha import CONFIG
from recapture.models.wan.adapter_file import FILE_NAME, NOTES
from recapture.models.wan.fingerprint import fingerprint
from recapture.models.wan.lora import adapter_weights

_PREFIX = "transformer."


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
        "target_modules": _modules(config.target_modules, weights),
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
    }
    about = {"base": fingerprint(transformer), **(notes or {})}
    content = save(
        {_PREFIX + key: value.contiguous() for key, value in weights.items()},
        metadata={
            "format": "pt",
            CONFIG: json.dumps({_PREFIX + key: value for key, value in kept.items()}, sort_keys=True),
            NOTES: json.dumps(about, sort_keys=True),
        },
    )
    return with_sorted_header(content)


def save_adapter(folder: str | Path, transformer: Any, **given: Any) -> Path:
    """Write `pack_adapter` into a folder under the name that diffusers looks for: whole, or not at all."""
    path = Path(folder) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(pack_adapter(transformer, **given))
    return partial.replace(path)


def _modules(targets: Any, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the adapted layers, which peft may hold as one expression."""
    return sorted({key.split(".lora_")[0] for key in weights} if isinstance(targets, str) else targets)


def with_sorted_header(content: bytes) -> bytes:
    """Sort the header of a safetensors file: `save` orders metadata differently in every process."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]
