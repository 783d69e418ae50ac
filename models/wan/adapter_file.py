"""Adapter files of any maker: which parameters of a Wan transformer a file changes, and by how much.

A change is `factor * B A` of a weight (LoRA), or `factor * difference` of a weight, bias, norm or modulation.
Makers differ in names, in where they keep alpha, and in how they mark the two transformers of Wan2.2; all is
settled here. Source: LoRA, arXiv 2106.09685; docs/adapters.md lists the makers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recapture.models.wan.adapter_alpha import PEFT_CONFIG, PEFT_FILE, stated_scaling
from recapture.models.wan.adapter_change import AdapterError, Change, Part
from recapture.models.wan.adapter_dialects import KeyParser

FILE_NAME = "pytorch_lora_weights.safetensors"  # looked for by diffusers in a folder
NOTES = "recapture"  # entry of the metadata of files that this project wrote


@dataclass(frozen=True)
class AdapterFile:
    """What a file changes; tensors are read when they are asked for."""

    path: Path
    changes: tuple[Change, ...]
    tensors: int  # of the file, including alphas
    notes: Mapping[str, str] = field(default_factory=dict)  # of a file that `pack_adapter` wrote
    remarks: tuple[str, ...] = ()  # what a reader of the report should know

    @property
    def parts(self) -> frozenset[Part]:
        """Return the transformers that the file tells apart: {''}, {'high', 'low'} or one of these.

        Where only the second one is marked, as diffusers marks it, the rest is for the first.
        """
        found = {change.part for change in self.changes}
        return frozenset({part or "high" for part in found} if "low" in found else found)

    def of_part(self, part: Part) -> list[Change]:
        """Return the changes of one part."""
        plain = "high" if "low" in {change.part for change in self.changes} else ""
        return [change for change in self.changes if (change.part or plain) == part]

    def read(
        self, changes: Iterable[Change], *, upcast: bool = True
    ) -> Iterator[tuple[Change, tuple[Tensor, ...]]]:
        """Yield changes with their tensors, on the CPU. Raises AdapterError if one is not finite.

        upcast: to float32; else as they are stored.
        """
        with _opened(self.path) as file:
            for change in changes:
                yield change, tuple(self._tensor(file, key, upcast) for key in change.keys)

    def _tensor(self, file: Any, key: str, upcast: bool) -> Tensor:
        try:
            stored: Tensor = file.get_tensor(key)
            value = stored.to(torch.float32)  # of float8, too
        except (SafetensorError, OSError, RuntimeError) as error:
            raise AdapterError(f"lora: tensor {key!r} of {self.path} cannot be read ({error})") from None
        if not torch.isfinite(value).all():
            raise AdapterError(f"lora: tensor {key!r} of {self.path} has values that are not finite")
        return value if upcast else stored


def open_adapter(path: str | Path) -> AdapterFile:
    """Read the header, alphas and settings of an adapter file, of any maker.

    path: the file; beside PEFT's `adapter_model.safetensors` its `adapter_config.json` is read.
    Raises AdapterError for a file that is not safetensors, no LoRA, of an unsupported kind, or whose keys are
    not those of a Wan transformer: named with the key, and the way out where there is one.
    """
    path = Path(path)
    if not path.is_file():
        raise AdapterError(f"lora: {path} is missing")
    with _opened(path) as file:
        try:
            metadata = file.metadata() or {}
            keys = list(file.keys())
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
            notes = json.loads(metadata.get(NOTES, "{}"))
            if not isinstance(notes, dict):
                raise ValueError(f"entry {NOTES!r} of its metadata is no JSON object")
            alphas = {
                key: float(file.get_tensor(key).float().item()) for key in keys if key.endswith(".alpha")
            }
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise AdapterError(f"lora: {path} cannot be read as safetensors ({error})") from None
    if not keys:
        raise AdapterError(f"lora: {path} holds no tensors")
    parser = KeyParser(path, shapes, alphas, stated_scaling(path, metadata))
    changes = tuple(parser.changes())
    remarks: tuple[str, ...] = ()
    if path.name == PEFT_FILE and not path.with_name(PEFT_CONFIG).is_file() and not alphas:
        remarks = (f"{path} has no {PEFT_CONFIG} beside it, so alpha is taken to be the rank",)
    return AdapterFile(path, changes, len(keys), dict(notes), remarks)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"lora: {path} cannot be read as safetensors ({error}); pickles are never opened"
        ) from None
