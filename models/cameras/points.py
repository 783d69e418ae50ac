"""What the points of a clip say of cameras that are found: other frames among them, and how many agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recapture.models.cameras.bundle import Cameras, Problem, errors, project
from recapture.models.cameras.chain import refined_pose
from recapture.models.cameras.tracks import Tracks

AGREES = 4.0  # standard deviations of a followed point
ENOUGH_POINTS, ENOUGH_CELLS = 40, 16  # of a frame, of 64 cells: with fewer it is less sure
LONG, FITS = 8.0, 3.0  # standard deviations of a followed point: of a telling parallax, and of its error
FEWEST_TOLD = 30  # points whose parallax tells their disparity
_CELLS = 8


def placed(
    tracks: Tracks,
    fine: np.ndarray,
    cameras: Cameras,
    disparity: np.ndarray,
    pixel: float,
    *,
    travels: bool,
) -> Cameras:
    """Place the frames that are not in `fine` among the points [P] of those that are."""
    inside = np.isin(tracks.frame, fine)
    number, count = np.unique(tracks.track[inside], return_counts=True)
    number = number[count >= 2]  # in the order of the problem
    point = np.full(len(tracks), -1)
    point[number] = np.arange(len(number))
    chosen = np.flatnonzero(inside & (point[tracks.track] >= 0))
    anchor = chosen[np.unique(tracks.track[chosen], return_index=True)[1]]
    frame, xy = tracks.frame[anchor], tracks.xy[anchor]
    ray = np.column_stack([(xy - cameras.centre) / cameras.focal[frame, None], np.ones(len(xy))])
    local = ray / disparity[:, None] - cameras.translation[frame]
    world = np.einsum("nji,nj->ni", cameras.rotation[frame], local)
    rotation, translation = cameras.rotation.copy(), cameras.translation.copy()
    for one in np.setdiff1d(np.arange(tracks.frames), fine):
        at = np.flatnonzero((tracks.frame == one) & (point[tracks.track] >= 0))
        if len(at) < 8:
            continue
        rotation[one], translation[one] = refined_pose(
            world[point[tracks.track[at]]],
            tracks.xy[at],
            float(cameras.focal[one]),
            cameras.centre,
            (rotation[one], translation[one]),
            2 * pixel,
            travels=travels,
        )
    return replace(cameras, rotation=rotation, translation=translation)


def confidences(
    tracks: Tracks, problem: Problem, cameras: Cameras, disparity: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return how sure each frame is, 0...1, and the median error in pixels of the points that agree.

    The share of a frame's points that agree with the cameras, less where these are few or close together.
    problem: of all frames.
    """
    disparity = fitted_disparities(problem, cameras, disparity)
    error = np.linalg.norm(errors(problem, cameras, disparity), axis=1)
    agrees = error < AGREES * problem.pixel
    cell = np.clip((problem.xy / np.array(tracks.size) * _CELLS).astype(int), 0, _CELLS - 1) @ [1, _CELLS]
    found = np.zeros(tracks.frames)
    for one in range(1, tracks.frames):
        own = problem.frame == one
        good = own & agrees
        if good.any():
            reach = min(1.0, len(np.unique(cell[good])) / ENOUGH_CELLS)
            found[one] = min(1.0, good.sum() / ENOUGH_POINTS) * reach * agrees[own].mean()
    found[0] = found[1:3].max()
    return found, float(np.median(error[agrees])) if agrees.any() else float("inf")


def told_by_parallax(problem: Problem, cameras: Cameras, disparity: np.ndarray) -> np.ndarray:
    """Return the points [P] bool whose parallax is long enough to tell their disparity, and that fit."""
    seen, _, shift, _ = project(problem, cameras, disparity)
    moved = np.linalg.norm(shift, axis=1) * disparity[problem.track] / np.maximum(seen[:, 2], 1e-3)
    reach = np.zeros(len(problem.anchor))
    np.maximum.at(reach, problem.track, moved * cameras.focal[0])
    error = np.minimum(np.linalg.norm(errors(problem, cameras, disparity), axis=1), 50)
    count = np.bincount(problem.track, minlength=len(reach))
    misfit = np.bincount(problem.track, error, minlength=len(reach)) / np.maximum(count, 1)
    return np.asarray((reach > LONG * problem.pixel) & (misfit < FITS * problem.pixel))


def deviation(values: np.ndarray) -> float:
    """Return a robust standard deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def fitted_disparities(problem: Problem, cameras: Cameras, disparity: np.ndarray) -> np.ndarray:
    """Return the disparities that fit fixed cameras."""
    known = np.isfinite(problem.prior)
    prior = np.where(known, problem.prior, 1.0)
    inner = np.where(known, 1 / (problem.spread * prior), 0.0)
    least = 1e-4 * np.median(np.abs(disparity))
    for _ in range(5):
        seen, _, shift, _ = project(problem, cameras, disparity)
        z = np.maximum(seen[:, 2:], 1e-3)
        focal = cameras.focal[problem.frame, None]
        slope = focal * (shift[:, :2] - seen[:, :2] / z * shift[:, 2:]) / z / problem.pixel
        error = errors(problem, cameras, disparity) / problem.pixel
        weight = 1 / (1 + (error**2).sum(1))
        off = inner * (disparity - prior)
        trust = 1 / (1 + off**2)
        count = len(disparity)
        top = np.bincount(problem.track, weight * (slope * error).sum(1), count) + trust * inner * off
        low = np.bincount(problem.track, weight * (slope**2).sum(1), count) + trust * inner**2
        disparity = np.maximum(disparity - top / (1.001 * low + 1e-12), least)
    return disparity
