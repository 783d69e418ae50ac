"""Pictures with a bright spot at a known pixel, and the pixel where a reader's cameras see a world point."""

from pathlib import Path

import numpy as np
from PIL import Image

from recapture.datasets.clips.clip import Clip, ClipSource
from recapture.datasets.readers.scan import open_clip, scan


def spot(width: int, height: int, u: float, v: float) -> np.ndarray:
    """Return a black picture with one white pixel at (u, v); pixel centres at +0.5."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[int(v), int(u)] = 255
    return pixels


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a picture and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def brightest(frame: np.ndarray) -> tuple[float, float]:
    """Return the centre (u, v) of the brightest pixel."""
    v, u = np.unravel_index(frame.astype(int).sum(axis=2).argmax(), frame.shape[:2])
    return float(u) + 0.5, float(v) + 0.5


def pixel(source: ClipSource, frame: int, point: list[float]) -> np.ndarray:
    """Return (u, v, z) of a world point in the clip's cameras."""
    cameras = source.cameras()
    assert cameras is not None
    intrinsics, world_to_camera = cameras
    x, y, z = (world_to_camera[frame] @ np.array([*point, 1.0]))[:3]
    u, v, _ = intrinsics[frame] @ np.array([x, y, z]) / z
    return np.array([u, v, z])


def opened(uri: object, kind: str = "auto") -> dict[str, tuple[Clip, ClipSource]]:
    """Return id -> clip and opened source; the dataset must have no bad clip."""
    clips, rejected = scan(str(uri), kind)  # type: ignore[arg-type]
    assert not rejected, rejected
    return {clip.id: (clip, open_clip(clip)) for clip in clips}
