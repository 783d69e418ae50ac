"""The frames of a fill, stored without a second copy of what its render shows.

A fill that puts known pixels back is the render where that is visible, and near the generated video in holes.
Only `unpasted`, the generated video, is stored, and `seam`, what is left of rgb: 0 where the render is kept,
and the smooth membrane in holes. rgb comes back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.scene_reader import read_frames

RGB, UNPASTED, SEAM = "rgb", "unpasted", "seam"
SHOWN = (RGB, "visible")  # of a render


def seamed(filled: Mapping[str, np.ndarray], render: Artifact, start: int) -> dict[str, np.ndarray]:
    """Return a fill's frames as they are stored; start: the number of the first of them on the new path.

    filled: rgb, and unpasted if known pixels were pasted, uint8 [t,H,W,3]. Without unpasted, rgb stays.
    """
    if UNPASTED not in filled or not len(filled[RGB]):
        return dict(filled)
    frames = np.arange(start, start + len(filled[RGB]))
    pasted = _pasted(filled[UNPASTED], read_frames(render, frames, SHOWN))
    np.subtract(filled[RGB], pasted, out=pasted)
    return {UNPASTED: filled[UNPASTED], SEAM: pasted}


def read_filled(fill: Artifact, render: Artifact, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return rgb, and unpasted if the fill has it, uint8 [t,H,W,3] at the frames [t] of the new path."""
    read = read_frames(fill, frames)
    return read if SEAM not in read else joined(read, read_frames(render, frames, SHOWN))


def joined(read: Mapping[str, np.ndarray], shown: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return rgb, and unpasted if there is one, from the arrays of a fill and SHOWN of its render."""
    if SEAM not in read:
        return dict(read)
    rgb = _pasted(read[UNPASTED], shown)
    rgb += read[SEAM]
    return {RGB: rgb, UNPASTED: read[UNPASTED]}


def _pasted(unpasted: np.ndarray, shown: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what is visible in the render, and the fill everywhere else."""
    return np.where(shown["visible"][..., None], shown[RGB], unpasted)
