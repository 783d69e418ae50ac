"""Points followed through a clip by Lucas and Kanade's method, each checked by following it back.

Also the published motion fidelity, and where a known camera puts the points of a static scene.
Sources: Bouguet's pyramidal LK (OpenCV); motion fidelity: Yatim et al., arXiv 2311.17009.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.models.metrics.luma import to_grey

GRID = 24  # points per side, for motion fidelity
CAMERA_GRID = 12  # points per side, for the camera
BACK = 1.0  # pixels that a point followed back may miss its start
RESTING = 0.25  # pixels per frame below which a track's step has no direction
_WINDOW = (11, 11)
_LEVELS = 3


@dataclass(frozen=True)
class Tracks:
    """Points through a clip."""

    place: Tensor  # [P, T, 2] pixels
    kept: Tensor  # [P, T - 1] bool: the step to the next frame could be followed there and back


@dataclass(frozen=True)
class CameraFlow:
    """Where the points of a static scene go between frames `step` apart."""

    start: Tensor  # [T - step, P, 2] pixels
    moved: Tensor  # [T - step, P, 2]
    valid: Tensor  # [T - step, P] bool: seen in both frames
    step: int


def follow(video: Tensor, start: Tensor) -> Tracks:
    """Follow points [P, 2] of the first frame through a clip [T, 3, H, W] in [-1, 1]."""
    frames = _grey(video)
    places = [start.numpy().astype(np.float32)]
    kept = np.ones((len(start), len(frames) - 1), bool)
    for number, (first, second) in enumerate(pairwise(frames)):
        there, good = _step(first, second, places[-1])
        kept[:, number] = good
        places.append(there)
    return Tracks(torch.from_numpy(np.stack(places, 1)).double(), torch.from_numpy(kept))


def tracked_flow(video: Tensor, flow: CameraFlow) -> tuple[Tensor, Tensor]:
    """Return how the points of `flow` move in a clip [T - step, P, 2], and which are kept [T - step, P]."""
    frames, moved, kept = _grey(video), [], []
    for number, start in enumerate(flow.start):
        place = begin = start.numpy().astype(np.float32)
        good = np.ones(len(place), bool)
        for first, second in zip(frames[number : number + flow.step], frames[number + 1 :]):
            place, fine = _step(first, second, place)
            good &= fine
        moved.append(place - begin)
        kept.append(good)
    return torch.from_numpy(np.stack(moved)).double(), torch.from_numpy(np.stack(kept))


def camera_flow(depth: Tensor, intrinsics: Tensor, world_to_camera: Tensor, step: int) -> CameraFlow:
    """Return the true flow of a static scene: depth [T, H, W], intrinsics [T, 3, 3], cameras [T, 4, 4].

    A point is valid if the later frame sees it, at its depth to within 2 %.
    """
    frames, height, width = depth.shape
    grid = grid_points(height, width, CAMERA_GRID).double()
    column, row = grid[:, 0].long(), grid[:, 1].long()
    pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(grid[:, 0])], 1)
    lens, pose = intrinsics.double(), world_to_camera.double()
    moved, valid = [], []
    for first in range(frames - step):
        z = depth[first, row, column].double()
        seen = pixel @ torch.linalg.inv(lens[first]).T * z[:, None]
        motion = pose[first + step] @ torch.linalg.inv(pose[first])
        later = seen @ motion[:3, :3].T + motion[:3, 3]
        place = later @ lens[first + step].T
        place = place[:, :2] / place[:, 2:]
        x, y = place[:, 0].floor().long(), place[:, 1].floor().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (later[:, 2] > 0)
        there = depth[first + step, y.clamp(0, height - 1), x.clamp(0, width - 1)].double()
        valid.append(inside & torch.isfinite(z) & ((there / later[:, 2] - 1).abs() < 0.02))
        moved.append(place - pixel[:, :2])
    start = pixel[:, :2].expand(frames - step, -1, -1)
    return CameraFlow(start, torch.stack(moved), torch.stack(valid), step)


def motion_fidelity(video: Tensor, reference: Tensor, grid: int = GRID) -> float:
    """Return the published motion fidelity of a clip to a reference [T, 3, H, W], from -1 to 1, symmetric.

    The correlation of two tracks is the mean cosine of their steps; a track counts with its best partner in
    the other clip, in both directions. Unlike the authors' script, steps at rest and steps that could not be
    followed are left out. Neither where a track is nor how far it goes enters: a clip that moves some other
    way can score as well as one that moves right. For comparison with other papers only.
    """
    height, width = reference.shape[-2:]
    start = grid_points(height, width, grid)
    first, second = (_directions(follow(one, start)) for one in (video, reference))
    both = torch.einsum("ptc,qtc->pq", first, second)
    steps = torch.einsum("pt,qt->pq", *(one.norm(dim=-1).round() for one in (first, second)))
    correlation = torch.where(steps > 0, both / steps.clamp_min(1), -torch.inf)
    best = [correlation.max(dim).values for dim in (0, 1)]
    known = [one[torch.isfinite(one)] for one in best]
    if not all(len(one) for one in known):
        return 0.0
    return float(sum(one.mean() for one in known) / 2)


def grid_points(height: int, width: int, count: int) -> Tensor:
    """Return a grid of count x count points [count², 2] over a picture, in pixels."""
    x = (torch.arange(count) + 0.5) * width / count
    y = (torch.arange(count) + 0.5) * height / count
    down, across = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([across, down], dim=-1).reshape(-1, 2)


def _directions(tracks: Tracks) -> Tensor:
    """Return the unit steps [P, T - 1, 2] of tracks; 0 where one rests or was lost."""
    steps = tracks.place.diff(dim=1)
    size = steps.norm(dim=-1, keepdim=True)
    moving = tracks.kept[..., None] & (size > RESTING)
    return torch.where(moving, steps / size.clamp_min(1e-9), 0.0)


def _grey(video: Tensor) -> list[np.ndarray]:
    return list(to_grey(video))


def _step(first: np.ndarray, second: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow points [P, 2] to the next frame; also return which of them come back to their start."""
    shifted = place[:, None] - 0.5  # OpenCV's pixel centres are whole numbers
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, shifted, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        second, first, there, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    good = (found[:, 0] > 0) & (returned[:, 0] > 0)
    good &= np.linalg.norm((back - shifted)[:, 0], axis=-1) <= BACK
    return there[:, 0] + 0.5, good
