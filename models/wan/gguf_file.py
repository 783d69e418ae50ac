"""Transformers in GGUF files: read by diffusers' own loader, weights stay quantised in memory."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recapture.models.wan.tensor_files import AGAIN, CheckpointError, broken

GGUF = ".gguf"


class GgufFile:
    """The tensors of a GGUF file. Raises CheckpointError if it is damaged, or without the package `gguf`."""

    def __init__(self, path: Path) -> None:
        self.where = path
        if importlib.util.find_spec("gguf") is None:
            raise CheckpointError(f"base: {path} needs the package gguf; install it: pip install gguf")
        from gguf import GGML_QUANT_SIZES, GGUFReader

        if not path.is_file():
            raise CheckpointError(f"base: {path} {broken(path)}")
        with path.open("rb") as file:
            head = file.read(24)
        if not head.startswith(b"GGUF"):
            raise CheckpointError(f"base: {path} {broken(path) or f'is no GGUF file; {AGAIN}'}")
        if len(head) < 24:
            raise CheckpointError(f"base: {path} is cut short ({len(head)} bytes); {AGAIN}")
        try:
            self._tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
        except (ValueError, IndexError, KeyError, OverflowError, OSError) as error:
            raise CheckpointError(f"base: {path} is cut short or damaged ({error}); {AGAIN}") from None
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(int(side) for side in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }
        sizes = {name: GGML_QUANT_SIZES[tensor.tensor_type] for name, tensor in self._tensors.items()}
        self.bits: Mapping[str, float] = {name: 8 * stored / block for name, (block, stored) in sizes.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor in float32, restored from its quantisation."""
        from gguf import dequantize

        tensor = self._tensors[key]
        return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).view(self.shapes[key])


def load_gguf(
    model_class: Any, config: Mapping[str, Any], path: Path, dtype: torch.dtype, device: str | torch.device
) -> Any:
    """Load a transformer whose linear layers restore their weights, to `dtype`, whenever they are used.

    Raises CheckpointError for quantisations that diffusers does not read.
    """
    from diffusers import GGUFQuantizationConfig

    with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
        described = {"_class_name": model_class.__name__, **config}
        (Path(folder) / "config.json").write_text(json.dumps(described))
        try:
            model = model_class.from_single_file(
                str(path),
                config=folder,
                quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
                torch_dtype=dtype,
                local_files_only=True,
            )
        except (ValueError, KeyError, RuntimeError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"base: {path} cannot be loaded ({reason})") from None
    return model.to(device).eval().requires_grad_(False)
