"""Pictures with a bright spot at a known pixel, and what a reader's cameras make of a known world point."""

from pathlib import Path

import numpy as np
from PIL import Image

from recapture.datasets.clips.clip import Clip, ClipSource
from recapture.datasets.readers.scan import open_clip, scan


def spot(width: int, height: int, u: float, v: float) -> np.ndarray:
    """Black, with one white pixel where (u, v) falls; pixel centres at +0.5."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[int(v), int(u)] = 255
    return pixels


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def brightest(frame: np.ndarray) -> tuple[float, float]:
    """Centre (u, v) of the brightest pixel."""
    v, u = np.unravel_index(frame.astype(int).sum(axis=2).argmax(), frame.shape[:2])
    return float(u) + 0.5, float(v) + 0.5


def pixel(source: ClipSource, frame: int, point: list[float]) -> np.ndarray:
    """(u, v, z) of a world point by the clip's cameras."""
    cameras = source.cameras()
    assert cameras is not None
    intrinsics, world_to_camera = cameras
    x, y, z = (world_to_camera[frame] @ np.array([*point, 1.0]))[:3]
    u, v, _ = intrinsics[frame] @ np.array([x, y, z]) / z
    return np.array([u, v, z])


def opened(uri: object, kind: str = "auto") -> dict[str, tuple[Clip, ClipSource]]:
    """Every clip of a dataset that must have no bad one, by id."""
    clips, rejected = scan(str(uri), kind)  # type: ignore[arg-type]
    assert not rejected, rejected
    return {clip.id: (clip, open_clip(clip)) for clip in clips}
