"""Read, write and convert camera paths in every public dialect, on any fsspec URL.

All are converted on reading: OpenCV axes, world to camera, pixel centres at +0.5. docs/inputs.md lists them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath
from typing import get_args

import fsspec
import numpy as np
import torch
from torch import Tensor

from recapture.conf.trajectory import CameraFormat
from recapture.datasets.cameras.angles import ANGLE_FORMATS, read_angles, write_angles
from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    checked,
    intrinsics_for,
    read_bytes,
)
from recapture.datasets.cameras.colmap import model_files, read_colmap, write_colmap
from recapture.datasets.cameras.dycheck import read_dycheck
from recapture.datasets.cameras.kubric import read_kubric
from recapture.datasets.cameras.multicamvideo import read_multicamvideo, write_multicamvideo
from recapture.datasets.cameras.nerfstudio import read_nerfstudio, write_nerfstudio
from recapture.datasets.cameras.opencv import read_opencv, write_opencv
from recapture.datasets.cameras.peers import (
    read_neoverse,
    read_vista4d,
    write_neoverse,
    write_vista4d,
)
from recapture.datasets.cameras.realestate10k import read_realestate10k, write_realestate10k
from recapture.datasets.cameras.record3d import read_record3d
from recapture.datasets.cameras.tum import read_tum
from recapture.datasets.cameras.vipe import read_vipe, write_vipe
from recapture.datasets.store.keys import file_hash

WRITABLE = (
    *("opencv", "realestate10k", "multicamvideo", "colmap", "colmap_binary", "nerfstudio"),
    *("vista4d", "neoverse", "vipe"),
)
_PLAIN: dict[str, Callable[[str], Cameras]] = {  # dialects of one camera per file or folder
    "opencv": read_opencv,
    "realestate10k": read_realestate10k,
    "colmap": read_colmap,
    "nerfstudio": read_nerfstudio,
    "kubric": read_kubric,
    "tum": read_tum,
    "record3d": read_record3d,
    "vipe": read_vipe,
    "vista4d": read_vista4d,
    "neoverse": read_neoverse,
}


def load_cameras(uri: str, dialect: str = "auto", camera: str | None = None) -> Cameras:
    """Read a camera path with the intrinsics and picture size that its file states.

    camera: which one, in dialects whose files hold several. auto recognises .npz, .json by its keys, and
    folders; the dialect of a text file is never guessed. Raises: CameraFileError.
    """
    if dialect == "auto":
        dialect = recognised_format(uri)
    if camera is not None and dialect not in ("multicamvideo", "dycheck"):
        raise CameraFileError(f"cameras {uri!r}: files of {dialect} hold one camera; leave out {camera!r}")
    if dialect in _PLAIN:
        return _PLAIN[dialect](uri)
    if dialect == "multicamvideo":
        return read_multicamvideo(uri, camera)
    if dialect == "dycheck":
        return read_dycheck(uri, camera)
    raise CameraFileError(
        f"cameras {uri!r}: format {dialect!r} is unknown; use {', '.join(get_args(CameraFormat))}"
    )


def read_cameras(
    uri: str,
    dialect: str = "auto",
    *,
    camera: str | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Read a camera path for pictures of a size (width, height).

    Returns world_to_camera [T, 4, 4] and intrinsics [T, 3, 3] in those pictures' pixels (or None), both
    float64. Without a size, intrinsics are in the pixels of the file's own pictures.
    Raises: CameraFileError, also for a distorted lens, which these cannot express.
    """
    cameras = load_cameras(uri, dialect, camera)
    if cameras.distortion is not None and np.any(cameras.distortion):
        raise CameraFileError(
            f"cameras {uri!r}: the lens is distorted, and the pictures beside it are taken as they are; "
            "undistort them, or give the folder as dataset.kind colmap or nerfstudio, which correct lenses"
        )
    intrinsics = cameras.intrinsics
    if size is not None:
        intrinsics = intrinsics_for(cameras, *size)
    elif cameras.size == (1, 1):
        raise CameraFileError(f"cameras {uri!r}: its intrinsics are normalised; give a size")
    pose = torch.from_numpy(cameras.world_to_camera)
    return pose, None if intrinsics is None else torch.from_numpy(intrinsics)


def write_cameras(
    uri: str,
    world_to_camera: Tensor,  # [T, 4, 4]
    intrinsics: Tensor | None = None,  # [T, 3, 3]
    *,
    size: tuple[int, int] | None = None,
    dialect: str = "opencv",
    camera: str | None = None,
) -> None:
    """Write a camera path; size: (width, height) of the pictures that the intrinsics are for.

    Raises: CameraFileError for invalid cameras, or if the dialect needs something that is not given.
    """
    pose = np.asarray(world_to_camera, dtype=np.float64)
    lens = None if intrinsics is None else np.asarray(intrinsics, dtype=np.float64)
    store_cameras(uri, Cameras(pose, lens, size), dialect, camera)


def store_cameras(uri: str, cameras: Cameras, dialect: str, camera: str | None = None) -> None:
    """Write cameras in a dialect of WRITABLE; raises CameraFileError."""
    checked(cameras, uri)
    if dialect == "opencv":
        write_opencv(uri, cameras)
    elif dialect == "realestate10k":
        write_realestate10k(uri, cameras)
    elif dialect == "multicamvideo":
        write_multicamvideo(uri, cameras, camera)
    elif dialect in ("colmap", "colmap_binary"):
        write_colmap(uri, cameras, binary=dialect == "colmap_binary")
    elif dialect == "nerfstudio":
        write_nerfstudio(uri, cameras)
    elif dialect == "vista4d":
        write_vista4d(uri, cameras)
    elif dialect == "neoverse":
        write_neoverse(uri, cameras)
    elif dialect == "vipe":
        write_vipe(uri, cameras)
    else:
        raise CameraFileError(f"cameras {uri!r}: {dialect!r} cannot be written; use {', '.join(WRITABLE)}")


def convert_cameras(
    source: str,
    target: str,
    *,
    source_format: str = "auto",
    target_format: str = "opencv",
    camera: str | None = None,
    size: tuple[int, int] | None = None,
) -> None:
    """Convert a trajectory file into another dialect.

    size: (width, height) of the pictures, if the source does not state it and the target needs it. The
    three-line dialects convert only to each other: they turn about a pivot whose depth no file holds.
    Raises: CameraFileError.
    """
    places = ((source, source_format, get_args(CameraFormat)), (target, target_format, WRITABLE))
    for uri, dialect, formats in places:
        known = (*formats, *ANGLE_FORMATS)
        if dialect not in known:
            raise CameraFileError(
                f"cameras {uri!r}: format {dialect!r} is unknown here; use {', '.join(known)}"
            )
    if source_format in ANGLE_FORMATS and target_format in ANGLE_FORMATS:
        write_angles(target, read_angles(source, source_format), target_format)
        return
    if source_format in ANGLE_FORMATS or target_format in ANGLE_FORMATS:
        raise CameraFileError(
            f"trajectory {source!r}: {source_format} cannot become {target_format}, as angles turn about a "
            "pivot whose depth only a clip knows; preview the trajectory on a clip and take its cameras.npz"
        )
    cameras = load_cameras(source, source_format, camera)
    if size is not None:
        cameras = replace(cameras, intrinsics=intrinsics_for(cameras, *size), size=size)
    store_cameras(target, cameras, target_format)


def camera_file_hash(uri: str) -> str:
    """Return the hash of the bytes that a trajectory's cameras depend on, for a file or a folder."""
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.isdir(path):
        return file_hash(uri)
    model = model_files(uri)
    files = list(model) if model else [str(fs.unstrip_protocol(file)) for file in sorted(fs.find(path))]
    return hashlib.sha256(" ".join(file_hash(file) for file in files).encode()).hexdigest()


def recognised_format(uri: str) -> str:
    """Return the dialect that the suffix and keys, or a folder's files, identify; raises CameraFileError."""
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix == ".npz":
        shapes = array_shapes(uri)  # of others with cam_c2w, `opencv` tells a lens by its own names
        four = len(shapes.get("intrinsics", ())) == 2 and shapes["intrinsics"][1] == 4
        return "vista4d" if "cam_c2w" in shapes and four else "opencv"
    if suffix == ".json":
        return _recognised_json(uri)
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isdir(path):
        return "colmap" if model_files(uri) else "dycheck"
    raise CameraFileError(
        f"cameras {uri!r}: suffix {suffix!r} does not identify the dialect; name the format: "
        f"{', '.join((*get_args(CameraFormat)[1:], *ANGLE_FORMATS))}"
    )


def array_shapes(uri: str) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of an npz file's arrays; none if it cannot be read, which its reader reports."""
    try:
        with zipfile.ZipFile(BytesIO(read_bytes(uri))) as archive:
            return {name.removesuffix(".npy"): _shape(archive, name) for name in archive.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape: tuple[int, ...] = read(file)[0]
        return shape


def _recognised_json(uri: str) -> str:
    try:
        fields = json.loads(read_bytes(uri))
    except ValueError:
        return "opencv"
    if isinstance(fields, dict):
        for key, dialect in (
            ("frames", "nerfstudio"),
            ("frame0", "multicamvideo"),
            ("camera", "kubric"),
            ("poses", "record3d"),
            ("keyframes", "neoverse"),
            ("trajectory", "neoverse"),
        ):
            if key in fields:
                return dialect
    return "opencv"
