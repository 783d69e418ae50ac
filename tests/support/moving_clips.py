"""Videos of one square that moves over a textured wall, on disk."""

from fractions import Fraction

import cv2
import numpy as np

from recapture.datasets.media.video import write_video

RED, BLUE = (220, 40, 30), (30, 60, 220)


def wall(seed, side):
    """Return a smooth texture uint8 [side,side,3]."""
    cells = np.random.default_rng(seed).uniform(40, 200, (8, 8, 3)).astype(np.float32)
    return cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def moving_square(frames, *, side=32, colour=RED, seed=1, far=0.4):
    """Return frames [T,side,side,3] of a square that goes `far` of the width to the right."""
    made = np.stack([wall(seed, side)] * frames)
    half = side // 8
    for t, frame in enumerate(made):
        x, y = round(side * (0.25 + far * t / max(1, frames - 1))), side // 2
        frame[y - half : y + half, x - half : x + half] = colour
    return made


def write_clips(folder, clips, fps=8):
    """Write name -> frames as videos, compressed so little that nothing moves by it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in clips.items():
        write_video(str(folder / f"{name}.mp4"), iter(frames), Fraction(fps))
