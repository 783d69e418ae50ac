"""Read the results of ViPE: pose/NAME.npz, and intrinsics/NAME.npz beside its folder.

data of a pose file: camera to world [N,4,4], OpenCV axes; data of intrinsics: fx fy cx cy [N,4] in pixels of
the video; inds: the frame of each row. Frames between those that a file has are not made up.
"""

from __future__ import annotations

import fsspec
import numpy as np

from recapture.datasets.cameras.cameras import Cameras, inverse, parsed, pinhole, read_bytes
from recapture.datasets.media.npz_rows import read_small_npz

_LARGEST = 2**28  # bytes when unpacked


def read_vipe(uri: str) -> Cameras:
    """Read pose/NAME.npz with its intrinsics; without them if there are none. Raises CameraFileError."""
    folder, _, name = uri.rpartition("/")
    beside = f"{folder.rpartition('/')[0]}/intrinsics/{name}" if "/" in folder else f"intrinsics/{name}"
    fs, path = fsspec.core.url_to_fs(beside)
    lenses = read_bytes(beside) if folder.rpartition("/")[2] == "pose" and fs.exists(path) else None
    return parsed(uri, "ViPE's results", lambda content: _parse(content, lenses))


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
