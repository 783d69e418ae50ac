"""The size at which a clip is processed: scaled evenly, padded to multiples of 16."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from recapture.datasets.store.artifact import Artifact

MULTIPLE = 16  # of most bases of the Wan family; a filler pads further for those that need more


@dataclass(frozen=True)
class WorkingSize:
    """The size of the content after even scaling, and the padded size (multiples of 16) that holds it."""

    content_height: int
    content_width: int
    height: int
    width: int


def working_size(height: int, width: int, short_side: int | None) -> WorkingSize:
    """Return the size scaled evenly, never up, to a short side of at most `short_side`, and padded."""
    scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
    content_height, content_width = max(1, round(height * scale)), max(1, round(width * scale))
    return WorkingSize(content_height, content_width, _padded(content_height), _padded(content_width))


def to_working_size(
    frame: np.ndarray, size: WorkingSize, *, interpolation: int = cv2.INTER_AREA
) -> np.ndarray:
    """Scale and edge-pad one image [h,w] or [h,w,C] to [size.height, size.width(, C)]."""
    if frame.shape[:2] != (size.content_height, size.content_width):
        frame = cv2.resize(frame, (size.content_width, size.content_height), interpolation=interpolation)
    below, right = size.height - size.content_height, size.width - size.content_width
    return np.pad(frame, [(0, below), (0, right)] + [(0, 0)] * (frame.ndim - 2), mode="edge")


def content_known(artifact: Artifact) -> np.ndarray:
    """Return [H,W] bool: True inside the clip's content, False in its padding."""
    (content_height, content_width), (height, width) = artifact.meta["content"], artifact.meta["size"]
    known = np.zeros((height, width), dtype=bool)
    known[:content_height, :content_width] = True
    return known


def _padded(side: int) -> int:
    return max(MULTIPLE, -(-side // MULTIPLE) * MULTIPLE)
