"""The tensors of weight files, read one at a time: damage in one sentence, scaled 8-bit weights restored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PICKLES = (".bin", ".pth", ".pt", ".ckpt")
AGAIN = "download it again"
FP8 = ("F8_E4M3", "F8_E5M2")
MARKERS = ("scaled_fp8",)  # of a whole file
SCALES = {".scale_weight": ".weight", ".weight_scale": ".weight"}  # the older and the newer name in ComfyUI
UNUSED = (".scale_input", ".input_scale", ".comfy_quant")  # for kernels that compute in 8 bit
OTHER_SCALES = (".weight_scale_inv", ".weight_scale_2", ".absmax", ".quant_map")
SENTENCEPIECE = "spiece_model"  # a tokenizer within a text encoder's file


class CheckpointError(ValueError):
    """A checkpoint that is damaged, incomplete or of another kind than its configuration says."""


class Tensors(Protocol):
    """The weights of a model by key, wherever they are stored."""

    where: Path
    shapes: Mapping[str, tuple[int, ...]]
    bits: Mapping[str, float]  # per number, as stored

    def read(self, key: str) -> Tensor:
        """Return one tensor of floating-point numbers. Raises CheckpointError if it cannot be read."""
        ...


def tensor_files(files: Sequence[Path]) -> Tensors:
    """Open weight files: safetensors, or one .pth of tensors alone."""
    if len(files) == 1 and files[0].suffix in PICKLES:
        return TorchFile(files[0])
    return SafetensorFiles(files)


class SafetensorFiles:
    """The weights of safetensors files. Only headers are read before `read`.

    Float8 weights with a scale beside them, as ComfyUI writes them (`scale_weight` or `weight_scale`, of one
    number or one per row), come back multiplied by it in float32. Raises CheckpointError for a file that
    cannot be opened, and for quantised weights of another kind.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.where = files[0] if len(files) == 1 else files[0].parent
        self._file: dict[str, Path] = {}
        self._opened: dict[Path, Any] = {}
        self._dtype: dict[str, str] = {}
        found: dict[str, tuple[int, ...]] = {}
        for path in files:
            file = self._opened[path] = opened(path)
            for key in file.keys():  # noqa: SIM118
                part = file.get_slice(key)
                found[key], self._dtype[key] = tuple(part.get_shape()), part.get_dtype()
                self._file[key] = path
        self._scale = {_of_scale(key): key for key in found if _of_scale(key)}
        self.shapes: Mapping[str, tuple[int, ...]] = {k: s for k, s in found.items() if not _beside(k)}
        self.bits: Mapping[str, float] = {key: _bits(self._dtype[key]) for key in self.shapes}
        self._check_scales(any(key.rpartition(".")[2] in MARKERS for key in found), found)

    def read(self, key: str) -> Tensor:
        """Return one tensor; a scaled one in float32."""
        tensor = self.raw(key)
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"base: {self._file[key]}: tensor {key!r} holds {self._dtype[key]} numbers, which "
                "are not read; use the file in bf16, fp16, fp8 or GGUF"
            )
        if key not in self._scale:
            return tensor
        scale = self.raw(self._scale[key]).float()
        return tensor.float() * (scale if scale.numel() == 1 else scale.reshape(-1, *[1] * (tensor.ndim - 1)))

    def raw(self, key: str) -> Tensor:
        """Return one tensor as it is stored, also one that is no weight."""
        try:
            tensor: Tensor = self._opened[self._file[key]].get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"base: tensor {key!r} of {self._file[key]} cannot be read ({error})"
            ) from None
        return tensor

    def holds(self, key: str) -> bool:
        """Return whether the files have a tensor of this name, weight or not."""
        return key in self._file

    def _check_scales(self, scaled: bool, found: Mapping[str, tuple[int, ...]]) -> None:
        for key in found:
            if key.endswith(OTHER_SCALES):
                raise CheckpointError(
                    f"base: {self.where}: tensor {key!r} belongs to a quantisation that is not read; use the"
                    " file in bf16, fp16, fp8 or GGUF"
                )
        for key, scale in self._scale.items():
            shape, count = found.get(key), _count(found[scale])
            if shape is None or (count != 1 and (not shape or count != shape[0])):
                raise CheckpointError(
                    f"base: {self.where}: scale {scale!r} {list(found[scale])} does not fit tensor {key!r} "
                    f"{'which is missing' if shape is None else list(shape)}; {AGAIN}"
                )
        for key in self.shapes:
            if scaled and self._dtype[key] in FP8 and key.endswith(".weight") and key not in self._scale:
                raise CheckpointError(
                    f"base: {self.where}: tensor {key!r} is scaled float8 without its scale; {AGAIN}"
                )


class TorchFile:
    """The weights of a .pth file of tensors alone; the unpickler makes nothing else."""

    def __init__(self, path: Path) -> None:
        self.where = path
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # of zip, pickle and torch alike
            reason = broken(path, pickle=True) or f"holds more than tensors, or is damaged ({_line(error)})"
            raise CheckpointError(f"base: {path} {reason}") from None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise CheckpointError(f"base: {path} is no dictionary of tensors")
        self._state: dict[str, Tensor] = state
        self.shapes: Mapping[str, tuple[int, ...]] = {key: tuple(value.shape) for key, value in state.items()}
        self.bits: Mapping[str, float] = {key: 8 * value.element_size() for key, value in state.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor."""
        return self._state[key]


def opened(path: Path) -> Any:
    """Open a safetensors file. Raises CheckpointError that says in one sentence what else it is."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        reason = broken(path) or f"cannot be opened as safetensors ({_line(error)}); {AGAIN}"
        raise CheckpointError(f"base: {path} {reason}") from None


def broken(path: Path, *, pickle: bool = False) -> str:
    """Return what is wrong with a file of weights or JSON that cannot be read; '' if not known."""
    if path.is_symlink() and not path.exists():
        return f"is a link to {path.readlink()}, which does not exist; finish the download"
    if not path.exists():
        return "is missing"
    if path.is_dir():
        return "is a folder, not a file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not size:
        return f"is empty; {AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the file itself; run `git lfs pull` in its folder"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            f"is a web page that was saved in place of the file; {AGAIN}, logged in if the model asks for it"
        )
    if path.suffix == ".incomplete":
        return "is an unfinished download; finish it"
    if pickle or path.suffix == ".json":
        return ""
    if head.startswith(b"GGUF"):
        return "is a GGUF file; give it the ending .gguf"
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "is a pickle, which is never opened: convert it to safetensors"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or length > 1 << 28:
        return f"is no safetensors file; {AGAIN}"
    expected = _expected_size(path, length)
    if expected is None or size < expected:
        known = "" if expected is None else f" of {expected:,}"
        return f"is cut short ({size:,}{known} bytes); {AGAIN}"
    return ""


def _expected_size(path: Path, length: int) -> int | None:
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(length)
    try:
        described = json.loads(header)
        ends = [one["data_offsets"][1] for key, one in described.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return 8 + length + max(ends, default=0)


def _of_scale(key: str) -> str:
    for ending, weight in SCALES.items():
        if key.endswith(ending):
            return key.removesuffix(ending) + weight
    return ""


def _beside(key: str) -> bool:
    named = key.rpartition(".")[2]
    return bool(_of_scale(key)) or key.endswith(UNUSED) or named in MARKERS or key == SENTENCEPIECE


def _bits(dtype: str) -> int:
    digits = "".join(c for c in dtype.partition("_")[0] if c.isdigit())
    return int(digits) if digits else 8


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
