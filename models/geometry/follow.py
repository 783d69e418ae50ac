"""Follow a box through a video: corners in it are tracked by optical flow, and their median moves the box.

Forward and backward tracks must agree (Kalal et al., "Forward-Backward Error", ICPR 2010).
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from recapture.conf.heartbeat import beating

LK = {"winSize": (15, 15), "maxLevel": 4}
FEWEST = 4  # corners that must agree for a box to move
AGREES = 1.0  # pixels between a corner and its way there and back
CORNERS = 60


def follow_box(grey: np.ndarray, box: np.ndarray, frame: int) -> np.ndarray:
    """Return a box (left, top, right, bottom in pixels) in every frame [T,4], NaN where it is lost.

    grey: [T,H,W] uint8; box: where it is in `frame`. It is lost for good where too few corners agree, or its
    middle leaves the picture.
    """
    boxes = np.full((len(grey), 4), np.nan)
    boxes[frame] = box
    for order in (range(frame, len(grey)), range(frame, -1, -1)):
        for before, after in beating(list(pairwise(order))):
            moved = _moved(grey[before], grey[after], boxes[before])
            if moved is None:
                break
            boxes[after] = moved
    return boxes


def _moved(before: np.ndarray, after: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    height, width = before.shape
    inside = np.zeros_like(before)
    left, top, right, bottom = np.round(box).astype(int)
    inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 2, mask=inside)
    if corners is None or len(corners) < FEWEST:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **LK)  # type: ignore[call-overload]
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **LK)  # type: ignore[call-overload]
    agrees = np.linalg.norm(back - corners, axis=2)[:, 0] < AGREES
    agrees &= (found[:, 0] > 0) & (found_back[:, 0] > 0)
    if agrees.sum() < FEWEST:
        return None
    start, end = corners[agrees, 0], there[agrees, 0]
    shift = np.median(end - start, axis=0)
    scale = _scale(start, end)
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2 + shift
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2 * scale
    if not (0 <= middle[0] < width and 0 <= middle[1] < height):
        return None
    return np.concatenate([middle - half, middle + half])


def _scale(start: np.ndarray, end: np.ndarray) -> float:
    """Return the median ratio of distances between corners."""
    first, second = np.triu_indices(len(start), 1)
    before = np.linalg.norm(start[first] - start[second], axis=1)
    after = np.linalg.norm(end[first] - end[second], axis=1)
    apart = before > 2
    return float(np.median(after[apart] / before[apart])) if apart.any() else 1.0
