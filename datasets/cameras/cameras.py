"""The camera path that every dialect is converted to, the checks on it, and what the dialects share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import fsspec
import numpy as np

ORTHONORMAL_TOLERANCE = 1e-3


class CameraFileError(ValueError):
    """A camera file that cannot be used; the message names it, what is wrong and the way out."""


@dataclass(frozen=True)
class Cameras:
    """A camera path: OpenCV axes (x right, y down, z forward), pixel centres at +0.5.

    size: (width, height) of the pictures that the intrinsics are for; (1, 1) means normalised intrinsics,
    None the pictures of the clip that the path is used with. names: the file's name of each picture.
    offsets: the cameras are motions from the source's camera of each frame, by the file's own word.
    distortion: OpenCV's k1 k2 p1 p2 (k3 k4 k5 k6), or k1 k2 k3 k4 of its fisheye model; None: a pinhole.
    """

    world_to_camera: np.ndarray  # [T, 4, 4] float64
    intrinsics: np.ndarray | None = None  # [T, 3, 3] float64
    size: tuple[int, int] | None = None
    names: tuple[str, ...] | None = None
    distortion: np.ndarray | None = None  # [T, 4] or [T, 8] float64
    fisheye: bool = False
    offsets: bool = False

    def __len__(self) -> int:
        return len(self.world_to_camera)


def checked(cameras: Cameras, uri: str) -> Cameras:
    """Return the cameras unchanged if they are usable.

    Raises: CameraFileError, naming frame and value, for wrong shapes or counts, values that are not finite,
    rotations that are left-handed or not orthonormal, and focal lengths that are not positive.
    """
    pose = cameras.world_to_camera
    _check_array(uri, "world_to_camera", pose, 4)
    if not np.allclose(pose[:, 3], [0, 0, 0, 1], atol=1e-6):
        raise CameraFileError(
            f"cameras {uri!r}: world_to_camera has a last row other than 0 0 0 1; is it transposed?"
        )
    rotation = pose[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    if off.max() > ORTHONORMAL_TOLERANCE:
        raise CameraFileError(
            f"cameras {uri!r}: the rotation of frame {int(off.argmax())} is not orthonormal (off by "
            f"{off.max():.3g}); take the scale out of it"
        )
    left_handed = np.flatnonzero(np.linalg.det(rotation) < 0)
    if len(left_handed):
        raise CameraFileError(
            f"cameras {uri!r}: frame {left_handed[0]} is left-handed (determinant -1); convert the file to "
            "right-handed OpenCV axes"
        )
    lens = cameras.intrinsics
    if lens is None:
        return cameras
    _check_array(uri, "intrinsics", lens, 3)
    if len(lens) != len(pose):
        raise CameraFileError(
            f"cameras {uri!r}: {len(lens)} intrinsics for {len(pose)} world_to_camera; "
            "give one per frame, or a single 3x3"
        )
    focal = lens[:, [0, 1], [0, 1]]
    if focal.min() <= 0:
        frame = int(focal.min(axis=1).argmin())
        raise CameraFileError(
            f"cameras {uri!r}: the focal length of frame {frame} is {focal[frame].tolist()}; it must be "
            "positive, in pixels"
        )
    return cameras


def intrinsics_for(cameras: Cameras, width: int, height: int) -> np.ndarray | None:
    """Return the intrinsics [T, 3, 3] in the pixels of width x height pictures of the same content."""
    if cameras.intrinsics is None or cameras.size is None:
        return cameras.intrinsics
    factors = np.array([[width / cameras.size[0]], [height / cameras.size[1]], [1.0]])
    return cameras.intrinsics * factors


def pinhole(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """Return the intrinsics [3, 3] of these focal lengths and principal point."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the matrix [..., 4, 4] of a rotation [..., 3, 3] and a translation [..., 3]."""
    matrix = np.zeros((*np.shape(rotation)[:-2], 4, 4))
    matrix[..., :3, :3], matrix[..., :3, 3], matrix[..., 3, 3] = rotation, translation, 1.0
    return matrix


def posed(quaternion: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the matrices [T,4,4] of quaternions [T,4] (x y z w, of any length) and translations [T,3]."""
    length = np.linalg.norm(quaternion, axis=1)
    if (length < 1e-6).any():
        raise ValueError(f"the quaternion of frame {int(length.argmin())} is 0")
    x, y, z, w = (quaternion / length[:, None]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return rigid(np.moveaxis(np.array(rows), 2, 0), translation)


def inverse(pose: np.ndarray) -> np.ndarray:
    """Return world_to_camera of camera_to_world [..., 4, 4] or the reverse; raises ValueError if singular."""
    try:
        return np.linalg.inv(pose)
    except np.linalg.LinAlgError as error:
        raise ValueError("a camera's matrix is singular") from error


def opengl_to_opencv(camera_to_world: np.ndarray) -> np.ndarray:
    """Flip y and z of the camera axes of camera_to_world [..., 4, 4]; the same call converts back."""
    return camera_to_world * np.array([1.0, -1.0, -1.0, 1.0])


def read_bytes(uri: str) -> bytes:
    """Read a camera file; raises CameraFileError if there is none."""
    try:
        with fsspec.open(uri, "rb") as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise CameraFileError(f"cameras {uri!r}: there is no such file; check its path") from error
    except IsADirectoryError as error:
        raise CameraFileError(f"cameras {uri!r}: it is a directory; name the file in it") from error


def parsed(uri: str, dialect: str, parse: Callable[[bytes], Cameras]) -> Cameras:
    """Read a file with a parser; any error of the parser becomes a CameraFileError that names the file."""
    content = read_bytes(uri)
    try:
        cameras = parse(content)
    except Exception as error:  # a broken file can break a parser anywhere
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise CameraFileError(
            f"cameras {uri!r}: it cannot be read as {dialect} ({reason}); write it again or name its format"
        ) from error
    return checked(cameras, uri)


def write_bytes(uri: str, content: bytes) -> None:
    """Write a camera file."""
    with fsspec.open(uri, "wb", auto_mkdir=True) as stream:
        stream.write(content)


def need_lens(cameras: Cameras, uri: str, dialect: str) -> np.ndarray:
    """Return the intrinsics; raises CameraFileError if the path has none."""
    if cameras.intrinsics is None:
        raise CameraFileError(f"cameras {uri!r}: {dialect} needs intrinsics; add them to the source file")
    return cameras.intrinsics


def need_size(cameras: Cameras, uri: str, dialect: str) -> tuple[int, int]:
    """Return width and height; raises CameraFileError if the path does not state them."""
    if cameras.size is None or cameras.size == (1, 1):
        raise CameraFileError(f"cameras {uri!r}: {dialect} needs the pictures' size; give width and height")
    return cameras.size


def need_pinhole(cameras: Cameras, uri: str, dialect: str) -> None:
    """Raise CameraFileError if the lens is distorted, which the dialect cannot express."""
    if cameras.distortion is not None and np.any(cameras.distortion):
        raise CameraFileError(
            f"cameras {uri!r}: {dialect} cannot express a distorted lens; write colmap or nerfstudio"
        )


def _check_array(uri: str, name: str, array: np.ndarray, side: int) -> None:
    if array.ndim != 3 or array.shape[1:] != (side, side) or not len(array):
        raise CameraFileError(
            f"cameras {uri!r}: {name} is {list(array.shape)}, it must be [T,{side},{side}] with T >= 1"
        )
    broken = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
    if len(broken):
        raise CameraFileError(
            f"cameras {uri!r}: {name} is not finite in frames {broken[:10].tolist()}; write them again"
        )
