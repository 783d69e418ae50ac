"""Depth of single points from the motion of known cameras: what a clip itself says about its scale.

Corners of a few frames, spread over the clip, are followed through later (or earlier) frames until the camera
has moved far enough. A followed point and the known cameras leave one unknown, its disparity 1/z in the first
frame, in which the projection is a ratio of linear functions; least squares over all frames gives it. Points
that do not fit, because they move themselves or were lost, are dropped by their distance from the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from recapture.conf.heartbeat import beat

ANCHORS = 8  # frames whose corners are followed
CORNERS = 400  # at most, per anchor
LEAST_WIDTH = 320  # pixels: smaller pictures are enlarged, since points are followed by linear interpolation
STEPS = 24  # frames that a point is followed through, at most
FAR_ENOUGH = 0.08  # of the width: parallax at which following ends
ALIVE = 0.3  # of the corners: when fewer remain, following ends
LEAST_PARALLAX = 1.0  # pixels, median over an anchor's points: below, pose errors could be what is seen
PRECISION = 0.3  # pixels, standard deviation of a followed point
MISFIT = 0.5  # pixels, root mean square at which a point is dropped


@dataclass(frozen=True)
class Landmarks:
    """Points of known disparity in the units of the clip's cameras."""

    frame: np.ndarray  # [N] int
    row: np.ndarray  # [N] int, the pixel that holds the point
    column: np.ndarray  # [N] int
    disparity: np.ndarray  # [N] 1/z in that frame's camera; noise can make it negative
    deviation: np.ndarray  # [N] its standard deviation
    followed: int  # points that were followed, N of which fit the cameras

    def __len__(self) -> int:
        return len(self.frame)


def travels(world_to_camera: np.ndarray) -> bool:
    """Return whether cameras [T,4,4] change their place, and not only their direction."""
    centres = -np.einsum("tji,tj->ti", world_to_camera[:, :3, :3], world_to_camera[:, :3, 3])
    reach = np.abs(world_to_camera[:, :3, 3]).max()
    return bool(np.abs(centres - centres[0]).max() > 1e-6 * reach)  # poses may come from float32


def find_landmarks(
    grey: Callable[[int], np.ndarray],  # frame number -> uint8 [H, W]
    intrinsics: np.ndarray,  # [T, 3, 3] in pixels, centres at +0.5
    world_to_camera: np.ndarray,  # [T, 4, 4]
) -> Landmarks:
    """Return points of a clip whose disparity its known cameras tell; reads a few hundred frames at most."""
    frames = len(world_to_camera)
    factor = max(1, -(-LEAST_WIDTH // grey(0).shape[1]))
    if factor > 1:
        intrinsics = np.diag([factor, factor, 1.0]) @ intrinsics
        grey = partial(_enlarged, grey, factor)
    anchors = np.unique(np.linspace(0, frames - 1, min(ANCHORS, frames)).round().astype(int))
    found = []
    for anchor in anchors:
        beat()
        step = 1 if anchor < frames / 2 else -1
        points, seen = _follow(grey, intrinsics, world_to_camera, int(anchor), step)
        if seen:
            found.append(_triangulate(int(anchor), points, seen, intrinsics, world_to_camera, factor))
    if not found:
        empty, none = np.zeros(0, dtype=int), np.zeros(0)
        return Landmarks(empty, empty, empty, none, none, 0)
    return Landmarks(
        np.concatenate([one.frame for one in found]),
        np.concatenate([one.row for one in found]),
        np.concatenate([one.column for one in found]),
        np.concatenate([one.disparity for one in found]),
        np.concatenate([one.deviation for one in found]),
        sum(one.followed for one in found),
    )


def _enlarged(grey: Callable[[int], np.ndarray], factor: int, frame: int) -> np.ndarray:
    return cv2.resize(grey(frame), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _follow(
    grey: Callable[[int], np.ndarray],
    intrinsics: np.ndarray,
    world_to_camera: np.ndarray,
    anchor: int,
    direction: int,
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return corners [N,2] of the anchor, and (frame, their places [N,2], NaN when lost) of others."""
    before = grey(anchor)
    width = before.shape[1]
    apart = max(3, width // 80)
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.003, apart, blockSize=5)
    if corners is None:
        return np.zeros((0, 2)), []
    points = corners[:, 0].astype(np.float64)
    first = before
    here, seen, at, stride = points.copy(), list[tuple[int, np.ndarray]](), anchor, 1
    speed = np.zeros_like(points)
    for _ in range(STEPS):
        to = at + direction * stride
        if not 0 <= to < len(world_to_camera):
            break
        after = grey(to)
        there = _track(before, after, here, here + speed * stride)
        if seen:  # against the first frame, or the errors of all steps would add up
            exact = _track(first, after, points, there)
            close = np.linalg.norm(exact - there, axis=1) < 1
            there = np.where(close[:, None], exact, there)
        kept = np.isfinite(there[:, 0])
        if kept.mean() < ALIVE:
            if stride == 1:
                break
            stride //= 2
            continue
        moved = there - here
        speed, here, before, at = moved / stride, there, after, to
        seen.append((at, here))
        turned = _turned(points, intrinsics, world_to_camera, anchor, at)
        if np.median(np.linalg.norm(here - turned, axis=1)[kept]) > FAR_ENOUGH * width:
            break
        pace = float(np.median(np.linalg.norm(moved, axis=1)[kept])) / width
        stride = min(2 * stride, 64) if pace < 0.01 else max(1, stride // 2) if pace > 0.04 else stride
    return points, seen


_STOP = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 30, 0.01)


def _track(before: np.ndarray, after: np.ndarray, points: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return where points [N,2] are in the next frame; NaN where the way back does not end where it began."""
    lost = ~np.isfinite(points[:, 0])
    start = np.where(lost[:, None], 0, points).astype(np.float32)[:, None]
    first = np.where(np.isfinite(guess), guess, 0).astype(np.float32)[:, None]
    window = 15 if before.shape[1] >= 320 else 11
    how: dict[str, Any] = {"winSize": (window, window), "maxLevel": 4, "criteria": _STOP}
    how |= {"flags": cv2.OPTFLOW_USE_INITIAL_FLOW, "minEigThreshold": 1e-4}
    there, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, start, first.copy(), **how)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, start.copy(), **how)
    height, width = before.shape
    x, y = there[:, 0, 0], there[:, 0, 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    same = np.linalg.norm(back[:, 0] - start[:, 0], axis=1) < 0.5
    kept = (ok[:, 0] == 1) & (returned[:, 0] == 1) & inside & same & ~lost
    return np.where(kept[:, None], there[:, 0].astype(np.float64), np.nan)


def _motion(
    intrinsics: np.ndarray, world_to_camera: np.ndarray, anchor: int, at: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return H [3,3], q [3]: pixels (centres at 0) of the anchor at disparity d are seen at H p + d q."""
    shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    first, second = shift @ intrinsics[anchor], shift @ intrinsics[at]
    relative = world_to_camera[at] @ np.linalg.inv(world_to_camera[anchor])
    return second @ relative[:3, :3] @ np.linalg.inv(first), second @ relative[:3, 3]


def _turned(
    points: np.ndarray, intrinsics: np.ndarray, world_to_camera: np.ndarray, anchor: int, at: int
) -> np.ndarray:
    """Return where points [N,2] of the anchor would be if they were infinitely far."""
    turn, _ = _motion(intrinsics, world_to_camera, anchor, at)
    seen = np.column_stack([points, np.ones(len(points))]) @ turn.T
    return np.asarray(seen[:, :2] / seen[:, 2:])


def _triangulate(
    anchor: int,
    points: np.ndarray,
    seen: list[tuple[int, np.ndarray]],
    intrinsics: np.ndarray,
    world_to_camera: np.ndarray,
    factor: int,  # by which pictures were enlarged
) -> Landmarks:
    """Return those points whose ways fit the cameras, with their disparities."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    motions = [_motion(intrinsics, world_to_camera, anchor, at) for at, _ in seen]
    ahead = [homogeneous @ turn.T for turn, _ in motions]
    # x (h3 + d q3) = h1 + d q1, and the same for y: slope d = offset, in pixels after division by h3
    slopes = np.stack([(q[:2] - xy * q[2]) / h[:, 2:] for (_, q), h, (_, xy) in zip(motions, ahead, seen)])
    offsets = np.stack([xy - h[:, :2] / h[:, 2:] for h, (_, xy) in zip(ahead, seen)])
    usable = np.isfinite(offsets)
    weight = np.where(usable, slopes, 0)
    power = (weight**2).sum((0, 2))
    disparity = (weight * np.where(usable, offsets, 0)).sum((0, 2)) / np.maximum(power, 1e-300)
    error = np.where(usable, slopes * disparity[:, None] - offsets, 0)
    count = usable[..., 0].sum(0)
    misfit = np.sqrt((error**2).sum((0, 2)) / np.maximum(count, 1))
    # a point drifts: errors of its frames are not independent, so the longest way alone sets the precision
    reach = np.sqrt((weight**2).sum(2).max(0))
    alive = usable[-1, :, 0]
    if not np.median((np.abs(disparity) * reach)[alive]) >= LEAST_PARALLAX * factor:
        alive = np.zeros_like(alive)
    kept = alive & (count > 0) & (reach > 0) & (misfit < MISFIT * factor)
    column, row = np.floor((points[kept] + 0.5) / factor).astype(int).T
    frame = np.full(int(kept.sum()), anchor)
    return Landmarks(frame, row, column, disparity[kept], PRECISION * factor / reach[kept], int(alive.sum()))
