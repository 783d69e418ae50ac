"""Which moment of a clip each frame of a new video shows.

Moments are in frames of the clip and need not be whole: a camera can be between two frames, a picture cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SLACK = 1e-9  # of a frame: 0.1 * 30 is not below 3


def steady_moments(frames: int, speed: float, *, back: bool = False, bounce: bool = False) -> np.ndarray:
    """Return the moments [N] of a clip shown at a speed, from its first frame to its last.

    back: from its last to its first; bounce: there, and back again.
    """
    last = frames - 1
    there = last * (2 if bounce else 1)
    moments = speed * np.arange(math.floor(there / speed + SLACK) + 1)
    if bounce:
        moments = last - np.abs(last - moments)
    return np.clip(last - moments if back else moments, 0.0, last)


def frozen_moments(frames: int, frame: int | None, count: int) -> np.ndarray:
    """Return one frame, by default the middle one, as the moments [count].

    Raises ValueError if the clip does not have it.
    """
    shown = frames // 2 if frame is None else frame
    if not 0 <= shown < frames:
        raise ValueError(f"time.frame is {shown}; the clip has frames 0 to {frames - 1}")
    return np.full(count, float(shown))


def ramp_moments(frames: int, fps: float, keys: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the moments [N] along keys: seconds of the new video -> seconds of the clip, linear in between.

    The end of the clip, frames / fps, shows its last frame. Raises ValueError for a key beyond it.
    """
    for at, shown in keys:
        if shown * fps > frames + SLACK:
            raise ValueError(
                f"time.pairs show second {shown:g} of the clip at {at:g}; the clip ends at {frames / fps:g}"
            )
    times, shows = np.array(keys, dtype=np.float64).T
    seconds = np.arange(math.floor(times[-1] * fps + SLACK) + 1) / fps
    return np.minimum(np.interp(seconds, times, shows) * fps, frames - 1.0)


def frames_shown(moments: np.ndarray) -> np.ndarray:
    """Return the frame [N] int64 nearest to each moment, the earlier one in the middle between two."""
    return np.asarray(np.ceil(moments - 0.5 - SLACK), dtype=np.int64)
