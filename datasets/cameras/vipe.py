"""Read and write the results of ViPE: pose/NAME.npz, and intrinsics/NAME.npz beside its folder.

data of a pose file: camera to world [N,4,4], OpenCV axes; data of intrinsics: fx fy cx cy [N,4] in pixels of
the video; inds: the frame of each row. Frames between those that a file has are not made up.
"""

from __future__ import annotations

from io import BytesIO

import fsspec
import numpy as np

from recapture.datasets.cameras.cameras import (
    CameraFileError,
    Cameras,
    inverse,
    need_lens,
    need_pinhole,
    parsed,
    pinhole,
    read_bytes,
    write_bytes,
)
from recapture.datasets.media.npz_rows import read_small_npz

_LARGEST = 2**28  # bytes when unpacked


def read_vipe(uri: str) -> Cameras:
    """Read pose/NAME.npz with its intrinsics; without them if there are none. Raises CameraFileError."""
    beside, lenses = _beside(uri), None
    if beside is not None:
        fs, path = fsspec.core.url_to_fs(beside)
        lenses = read_bytes(beside) if fs.exists(path) else None
    return parsed(uri, "ViPE's results", lambda content: _parse(content, lenses))


def write_vipe(uri: str, cameras: Cameras) -> None:
    """Write pose/NAME.npz, and intrinsics/NAME.npz beside its folder. Raises CameraFileError.

    Frames are numbered as the cameras' names say, where they count frames, else from 0.
    """
    need_pinhole(cameras, uri, "vipe")
    lens, beside = need_lens(cameras, uri, "vipe"), _beside(uri)
    if beside is None or not uri.endswith(".npz"):
        raise CameraFileError(
            f"cameras {uri!r}: ViPE keeps poses in pose/NAME.npz and lenses in intrinsics/NAME.npz; name a "
            "target pose/NAME.npz"
        )
    names = cameras.names or ()
    counted = len(names) == len(cameras) and all(name.isdecimal() for name in names)
    frames = np.array([int(name) for name in names]) if counted else np.arange(len(cameras))
    if (np.diff(frames) != 1).any():
        frames = np.arange(len(cameras))
    rows = np.stack([lens[:, 0, 0], lens[:, 1, 1], lens[:, 0, 2], lens[:, 1, 2]], axis=1)
    for place, data in ((beside, rows), (uri, inverse(cameras.world_to_camera))):
        buffer = BytesIO()
        np.savez(buffer, data=data, inds=frames)
        write_bytes(place, buffer.getvalue())


def _beside(uri: str) -> str | None:
    """Return the file of the lenses that belongs to a file of poses; None if that is in no folder `pose`."""
    folder, _, name = uri.rpartition("/")
    root, _, last = folder.rpartition("/")
    if last != "pose":
        return None
    return f"{root}/intrinsics/{name}" if "/" in folder else f"intrinsics/{name}"


def _parse(content: bytes, lenses: bytes | None) -> Cameras:
    poses, frames = _rows(content, (4, 4), "pose")
    names = tuple(str(frame) for frame in frames)
    if (np.diff(frames) != 1).any():
        raise ValueError(f"inds skips frames after {int(frames[:-1][np.diff(frames) != 1][0])}; give all")
    if lenses is None:
        return Cameras(inverse(poses), names=names)
    rows, of_lenses = _rows(lenses, (4,), "intrinsics")
    at = np.searchsorted(of_lenses, frames)
    if at.max() >= len(of_lenses) or (of_lenses[at] != frames).any():
        raise ValueError("intrinsics lacks frames that pose has")
    return Cameras(inverse(poses), np.stack([pinhole(*rows[one]) for one in at]), names=names)


def _rows(content: bytes, shape: tuple[int, ...], what: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_small_npz(content, _LARGEST)
    if "data" not in arrays or "inds" not in arrays:
        raise ValueError(f"{what} has {', '.join(sorted(arrays)) or 'nothing'}, it must have data and inds")
    data, frames = arrays["data"].astype(np.float64), arrays["inds"].astype(np.int64)
    if data.shape != (len(frames), *shape) or not len(frames):
        raise ValueError(f"{what} is {list(data.shape)}, it must be [N,{','.join(map(str, shape))}]")
    order = np.argsort(frames)
    return data[order], frames[order]
