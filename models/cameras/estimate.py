"""Cameras of a shot from its tracks and predicted depth: pose and lens of every frame, and how sure they are.

First poses come from frame to frame (chain.py); bundle adjustment over key frames decides what the camera
does, turns, travels, zooms; a second one over more frames refines it; other frames are then placed among the
points that are known. The depth's scale is kept: gains of its frames that make it agree with the motion are
returned beside the cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from recapture.models.cameras.bundle import Cameras, Freedom, Problem, adjust, errors
from recapture.models.cameras.chain import chained, standing, turned
from recapture.models.cameras.doubts import LENS, PLANE, at_limit, depth_vouches
from recapture.models.cameras.points import FEWEST_TOLD, confidences, deviation, placed, told_by_parallax
from recapture.models.cameras.tracks import Tracks

COARSE = 20  # key frames in which the kind of motion is decided
FINE = 60  # frames that are adjusted together, at most
FEWEST_TRACKS = 24  # per frame
PIXEL = 0.0006  # of the width: standard deviation of a followed point
WRONG = 8.0  # standard deviations at which a track is dropped
EXPLAINED, SAME = 1.15, 0.1  # ratio and difference of errors up to which a simpler motion is kept
ZOOM_RANGE = 0.04  # of the focal length: smaller changes are not a zoom
LENSES = (0.7, 1.0, 1.45)  # of the guess, to start from


@dataclass(frozen=True)
class Estimate:
    """Cameras of a shot; confidence 0...1 of each frame."""

    cameras: Cameras
    confidence: np.ndarray  # [T]
    motion: str  # still, turns, zooms, travels, travels and zooms; unknown
    gain: np.ndarray  # [T] gain * predicted disparity agrees with the cameras
    residual: float  # pixels, median of the points that agree
    reason: str = ""  # why nothing could be told
    doubt: str = ""  # what was not believed, though it explains the picture better


@dataclass(frozen=True)
class Lens:
    """What is known of the lens: its focal length in pixels, and whether that is given or a guess."""

    focal: float
    centre: tuple[float, float]
    given: bool = False


def unknown(frames: int, lens: Lens, reason: str, motion: str = "unknown") -> Estimate:
    """Return cameras that stand still, and are not to be relied on unless the motion is still."""
    sure = 1.0 if motion == "still" else 0.0
    return Estimate(_still(frames, lens), np.full(frames, sure), motion, np.ones(frames), 0.0, reason)


def estimate_shot(tracks: Tracks, lens: Lens, spread: float, *, regain: bool) -> Estimate:
    """Return the cameras of a shot, in the first frame's coordinates and the depth's scale.

    spread: relative error of the depth that is expected; regain: whether its scale may differ from frame to
    frame, as that of a model does.
    """
    frames = tracks.frames
    if frames == 1:
        return unknown(1, lens, "", "still")
    live = np.bincount(tracks.frame, minlength=frames)
    if np.median(live) < FEWEST_TRACKS:
        reason = f"{int(np.median(live))} points per frame can be followed; {FEWEST_TRACKS} are needed"
        return unknown(frames, lens, reason)
    known = np.isfinite(tracks.disparity[tracks.first])
    if known.mean() < 0.1:
        return unknown(frames, lens, f"depth is known at {known.mean():.0%} of the points")
    return _Shot(tracks, lens, spread, regain).estimate()


@dataclass
class _Found:
    cameras: Cameras
    disparity: np.ndarray
    cost: float
    freedom: Freedom


class _Shot:
    def __init__(self, tracks: Tracks, lens: Lens, spread: float, regain: bool) -> None:
        self._tracks, self._lens, self._spread, self._regains = tracks, lens, spread, regain
        self._pixel = max(0.3, PIXEL * tracks.size[0])
        self._gain = np.ones(tracks.frames)
        self._middle = float(np.nanmedian(tracks.disparity))
        self._doubts, self._sure = list[str](), 1.0

    def estimate(self) -> Estimate:
        tracks, lens = self._tracks, self._lens
        predicted = tracks.disparity[tracks.first]
        travelling, agreed = chained(tracks, predicted, lens.focal, lens.centre)
        turning, also = turned(tracks, predicted, lens.focal, lens.centre)
        self._agreed = {True: agreed, False: also}
        keys = spread_over(tracks.frames, COARSE)
        found = self._decided(keys, travelling, turning)
        for _ in range(2):
            found = self._consistent(keys, found)
        chain = travelling if found.freedom.travels else turning
        cameras = self._spread_out(keys, found, chain)
        fine = spread_over(tracks.frames, FINE)
        cameras = self._refine(fine, cameras, found.freedom)
        everything, start = self._problem(np.arange(tracks.frames), self._trusted(found.freedom))
        confidence, residual = confidences(tracks, everything, cameras, start)
        travels, zooms = found.freedom.travels, found.freedom.lens == "zoom"
        motion = ("travels and zooms" if zooms else "travels") if travels else ("zooms" if zooms else "turns")
        if not self._lens.given and at_limit(cameras.focal, self._lens.focal):
            self._doubts.append(LENS)
        return Estimate(
            cameras, self._sure * confidence, motion, self._gain, residual, doubt="; ".join(self._doubts)
        )

    def _trusted(self, freedom: Freedom) -> np.ndarray:
        """Return how far each track is believed to stand still, by the first poses of a motion's kind."""
        return np.asarray(self._agreed[freedom.travels and freedom.lens != "zoom"])

    def _problem(self, frames: np.ndarray, agreed: np.ndarray) -> tuple[Problem, np.ndarray]:
        """Return the problem of some frames, and the disparities to start from."""
        tracks = self._tracks
        place = np.full(tracks.frames, -1)
        place[frames] = np.arange(len(frames))
        kept = place[tracks.frame] >= 0
        part = tracks.select(kept)
        number, count = np.unique(tracks.track[kept], return_counts=True)
        first = part.first
        rest = np.ones(len(part.track), bool)
        rest[first] = False
        anchor = part.frame[first]
        prior = self._gain[anchor] * part.disparity[first]
        problem = Problem(
            place[anchor],
            part.xy[first],
            part.track[rest],
            place[part.frame[rest]],
            part.xy[rest],
            np.where(prior > 0, prior, np.nan),
            np.clip(2 * agreed[number[count >= 2]] - 0.5, 0.02, 1.0),
            self._spread,
            self._pixel,
        )
        start = np.where(np.isfinite(problem.prior), problem.prior, self._middle)
        return problem, start

    def _adjusted(self, keys: np.ndarray, cameras: Cameras, freedom: Freedom, rounds: int = 12) -> _Found:
        problem, start = self._problem(keys, self._trusted(freedom))
        return _Found(*adjust(problem, cameras, start, freedom, self._lens.focal, rounds), freedom)

    def _decided(self, keys: np.ndarray, travelled: Cameras, turning: Cameras) -> _Found:
        """Return what explains the key frames: the simplest motion that explains them as well as any."""
        lens = "given" if self._lens.given else "one"
        constant = replace(turning, focal=np.full(len(turning.focal), self._lens.focal))
        turns = self._adjusted(keys, constant.take(keys), Freedom(travels=False, lens=lens))
        tries = [turns.cameras, travelled.take(keys)]
        travels = min(
            (self._lenses(keys, one, Freedom(lens=lens)) for one in tries), key=lambda one: one.cost
        )
        zooms = self._adjusted(keys, turning.take(keys), Freedom(travels=False, lens="zoom"))
        found = [turns, zooms, travels]
        if _range(zooms.cameras.focal) > ZOOM_RANGE:
            found.append(self._adjusted(keys, zooms.cameras, Freedom(lens="zoom")))
        self.tried = {(one.freedom.travels, one.freedom.lens): self._misfit(keys, one) for one in found}
        one = self._simplest(found)
        if one.freedom.travels and not self._vouched(keys, one):
            self._doubts.append(PLANE)
            least = self._misfit_of(one)
            one = self._simplest([turns, zooms])
            self._sure = min(1.0, least / max(self._misfit_of(one), 1e-9))
        return one

    def _simplest(self, found: Sequence[_Found]) -> _Found:
        """Return the first that explains the key frames as well as any."""
        least = min(self._misfit_of(one) for one in found)
        return next(one for one in found if self._misfit_of(one) <= EXPLAINED * least + SAME)

    def _misfit_of(self, one: _Found) -> float:
        return self.tried[one.freedom.travels, one.freedom.lens]

    def _vouched(self, keys: np.ndarray, one: _Found) -> bool:
        problem, start = self._problem(keys, self._trusted(one.freedom))
        return depth_vouches(problem, one.cameras, start)

    def _lenses(self, keys: np.ndarray, cameras: Cameras, freedom: Freedom) -> _Found:
        starts = (1.0,) if freedom.lens == "given" else LENSES
        tries = [
            self._adjusted(keys, replace(cameras, focal=cameras.focal * factor), freedom) for factor in starts
        ]
        return min(tries, key=lambda one: one.cost)

    def _misfit(self, keys: np.ndarray, found: _Found) -> float:
        """Return the mean error of the points that may stand still, in standard deviations of one."""
        problem, _ = self._problem(keys, np.maximum(*self._agreed.values()))
        error = np.linalg.norm(errors(problem, found.cameras, found.disparity), axis=1) / problem.pixel
        weight = standing(problem.xy, problem.prior[problem.track], self._tracks.size)
        weight *= problem.trust[problem.track]
        return float((weight * np.minimum(error, WRONG)).sum() / weight.sum())

    def _consistent(self, keys: np.ndarray, found: _Found) -> _Found:
        """Find gains and shift of the depth from points whose parallax tells theirs, and adjust again."""
        problem, _ = self._problem(keys, self._trusted(found.freedom))
        told = told_by_parallax(problem, found.cameras, found.disparity) & np.isfinite(problem.prior)
        if told.sum() < FEWEST_TOLD:
            return found
        ratio = np.log(found.disparity[told] / problem.prior[told])
        self._spread = float(np.clip(1.5 * deviation(ratio), 0.02, 0.5))
        if self._regains:
            self._regain(keys[problem.anchor[told]], ratio)
        return self._adjusted(keys, found.cameras, found.freedom)

    def _regain(self, frame: np.ndarray, ratio: np.ndarray) -> None:
        """Take the gains over from the logarithms of what points need, smoothed; the mean of all stays 1."""
        frames = self._tracks.frames
        at, median, weight = [], [], []
        for one in np.unique(frame):
            own = ratio[frame == one]
            at.append(one)
            median.append(np.median(own))
            weight.append(min(len(own), 40))
        sums, total = np.zeros(frames), np.zeros(frames)
        sums[at], total[at] = np.array(median) * weight, weight
        width = max(2.0, frames / 12)
        smooth = gaussian_filter1d(sums, width, mode="nearest") / np.maximum(
            gaussian_filter1d(total, width, mode="nearest"), 1e-9
        )
        self._gain = self._gain * np.exp(smooth - np.average(smooth))

    def _spread_out(self, keys: np.ndarray, found: _Found, chain: Cameras) -> Cameras:
        """Return cameras of all frames: those of key frames, and between them as the chain goes."""
        frames = self._tracks.frames
        nearest = np.searchsorted((keys[1:] + keys[:-1]) / 2, np.arange(frames))
        key = keys[nearest]
        relative = chain.rotation @ chain.rotation[key].transpose(0, 2, 1)
        shift = chain.translation - np.einsum("tij,tj->ti", relative, chain.translation[key])
        own = found.cameras
        rotation = relative @ own.rotation[nearest]
        translation = np.einsum("tij,tj->ti", relative, own.translation[nearest]) + shift
        if not found.freedom.travels:
            translation[:] = 0
        focal = np.interp(np.arange(frames), keys, own.focal)
        return Cameras(rotation, translation, focal, own.centre)

    def _refine(self, fine: np.ndarray, cameras: Cameras, freedom: Freedom) -> Cameras:
        """Return all cameras, adjusted together or placed among the points."""
        problem, start = self._problem(fine, self._trusted(freedom))
        own, disparity, _ = adjust(problem, cameras.take(fine), start, freedom, self._lens.focal, 15)
        error = np.linalg.norm(errors(problem, own, disparity), axis=1)
        wrong = np.bincount(problem.track, error > WRONG * self._pixel, minlength=len(disparity))
        count = np.bincount(problem.track, minlength=len(disparity))
        kept = (wrong < 0.5 * count)[problem.track]
        if kept.sum() > 6 * len(fine):
            sub = replace(problem, track=problem.track[kept], frame=problem.frame[kept], xy=problem.xy[kept])
            own, disparity, _ = adjust(sub, own, disparity, freedom, self._lens.focal, 8)
        rotation, translation = cameras.rotation.copy(), cameras.translation.copy()
        rotation[fine], translation[fine] = own.rotation, own.translation
        focal = np.interp(np.arange(self._tracks.frames), fine, own.focal)
        found = Cameras(rotation, translation, focal, own.centre)
        if len(fine) < self._tracks.frames:
            return placed(self._tracks, fine, found, disparity, self._pixel, travels=freedom.travels)
        return found


def spread_over(frames: int, most: int) -> np.ndarray:
    """Return at most `most` frame numbers, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, frames - 1, min(most, frames)).round().astype(int))


def _range(focal: np.ndarray) -> float:
    return float(np.log(focal.max() / focal.min()))


def _still(frames: int, lens: Lens) -> Cameras:
    return Cameras(
        np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3)), np.full(frames, lens.focal), lens.centre
    )
