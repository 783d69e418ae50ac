"""Bundle adjustment of cameras, lens and points of a clip, where depth is predicted and so roughly known.

A track has one unknown, its disparity d in its anchor frame a. With the ray m of its anchor, frame t sees
Y = R m + d t, where (R, t) is the pose of t relative to a (Civera, Davison and Montiel, Inverse Depth
Parametrization, 2008). Levenberg-Marquardt; points are eliminated by the Schur complement, and errors
weighted by Cauchy's function, so that points on moving bodies do not decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, sparse
from scipy.spatial.transform import Rotation

from recapture.conf.heartbeat import beat

LENS_RANGE = 2.5  # of the guess: what a picture that is shifted and not turned would tell is beyond it
LENS_DEVIATION = 0.25  # of the logarithm of the focal length, where it is a guess
ZOOM_DEVIATION = 0.02  # of the same from one frame to the next, where the lens zooms


@dataclass(frozen=True)
class Cameras:
    """World to camera, and the focal length in pixels, of each frame."""

    rotation: np.ndarray  # [T, 3, 3]
    translation: np.ndarray  # [T, 3]
    focal: np.ndarray  # [T]
    centre: tuple[float, float]  # principal point

    def take(self, frames: np.ndarray) -> Cameras:
        """Return the cameras of some frames."""
        return Cameras(self.rotation[frames], self.translation[frames], self.focal[frames], self.centre)


@dataclass(frozen=True)
class Problem:
    """What is seen: for each observation beside the anchors, track, frame, and place."""

    anchor: np.ndarray  # [P] frame
    start: np.ndarray  # [P, 2] place in it
    track: np.ndarray  # [M]
    frame: np.ndarray  # [M]
    xy: np.ndarray  # [M, 2]
    prior: np.ndarray  # [P] disparity as predicted; NaN: unknown
    trust: np.ndarray  # [P] 0...1, how far a point is believed to stand still
    spread: float  # relative standard deviation of prior
    pixel: float  # standard deviation of xy


@dataclass(frozen=True)
class Freedom:
    """What may differ from the start."""

    travels: bool = True  # False: the camera turns only
    lens: str = "given"  # given, one (unknown, the same in all frames) or zoom


def project(problem: Problem, cameras: Cameras, disparity: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return Y [M,3], R [M,3,3], t [M,3], m [M,3] of the observations: see the top of the file."""
    anchor = problem.anchor[problem.track]
    start = problem.start[problem.track]
    ray = np.column_stack([(start - cameras.centre) / cameras.focal[anchor, None], np.ones(len(start))])
    rotation = cameras.rotation[problem.frame] @ cameras.rotation[anchor].transpose(0, 2, 1)
    shift = cameras.translation[problem.frame] - np.einsum(
        "mij,mj->mi", rotation, cameras.translation[anchor]
    )
    seen = np.einsum("mij,mj->mi", rotation, ray) + disparity[problem.track, None] * shift
    return seen, rotation, shift, ray


def errors(problem: Problem, cameras: Cameras, disparity: np.ndarray) -> np.ndarray:
    """Return the distances [M,2] in pixels between projection and place; large behind the camera."""
    seen = project(problem, cameras, disparity)[0]
    z = seen[:, 2:]
    ahead = z > 1e-3
    at = cameras.focal[problem.frame, None] * seen[:, :2] / np.where(ahead, z, 1.0) + cameras.centre
    return np.where(ahead, at - problem.xy, 1e3)


def adjust(
    problem: Problem,
    cameras: Cameras,
    disparity: np.ndarray,
    freedom: Freedom,
    guess: float,  # focal length before anything is known, where the lens is not given
    rounds: int = 12,
) -> tuple[Cameras, np.ndarray, float]:
    """Return cameras, disparities and the robust cost at a local minimum; the first frame keeps its pose."""
    system = _System(problem, len(cameras.focal), freedom, guess)
    cameras = replace(cameras, focal=system.within_range(cameras.focal))
    cost, damping = system.cost(cameras, disparity), 1e-3
    for _ in range(rounds):
        beat()
        step = system.linearised(cameras, disparity)
        improved = False
        for _ in range(6):
            moved = system.solve(step, damping)
            tried = system.moved(cameras, disparity, *moved)
            found = system.cost(*tried)
            if found < cost:
                improved = cost - found > 1e-4 * cost
                (cameras, disparity), cost, damping = tried, found, max(damping / 5, 1e-9)
                break
            damping *= 6
        if not improved:
            break
    return cameras, disparity, cost


@dataclass(frozen=True)
class _Step:
    """The normal equations: cameras C, points P."""

    cc: np.ndarray  # [C, C]
    cp: sparse.csr_matrix  # [C, P]
    pp: np.ndarray  # [P]
    c: np.ndarray  # [C] gradients
    p: np.ndarray  # [P]


class _System:
    """Costs and normal equations of a problem."""

    def __init__(self, problem: Problem, frames: int, freedom: Freedom, guess: float) -> None:
        self._problem, self._frames, self._freedom, self._guess = problem, frames, freedom, guess
        lenses = {"given": 0, "one": 1, "zoom": frames}[freedom.lens]
        self._size = 6 * frames + lenses
        track, frame = problem.track, problem.frame
        anchor = problem.anchor[track]
        six = np.arange(6)
        columns = [6 * frame[:, None] + six, 6 * anchor[:, None] + six]
        if freedom.lens == "one":
            columns.append(np.full((len(track), 1), 6 * frames))
        elif freedom.lens == "zoom":
            columns += [6 * frames + frame[:, None], 6 * frames + anchor[:, None]]
        self._columns = np.repeat(np.concatenate(columns, axis=1), 2, axis=0)
        self._indptr = np.arange(0, self._columns.size + 1, self._columns.shape[1])
        free = np.ones(self._size, bool)
        free[:6] = False
        if not freedom.travels:
            free[: 6 * frames].reshape(frames, 6)[:, 3:] = False
        self._free = np.flatnonzero(free)
        self._trust = problem.trust[track]

    def cost(self, cameras: Cameras, disparity: np.ndarray) -> float:
        error = errors(self._problem, cameras, disparity) / self._problem.pixel
        total = (self._trust * np.log1p((error**2).sum(1))).sum()
        prior = self._prior(disparity)[0]
        total += np.log1p(prior**2).sum()
        return float(total + sum((part**2).sum() for part, _ in self._lens(cameras)))

    def _prior(self, disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return errors of the disparities and their slopes; 0 where nothing is known."""
        problem = self._problem
        known = np.isfinite(problem.prior)
        slope = np.where(known, 1 / (problem.spread * np.where(known, problem.prior, 1.0)), 0.0)
        return slope * (disparity - np.where(known, problem.prior, 0.0)), slope

    def _lens(self, cameras: Cameras) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return errors of the logarithms of focal lengths, and their slopes [n, lenses]."""
        if self._freedom.lens == "given":
            return []
        logarithm = np.log(cameras.focal)
        if self._freedom.lens == "one":
            return [((logarithm[:1] - np.log(self._guess)) / LENS_DEVIATION, np.eye(1) / LENS_DEVIATION)]
        eye = np.eye(self._frames)
        first = ((logarithm[:1] - np.log(self._guess)) / LENS_DEVIATION, eye[:1] / LENS_DEVIATION)
        return [first, (np.diff(logarithm) / ZOOM_DEVIATION, np.diff(eye, axis=0) / ZOOM_DEVIATION)]

    def linearised(self, cameras: Cameras, disparity: np.ndarray) -> _Step:
        problem = self._problem
        by_cameras, by_points, error = self._slopes(cameras, disparity)
        weight = np.sqrt(self._trust / (1 + (error**2).sum(1)))[:, None]
        by_cameras *= weight[..., None]
        by_points, error = by_points * weight, error * weight
        count = 2 * len(error)
        camera = sparse.csr_matrix(
            (by_cameras.reshape(count, -1).ravel(), self._columns.ravel(), self._indptr),
            shape=(count, self._size),
        )
        points = sparse.csr_matrix(
            (by_points.ravel(), np.repeat(problem.track, 2), np.arange(count + 1)),
            shape=(count, len(problem.anchor)),
        )
        flat = error.ravel()
        prior, slope = self._prior(disparity)
        trust = 1 / (1 + prior**2)
        cc = np.asarray((camera.T @ camera).todense())
        c = camera.T @ flat
        pp = np.asarray(points.multiply(points).sum(0)).ravel() + trust * slope**2
        p = points.T @ flat + trust * slope * prior
        for part, slopes in self._lens(cameras):
            cc[6 * self._frames :, 6 * self._frames :] += slopes.T @ slopes
            c[6 * self._frames :] += slopes.T @ part
        return _Step(cc, (camera.T @ points).tocsr(), pp, c, p)

    def _slopes(self, cameras: Cameras, disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how errors [M,2], in standard deviations, change with cameras [M,2,k] and points [M,2]."""
        problem, focal = self._problem, cameras.focal
        seen, rotation, shift, ray = project(problem, cameras, disparity)
        d = disparity[problem.track]
        z = seen[:, 2]
        ahead = z > 1e-3
        z = np.where(ahead, z, 1.0)
        lens = focal[problem.frame] / problem.pixel
        flat = np.zeros((len(z), 2, 3))
        flat[:, 0, 0] = flat[:, 1, 1] = lens / z
        flat[:, :, 2] = -(lens / z**2)[:, None] * seen[:, :2]
        flat[~ahead] = 0
        turned = flat @ rotation
        parts = [-flat @ _cross(seen), d[:, None, None] * flat, turned @ _cross(ray)]
        parts.append(-d[:, None, None] * turned)
        if self._freedom.lens != "given":
            own = (lens / z)[:, None] * seen[:, :2] * ahead[:, None]
            at_anchor = -(turned[:, :, :2] @ ray[:, :2, None])[..., 0]
            if self._freedom.lens == "one":
                parts.append((own + at_anchor)[..., None])
            else:
                parts += [own[..., None], at_anchor[..., None]]
        error = errors(problem, cameras, disparity) / problem.pixel
        return np.concatenate(parts, axis=2), np.einsum("mij,mj->mi", flat, shift), error

    def solve(self, step: _Step, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps of cameras [C] and points [P]."""
        pp = step.pp * (1 + damping) + 1e-12
        scaled = step.cp.multiply(1 / pp[None]).tocsr()
        reduced = step.cc - np.asarray((scaled @ step.cp.T).todense())
        right = -(step.c - scaled @ step.p)
        diagonal = np.diag(step.cc)
        reduced[np.diag_indices(len(reduced))] += damping * diagonal + 1e-6 * diagonal.max() * 1e-6
        camera, free = np.zeros(self._size), self._free
        try:
            camera[free] = linalg.solve(reduced[np.ix_(free, free)], right[free], assume_a="pos")
        except linalg.LinAlgError:
            return camera, np.zeros(len(pp))
        return camera, (-step.p - step.cp.T @ camera) / pp

    def moved(
        self, cameras: Cameras, disparity: np.ndarray, camera: np.ndarray, points: np.ndarray
    ) -> tuple[Cameras, np.ndarray]:
        frames = self._frames
        pose = camera[: 6 * frames].reshape(frames, 6)
        turn = Rotation.from_rotvec(pose[:, :3]).as_matrix()
        rotation = turn @ cameras.rotation
        translation = np.einsum("tij,tj->ti", turn, cameras.translation) + pose[:, 3:]
        focal = cameras.focal
        if self._freedom.lens != "given":
            focal = self.within_range(focal * np.exp(np.clip(camera[6 * frames :], -0.3, 0.3)))
        least = 1e-4 * np.nanmedian(np.abs(disparity)) if len(disparity) else 0.0
        return (
            replace(cameras, rotation=rotation, translation=translation, focal=focal),
            np.maximum(disparity + points, least),
        )

    def within_range(self, focal: np.ndarray) -> np.ndarray:
        """Return focal lengths [T] whose median is within the range of an unknown lens; zooms stay."""
        if self._freedom.lens == "given":
            return focal
        middle = float(np.median(focal)) / self._guess
        return focal * np.clip(middle, 1 / LENS_RANGE, LENS_RANGE) / middle


def _cross(vectors: np.ndarray) -> np.ndarray:
    """Return the matrices [...,3,3] whose product with b is the cross product of vectors [...,3] and b."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, -1) for row in rows], -2)
