"""First poses of a clip, one frame after the other: by predicted depth, or as if the camera only turned.

By depth: points lifted in their anchor frames are seen again (perspective from three points, RANSAC, then
robust Gauss-Newton). More than half of a picture may show bodies that move: points count more near the
border, far away, and if they agreed with the camera's motion before, and a cell of the picture counts once
however many points it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from recapture.conf.heartbeat import beat
from recapture.models.cameras.bundle import Cameras
from recapture.models.cameras.tracks import Tracks

SAMPLES = 48  # of three points per frame
TOLERANCE = 0.0025  # of the width: distance at which a point no longer agrees
FEWEST = 8  # points from which a pose is found; with fewer the camera is taken to go on as before
BORDER = 0.12  # of the sides
FAR = 30  # per cent of the points that are farther than what counts fully
NEAREST = 0.15  # weight of what is nearest
_CELLS = 8


def standing(xy: np.ndarray, disparity: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return how much points [n,2] count before anything is known of their motion.

    More near the border and far away, by their predicted disparities [n], for bodies stand before the rest;
    a cell of the picture counts once, however many points it has.
    """
    sides = np.array(size)
    cell = np.clip((xy / sides * _CELLS).astype(int), 0, _CELLS - 1) @ [1, _CELLS]
    crowd = np.bincount(cell, minlength=_CELLS**2)[cell]
    border = ((xy < BORDER * sides) | (xy > (1 - BORDER) * sides)).any(1)
    known = np.isfinite(disparity)
    far = float(np.percentile(disparity[known], FAR)) if known.any() else 1.0
    with np.errstate(all="ignore"):
        distance = np.where(known, np.clip(far / disparity, NEAREST, 1.0), NEAREST)
    return np.asarray((1.0 + 2.0 * border) / crowd * distance)


@dataclass(frozen=True)
class _Seen:
    """The tracks of one frame that began earlier."""

    track: np.ndarray
    anchor: np.ndarray  # frames
    start: np.ndarray  # [n, 2]
    xy: np.ndarray  # [n, 2]
    weight: np.ndarray  # [n]


class Trust:
    """How far each track agreed with the camera's motion so far, 0...1.

    disparity: [P] of the tracks, as predicted; what is near counts less, for bodies stand before the rest.
    """

    def __init__(self, tracks: Tracks, disparity: np.ndarray) -> None:
        self._tracks = tracks
        self.agreed = np.full(len(tracks), 0.5)
        self._disparity = disparity

    def seen(self, frame: int, usable: np.ndarray) -> _Seen:
        """Return the usable tracks [P] that the frame shows and that began before it."""
        tracks, first = self._tracks, self._tracks.first
        at = np.flatnonzero(tracks.frame == frame)
        track = tracks.track[at]
        kept = (first[track] != at) & usable[track]
        at, track = at[kept], track[kept]
        xy, size = tracks.xy[at], tracks.size
        weight = standing(xy, self._disparity[track], size) * (0.05 + self.agreed[track])
        return _Seen(track, tracks.frame[first[track]], tracks.xy[first[track]], xy, weight)

    def note(self, seen: _Seen, agrees: np.ndarray) -> None:
        """Take note of what a frame's points say."""
        self.agreed[seen.track] += 0.2 * (agrees - self.agreed[seen.track])


def chained(
    tracks: Tracks, disparity: np.ndarray, focal: float, centre: tuple[float, float]
) -> tuple[Cameras, np.ndarray]:
    """Return poses by the disparities [P] of the tracks (NaN: unknown) for a fixed focal length.

    Also return how far each track agrees with them, 0...1.
    """
    rotation = np.tile(np.eye(3), (tracks.frames, 1, 1))
    translation = np.zeros((tracks.frames, 3))
    rng, trust, usable = np.random.default_rng(0), Trust(tracks, disparity), np.isfinite(disparity)
    matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    reach = max(1.0, TOLERANCE * tracks.size[0])
    for frame in range(1, tracks.frames):
        beat()
        seen = trust.seen(frame, usable)
        before = rotation[frame - 1], translation[frame - 1]
        if len(seen.xy) < FEWEST:
            rotation[frame], translation[frame] = before
            continue
        near = disparity[seen.track]
        ray = np.column_stack([(seen.start - centre) / focal, np.ones(len(near))])
        world = np.einsum("nji,nj->ni", rotation[seen.anchor], ray / near[:, None] - translation[seen.anchor])
        best = _best(world, seen.xy, matrix, seen.weight, reach, before, rng)
        rotation[frame], translation[frame] = best
        error = _errors(world, seen.xy, matrix, *best)
        trust.note(seen, error < 1.5 * reach)
    return Cameras(rotation, translation, np.full(tracks.frames, focal), centre), trust.agreed


def _best(
    world: np.ndarray,
    xy: np.ndarray,
    matrix: np.ndarray,
    weight: np.ndarray,
    reach: float,
    before: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pose with the most support, refined."""
    found = [before, _refined(world, xy, matrix, weight, before, 4 * reach, 3)]
    chance = weight / weight.sum()
    for _ in range(SAMPLES):
        picked = rng.choice(len(xy), 3, replace=False, p=chance)
        _, turns, moves = cv2.solveP3P(world[picked], xy[picked], matrix, None, cv2.SOLVEPNP_AP3P)
        found += [(cv2.Rodrigues(turn)[0], move[:, 0]) for turn, move in zip(turns, moves)]
    rotations, shifts = (np.stack(parts) for parts in zip(*found))
    seen = np.einsum("hij,nj->hni", rotations, world) + shifts[:, None]
    z = seen[..., 2]
    with np.errstate(all="ignore"):
        at = seen[..., :2] / z[..., None] * [matrix[0, 0], matrix[1, 1]] + matrix[:2, 2]
        error = np.where(z > 1e-3, np.linalg.norm(at - xy, axis=2), np.inf)
    support = (weight * np.maximum(0, 1 - (error / (2 * reach)) ** 2)).sum(1)
    pose = found[int(support.argmax())]
    return _refined(world, xy, matrix, weight, pose, reach, 6)


def _errors(
    world: np.ndarray, xy: np.ndarray, matrix: np.ndarray, rotation: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    seen = world @ rotation.T + shift
    z = np.where(seen[:, 2] > 1e-3, seen[:, 2], np.nan)
    at = seen[:, :2] / z[:, None] * matrix[0, 0] + matrix[:2, 2]
    return np.nan_to_num(np.linalg.norm(at - xy, axis=1), nan=1e3)


def refined_pose(
    world: np.ndarray,  # [n, 3]
    xy: np.ndarray,  # [n, 2]
    focal: float,
    centre: tuple[float, float],
    pose: tuple[np.ndarray, np.ndarray],
    reach: float,
    *,
    travels: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pose of one frame at which points of known place fit best, by Cauchy's weights."""
    matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    return _refined(world, xy, matrix, np.ones(len(xy)), pose, reach, 8, travels=travels)


def _refined(
    world: np.ndarray,
    xy: np.ndarray,
    matrix: np.ndarray,
    weight: np.ndarray,
    pose: tuple[np.ndarray, np.ndarray],
    reach: float,
    rounds: int,
    *,
    travels: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    rotation, shift = pose
    focal, unknowns = matrix[0, 0], 6 if travels else 3
    for _ in range(rounds):
        seen = world @ rotation.T + shift
        z = seen[:, 2]
        ahead = z > 1e-3
        if ahead.sum() < 3:
            break
        x, y, z = seen[ahead].T
        error = np.column_stack([focal * x / z + matrix[0, 2], focal * y / z + matrix[1, 2]]) - xy[ahead]
        w = weight[ahead] / (1 + (error**2).sum(1) / reach**2)
        zero = np.zeros_like(x)
        slopes = (
            focal
            * np.stack(
                [
                    np.column_stack([-x * y / z**2, 1 + x**2 / z**2, -y / z, 1 / z, zero, -x / z**2]),
                    np.column_stack([-1 - y**2 / z**2, x * y / z**2, x / z, zero, 1 / z, -y / z**2]),
                ],
                1,
            )[..., :unknowns]
        )
        normal = np.einsum("n,nai,naj->ij", w, slopes, slopes)
        normal += 1e-9 * np.trace(normal) * np.eye(unknowns)
        step = np.linalg.solve(normal, -np.einsum("n,nai,na->i", w, slopes, error))
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        rotation, shift = turn @ rotation, turn @ shift + (step[3:] if travels else 0.0)
        if np.abs(step).max() < 1e-7:
            break
    return rotation, shift


def turned(
    tracks: Tracks, disparity: np.ndarray, focal: float, centre: tuple[float, float]
) -> tuple[Cameras, np.ndarray]:
    """Return poses and focal lengths as if the camera only turned and zoomed, and how tracks agree."""
    rotation = np.tile(np.eye(3), (tracks.frames, 1, 1))
    lens = np.full(tracks.frames, focal)
    trust, usable = Trust(tracks, disparity), np.ones(len(tracks), bool)
    reach = max(1.0, TOLERANCE * tracks.size[0])
    for frame in range(1, tracks.frames):
        beat()
        seen = trust.seen(frame, usable)
        rotation[frame], lens[frame] = rotation[frame - 1], lens[frame - 1]
        if len(seen.xy) < FEWEST:
            continue
        ray = np.column_stack([(seen.start - centre) / lens[seen.anchor, None], np.ones(len(seen.xy))])
        world = np.einsum("nji,nj->ni", rotation[seen.anchor], ray)
        here, focus = rotation[frame], lens[frame]
        for round_ in range(10):
            wide = reach * max(1.0, 8 / 2**round_)
            x, y, z = (world @ here.T).T
            z = np.maximum(z, 0.05)
            at = focus * np.column_stack([x / z, y / z])
            error = at + centre - seen.xy
            w = seen.weight / (1 + (error**2).sum(1) / wide**2)
            slopes = (
                np.stack(
                    [
                        np.column_stack([-x * y / z**2, 1 + x**2 / z**2, -y / z, x / z]),
                        np.column_stack([-1 - y**2 / z**2, x * y / z**2, x / z, y / z]),
                    ],
                    1,
                )
                * focus
            )
            normal = np.einsum("n,nai,naj->ij", w, slopes, slopes)
            normal += 1e-9 * np.trace(normal) * np.eye(len(normal))
            step = np.linalg.solve(normal, -np.einsum("n,nai,na->i", w, slopes, error))
            here = Rotation.from_rotvec(step[:3]).as_matrix() @ here
            focus *= float(np.exp(np.clip(step[3], -0.2, 0.2)))
        rotation[frame], lens[frame] = here, focus
        trust.note(seen, np.linalg.norm(error, axis=1) < 1.5 * reach)
    return Cameras(rotation, np.zeros((tracks.frames, 3)), lens, centre), trust.agreed
