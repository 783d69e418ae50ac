"""The alpha of an adapter file, where PEFT's settings state it: beside the file, or in its metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recapture.models.wan.adapter_change import AdapterError, Part

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
CONFIG = "lora_adapter_metadata"  # diffusers' entry of the metadata

_REPEATS = 3  # in a pattern of names


@dataclass(frozen=True)
class Scaling:
    """Alpha as PEFT's settings give it: one value, and others for modules whose names match a pattern."""

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    root: bool = False  # rank-stabilised: alpha / sqrt(rank)

    def factor(self, names: tuple[str, str], rank: int, alpha: float | None) -> float:
        """Return the factor of B A of a module; alpha: the file's own tensor, which takes precedence."""
        if alpha is not None:
            return alpha / rank
        if self.alpha is None:
            return 1.0
        value = self.alpha
        for pattern, other in self.patterns.items():
            if any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                value = other
                break
        return value / (math.sqrt(rank) if self.root else rank)


def stated_scaling(path: Path, metadata: Mapping[str, str]) -> dict[Part, Scaling]:
    """Return alpha as adapter_config.json or the file's metadata state it, per part."""
    if path.name == PEFT_FILE and (beside := path.with_name(PEFT_CONFIG)).is_file():
        return {"": _from_settings(beside, _json(beside, beside.read_text(encoding="utf-8")))}
    if CONFIG not in metadata:
        return {}
    stated = _json(path, metadata[CONFIG])
    found: dict[Part, Scaling] = {}
    parts: tuple[tuple[str, Part], ...] = (("transformer.", ""), ("transformer_2.", "low"))
    for prefix, part in parts:
        own = {key.removeprefix(prefix): value for key, value in stated.items() if key.startswith(prefix)}
        if own:
            found[part] = _from_settings(path, own)
    return found or {"": _from_settings(path, stated)}


def _from_settings(path: Path, config: Mapping[str, Any]) -> Scaling:
    kind = config.get("peft_type") or "LORA"
    if config.get("use_dora") or kind != "LORA":
        named = "DoRA" if config.get("use_dora") else kind
        raise AdapterError(f"lora: {path} states a {named} adapter, which is not supported; use plain LoRA")
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    try:
        for pattern in patterns:
            _check_pattern(path, pattern)
        return Scaling(
            None if alpha is None else float(alpha),
            {str(key): float(value) for key, value in patterns.items()},
            bool(config.get("use_rslora")),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise AdapterError(f"lora: {path} states an alpha that is no number ({error})") from None


def _check_pattern(path: Path, pattern: str) -> None:
    """Refuse what is no pattern, and patterns that could take for ever: with repeated groups."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise AdapterError(
            f"lora: {path} states alpha for {pattern!r}, which is no pattern ({error})"
        ) from None
    if re.search(r"\)[*+{]", pattern) or len(re.findall(r"[*+{]", pattern)) > _REPEATS:
        raise AdapterError(f"lora: {path} states alpha for {pattern[:80]!r}, which repeats too much")


def _json(path: Path, text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise AdapterError(f"lora: the settings in {path} are no JSON ({error})") from None
    if not isinstance(content, dict):
        raise AdapterError(f"lora: the settings in {path} are no JSON object")
    return content
