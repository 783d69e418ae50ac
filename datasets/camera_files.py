"""Camera paths in files: a 4x4 npz or JSON of our own, on any fsspec URL.

npz: arrays world_to_camera [T,4,4] and perhaps intrinsics [T,3,3] or [3,3].
JSON: {"convention": "opencv", "world_to_camera": [T][4][4], "intrinsics": [T][3][3]}, the first one optional.
Both are OpenCV (x right, y down, z forward), intrinsics in pixels with centres at +0.5.
A further dialect is one more function in READERS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import torch
from torch import Tensor

CONVENTION = "opencv"


class CameraFileError(ValueError):
    """A camera file that cannot be used; the message names it, what is wrong and the way out."""


def read_cameras(uri: str) -> tuple[Tensor, Tensor | None]:
    """Read a camera path.

    Returns world_to_camera [T, 4, 4] and intrinsics [T, 3, 3] or None, both float64.
    Raises: CameraFileError for a missing or broken file, another convention, wrong shapes, non-finite values.
    """
    suffix = PurePosixPath(uri).suffix.lower()
    reader = READERS.get(suffix)
    if reader is None:
        raise CameraFileError(f"cameras {uri!r}: unknown suffix {suffix!r}; use {' or '.join(READERS)}")
    try:
        with fsspec.open(uri, "rb") as stream:
            content = stream.read()
    except FileNotFoundError as error:
        raise CameraFileError(f"cameras {uri!r}: there is no such file; check its path") from error
    try:
        fields = reader(content)
    except Exception as error:  # whatever a parser makes of a broken file
        raise CameraFileError(
            f"cameras {uri!r}: it cannot be read as {suffix[1:]} ({error}); write it again"
        ) from error
    return _checked(uri, fields)


def write_cameras(uri: str, world_to_camera: Tensor, intrinsics: Tensor | None = None) -> None:
    """Write a camera path ([T, 4, 4], [T, 3, 3]) as npz or JSON, by the suffix of uri."""
    fields = {"world_to_camera": np.asarray(world_to_camera, dtype=np.float64)}
    if intrinsics is not None:
        fields["intrinsics"] = np.asarray(intrinsics, dtype=np.float64)
    _checked(uri, fields)
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix == ".npz":
        buffer = BytesIO()
        np.savez(buffer, **fields)  # type: ignore[arg-type]
        content = buffer.getvalue()
    elif suffix == ".json":
        lists = {name: array.tolist() for name, array in fields.items()}
        content = json.dumps({"convention": CONVENTION} | lists).encode()
    else:
        raise CameraFileError(f"cameras {uri!r}: unknown suffix {suffix!r}; use {' or '.join(READERS)}")
    with fsspec.open(uri, "wb") as stream:
        stream.write(content)


def _read_npz(content: bytes) -> Mapping[str, Any]:
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_json(content: bytes) -> Mapping[str, Any]:
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return fields


READERS: dict[str, Callable[[bytes], Mapping[str, Any]]] = {".npz": _read_npz, ".json": _read_json}


def _checked(uri: str, fields: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    convention = str(fields.get("convention", CONVENTION))
    if convention != CONVENTION:
        raise CameraFileError(
            f"cameras {uri!r}: convention is {convention!r}; convert them to {CONVENTION!r}"
        )
    if "world_to_camera" not in fields:
        raise CameraFileError(
            f"cameras {uri!r}: it has {', '.join(sorted(fields)) or 'nothing'}, no world_to_camera [T,4,4]"
        )
    world_to_camera = _array(uri, "world_to_camera", fields["world_to_camera"], 4)
    if not np.allclose(world_to_camera[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise CameraFileError(
            f"cameras {uri!r}: world_to_camera has a last row other than 0 0 0 1; is it transposed?"
        )
    if fields.get("intrinsics") is None:
        return torch.from_numpy(world_to_camera), None
    intrinsics = np.asarray(fields["intrinsics"])
    if intrinsics.shape == (3, 3):
        intrinsics = np.broadcast_to(intrinsics, (len(world_to_camera), 3, 3)).copy()
    intrinsics = _array(uri, "intrinsics", intrinsics, 3)
    if len(intrinsics) != len(world_to_camera):
        raise CameraFileError(
            f"cameras {uri!r}: {len(intrinsics)} intrinsics for {len(world_to_camera)} world_to_camera; "
            "give one a frame, or a single 3x3"
        )
    return torch.from_numpy(world_to_camera), torch.from_numpy(intrinsics)


def _array(uri: str, name: str, values: Any, side: int) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CameraFileError(
            f"cameras {uri!r}: {name} is not a regular array of numbers ({error})"
        ) from error
    if array.ndim != 3 or array.shape[1:] != (side, side) or not len(array):
        raise CameraFileError(f"cameras {uri!r}: {name} is {list(array.shape)}, it must be [T,{side},{side}]")
    broken = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
    if len(broken):
        raise CameraFileError(f"cameras {uri!r}: {name} is not finite in frames {broken[:10].tolist()}")
    return array
