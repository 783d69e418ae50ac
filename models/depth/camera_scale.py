"""The scale of predicted depth in the units of a clip's own cameras, fitted to landmarks.

In disparity, everything is affine: true = gain * predicted + shift. Metric models leave one unknown, the
gain; inverse depth leaves both, since the shift that `align_depth` assumes is a guess. The shift is fitted
only where the landmarks' disparities differ enough to tell it. The fit is robust (Tukey's weights, from a
weighted median on), so that points on moving things, lost points and the model's own errors do not decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recapture.models.depth.alignment import Kind
from recapture.models.depth.landmarks import PRECISION, Landmarks

EDGE = 1.1  # ratio of depths in the 3x3 pixels around a landmark at which it is left out
LEAST_POINTS = 12  # that fit
LEAST_SHARE = 0.2  # of the points that were followed; with foreign cameras a tenth fits
LARGEST_ERROR = 0.1  # standard error of the scale, as a share of it
DRIFT = 0.2  # pixels that the points of one frame can be off together, whatever their number
INDEPENDENT = 40  # points whose errors are taken to be independent, at most
MODEL_ERROR = 0.1  # relative error of predicted depth that is expected anyway
_ROUNDS = 20


@dataclass(frozen=True)
class CameraScale:
    """What turns aligned disparity into that of the cameras, and how sure that is."""

    gain: float
    shift: float
    points: int  # landmarks that fit
    share: float  # of the points that were followed
    error: float  # standard error of the scale, as a share of it; inf: cannot be said

    @property
    def certain(self) -> bool:
        """Return whether the evidence suffices."""
        return self.points >= LEAST_POINTS and self.share >= LEAST_SHARE and self.error <= LARGEST_ERROR

    def __str__(self) -> str:
        return f"{self.points} points fit, {self.share:.0%} of all; standard error {self.error:.0%}"


NONE = CameraScale(1.0, 0.0, 0, 0.0, float("inf"))


def fit_camera_scale(
    landmarks: Landmarks,
    predicted: np.ndarray,  # [N] aligned disparity at the landmarks; NaN: unknown, or at an edge
    kind: Kind,
) -> CameraScale:
    """Return the scale of a clip's depth; see `certain`."""
    usable = np.isfinite(predicted) & (predicted > 0)
    if usable.sum() < LEAST_POINTS:
        return NONE
    followed = len(landmarks) / max(landmarks.followed, 1)
    p, frame = predicted[usable], landmarks.frame[usable]
    d, deviation = landmarks.disparity[usable], landmarks.deviation[usable]
    gain = _weighted_median(d / p, p / deviation)
    if gain <= 0:
        return NONE
    best = _of_all(_fit(p, d, deviation, frame, np.array([gain]), affine=False), followed)
    if kind == "inverse":
        start = np.array([max(best.gain, 1e-12), 0.0])
        affine = _of_all(_fit(p, d, deviation, frame, start, affine=True), followed)
        positive = affine.gain > 0 and (affine.gain * p + affine.shift > 0).mean() > 0.95
        if positive and affine.certain:
            return affine
    return best


def _of_all(scale: CameraScale, followed: float) -> CameraScale:
    """Count the points that were followed, but fit no camera, among those that do not fit."""
    return replace(scale, share=scale.share * followed)


def _fit(
    p: np.ndarray, d: np.ndarray, deviation: np.ndarray, frame: np.ndarray, start: np.ndarray, *, affine: bool
) -> CameraScale:
    design = np.column_stack([p, np.ones_like(p)]) if affine else p[:, None]
    solution, fits = start, np.ones(len(p), dtype=bool)
    weight = np.zeros(len(p))
    for _ in range(_ROUNDS):
        expected = design @ solution
        allowed = np.sqrt(deviation**2 + (MODEL_ERROR * expected) ** 2)
        residual = (d - expected) / allowed
        spread = max(1.4826 * float(np.median(np.abs(residual))), 0.3)
        reach = np.abs(residual) / (4.685 * spread)
        fits = (reach < 1) & (np.abs(residual) < 5)
        weight = np.where(fits, (1 - np.minimum(reach, 1) ** 2) ** 2, 0) / allowed**2
        if fits.sum() < len(start) + 1:
            return NONE
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, None], d * root, rcond=None)[0]
    gain, shift = float(solution[0]), float(solution[1]) if affine else 0.0
    error = _error(d, design @ solution, weight, frame, fits)
    parallax = float(np.median((np.abs(d) / deviation)[fits])) * PRECISION
    drift = DRIFT / np.sqrt(len(np.unique(frame[fits])))
    error = float(np.hypot(error, drift / max(parallax, 1e-300)))
    if affine:
        error = max(error, _slope_error(p, d - design @ solution, weight) / max(gain, 1e-300))
    return CameraScale(gain, shift, int(fits.sum()), float(fits.mean()), error)


def _error(
    d: np.ndarray, expected: np.ndarray, weight: np.ndarray, frame: np.ndarray, fits: np.ndarray
) -> float:
    """Return the standard error of the scale: of the mean over points, or over frames if they differ more."""
    middle = float((weight * expected).sum() / weight.sum())
    if middle <= 0:
        return float("inf")
    effective = weight.sum() ** 2 / (weight**2).sum()
    points = np.sqrt((weight * (d - expected) ** 2).sum() / weight.sum() / effective) / middle
    ratios = [
        float((weight * d)[frame == one].sum() / (weight * expected)[frame == one].sum())
        for one in np.unique(frame[fits])
        if (weight * expected)[frame == one].sum() > 0 and (fits & (frame == one)).sum() >= 3
    ]
    frames = np.std(ratios, ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else 0.0
    return float(max(points, frames))


def _slope_error(p: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> float:
    """Return the standard error of the slope of a line; neighbours err alike, so few of them count."""
    share = weight / weight.sum()
    spread = (share * (p - (share * p).sum()) ** 2).sum()
    count = min(1 / (share**2).sum(), INDEPENDENT)
    return float(np.sqrt((share * residual**2).sum() / count / max(spread, 1e-300)))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    sums = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])


class LandmarkSampler:
    """Predicted disparities at landmarks, gathered while a clip's depth goes by in order."""

    def __init__(self, landmarks: Landmarks) -> None:
        self._landmarks, self._frames = landmarks, 0
        self.predicted = np.full(len(landmarks), np.nan)

    def add(self, depth: Tensor) -> None:
        """Take the next frames' depth [t,H,W]; at an edge it is not clear which side a landmark is on."""
        where = self._landmarks
        for number in np.nonzero((where.frame >= self._frames) & (where.frame < self._frames + len(depth)))[
            0
        ]:
            row, column = int(where.row[number]), int(where.column[number])
            frame = depth[int(where.frame[number]) - self._frames]
            around = frame[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if bool((around.max() < EDGE * around.min()) & (around.min() > 0)):  # False where NaN
                self.predicted[number] = 1 / float(frame[row, column])
        self._frames += len(depth)


def rescaled(depth: Tensor, scale: CameraScale, least: float) -> Tensor:
    """Return aligned depth in the units of the cameras; no disparity falls below `least`."""
    return 1 / (scale.gain / depth + scale.shift).clamp_min(least)


def least_disparity(depth: Tensor, scale: CameraScale, limit: float) -> float:
    """Return the disparity of `limit` times the median of a first frame's depth [H,W], rescaled."""
    known = depth[torch.isfinite(depth)]
    return float((scale.gain / known + scale.shift).median().clamp_min(1e-12)) / limit
