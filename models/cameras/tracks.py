"""Points of a clip followed from frame to frame: what camera poses are estimated from.

Corners are found in key frames, spread over a grid so that no busy surface has them all, and followed by
pyramidal Lucas-Kanade in both directions of time; each is then aligned once more with the picture in which it
was found, so that errors do not add up. Their predicted disparity is read where they are seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from recapture.conf.heartbeat import beat

LONG_SIDE = 832  # pixels; larger frames are shrunk to it
LEAST_SIDE = 416  # smaller ones are enlarged, since points are followed by linear interpolation
GRID = (9, 12)  # rows and columns of cells among which corners are shared out
PER_CELL = 4
KEY_EVERY = 8  # frames between key frames, at most
RENEW_BELOW = 0.6  # of the cells that had points in the last key frame: with fewer, a new one begins
LONGEST = 60  # frames that a point is followed
CUT_ALIVE = 0.12  # of the points: when fewer can be followed to the next frame, there may be a cut
CUT_UNLIKE = 0.25  # distance of the pictures' histograms that is a cut, if points are lost too
SHADE = 0.02  # of the width: standard deviation of the blur that is subtracted
EDGE = 1.15  # ratio of depths in the 3x3 pixels around a point at which its depth is not used
_STOP = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 20, 0.02)


@dataclass(frozen=True)
class Tracks:
    """Observations, sorted by track and frame; the first one of a track is its anchor."""

    track: np.ndarray  # [N] int
    frame: np.ndarray  # [N] int
    xy: np.ndarray  # [N, 2] pixels, centres at +0.5
    disparity: np.ndarray  # [N] predicted 1/z; NaN where unknown or at an edge
    frames: int
    cuts: tuple[int, ...]  # first frames of shots, without 0
    size: tuple[int, int]  # (width, height) of the pictures

    def of_frames(self, start: int, stop: int) -> Tracks:
        """Return the part of a range of frames, counted from its first."""
        kept = (self.frame >= start) & (self.frame < stop)
        return self.select(kept, start, stop - start)

    def select(self, kept: np.ndarray, start: int = 0, frames: int | None = None) -> Tracks:
        """Return some of the observations, of tracks that still have at least two; tracks get new numbers."""
        number, count = np.unique(self.track[kept], return_counts=True)
        enough = kept & np.isin(self.track, number[count >= 2])
        return Tracks(
            np.unique(self.track[enough], return_inverse=True)[1],
            self.frame[enough] - start,
            self.xy[enough],
            self.disparity[enough],
            self.frames if frames is None else frames,
            (),
            self.size,
        )

    def __len__(self) -> int:
        return int(self.track.max()) + 1 if len(self.track) else 0

    @property
    def first(self) -> np.ndarray:
        """Return [tracks] the index of the anchor of each track."""
        return np.searchsorted(self.track, np.arange(len(self)))


class Follower:
    """Follows points through the frames of a clip, which are given one after the other."""

    def __init__(self) -> None:
        self._grey = np.zeros((0, 0), np.uint8)
        self._histogram = np.zeros(0)
        self._anchors: dict[int, np.ndarray] = {}  # key frame -> its picture
        self._alive = _Alive.none()
        self._count = self._frame = self._cells = 0
        self._key = -KEY_EVERY
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._cuts: list[int] = []
        self._factor, self._size = 1.0, (0, 0)

    def add(self, rgb: np.ndarray, depth: np.ndarray, known: np.ndarray) -> None:
        """Take the next frame: uint8 [H,W,3], depth [H,W], and known bool [H,W], where points may be."""
        beat()
        grey = self._scaled(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY))
        window = (15, 15)
        histogram = _histogram(rgb)
        if self._frame:
            self._follow(grey, window)
            if self._is_cut(histogram):
                self._cuts.append(self._frame)
                self._alive, self._anchors = _Alive.none(), {}
        cells = len(np.unique(_cell(self._alive.xy, grey.shape)))
        if self._frame - self._key >= KEY_EVERY or cells < RENEW_BELOW * self._cells:
            self._renew(grey, known)
            self._anchors[self._frame] = grey
            self._key = self._frame
            self._cells = len(np.unique(_cell(self._alive.xy, grey.shape)))
        live = set(self._alive.anchor.tolist())
        self._anchors = {frame: one for frame, one in self._anchors.items() if frame in live}
        self._note(depth, known)
        self._grey, self._histogram = grey, histogram
        self._frame += 1

    def tracks(self) -> Tracks:
        """Return what was followed through at least two frames."""
        empty = (np.zeros(0, int), np.zeros((0, 2)), np.zeros(0), np.zeros(0, int))
        parts = self._rows or [empty]
        track, xy, disparity, frame = (np.concatenate(column) for column in zip(*parts))
        order = np.lexsort((frame, track))
        whole = Tracks(track[order], frame[order], xy[order], disparity[order], self._frame, (), self._size)
        kept = whole.select(np.ones(len(order), bool))
        return Tracks(
            kept.track, kept.frame, kept.xy, kept.disparity, self._frame, tuple(self._cuts), self._size
        )

    def _scaled(self, grey: np.ndarray) -> np.ndarray:
        """Return the picture at the size in which points are followed, without its slow shades.

        So neither exposure that drifts nor a flash moves or loses points.
        """
        height, width = grey.shape
        self._size = (width, height)
        longer = max(height, width)
        factor = min(1.0, LONG_SIDE / longer) if longer >= LEAST_SIDE else LEAST_SIDE / longer
        self._factor = factor
        if factor != 1.0:
            how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            grey = cv2.resize(grey, (round(width * factor), round(height * factor)), interpolation=how)
        shade = cv2.GaussianBlur(grey, (0, 0), SHADE * grey.shape[1])
        return np.asarray(cv2.addWeighted(grey, 1.0, shade, -1.0, 128.0))

    def _follow(self, grey: np.ndarray, window: tuple[int, int]) -> None:
        alive = self._alive
        self._before = len(alive)
        if not self._before:
            return
        there = _flow(self._grey, grey, alive.xy, alive.xy + alive.speed, window)
        for anchor, first in self._anchors.items():
            own = np.flatnonzero(alive.anchor == anchor)
            if len(own) and anchor != self._frame - 1:
                exact = _flow(first, grey, alive.start[own], there[own], window, back=False)
                close = np.linalg.norm(exact - there[own], axis=1) < 1.5
                there[own] = np.where(close[:, None], exact, there[own])
        kept = np.isfinite(there[:, 0]) & (self._frame - alive.anchor < LONGEST)
        self._lost = 1.0 - np.isfinite(there[:, 0]).mean()
        self._alive = alive.moved(there).take(kept)

    def _is_cut(self, histogram: np.ndarray) -> bool:
        unlike = float(np.abs(histogram - self._histogram).sum() / 2)
        if self._before < 12:
            return unlike > 2 * CUT_UNLIKE
        return self._lost > 1 - CUT_ALIVE and unlike > CUT_UNLIKE

    def _renew(self, grey: np.ndarray, known: np.ndarray) -> None:
        height, width = grey.shape
        apart = max(4, width // 90)
        free = cv2.resize(known.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        for x, y in self._alive.xy:
            cv2.circle(free, (int(x), int(y)), apart, 0, -1)
        strength = cv2.cornerMinEigenVal(grey, 5, 3)
        threshold = max(1e-4, 1e-3 * float(strength.max()))
        peak = (strength == cv2.dilate(strength, np.ones((5, 5)))) & (strength > threshold) & (free > 0)
        peak[:4], peak[-4:], peak[:, :4], peak[:, -4:] = False, False, False, False
        rows, columns = np.nonzero(peak)
        order = np.argsort(-strength[rows, columns], kind="stable")
        points = np.stack([columns, rows], axis=1)[order].astype(np.float64)
        held = np.bincount(_cell(self._alive.xy, grey.shape), minlength=GRID[0] * GRID[1])
        cell = _cell(points, grey.shape)
        by_cell = np.argsort(cell, kind="stable")
        rank = np.empty(len(cell), int)
        starts = np.searchsorted(cell[by_cell], np.arange(GRID[0] * GRID[1]))
        rank[by_cell] = np.arange(len(cell)) - starts[cell[by_cell]]
        points = points[rank < np.maximum(PER_CELL - held, 0)[cell]]
        if len(points):
            self._alive = self._alive.with_new(self._count, self._frame, points)
            self._count += len(points)

    def _note(self, depth: np.ndarray, known: np.ndarray) -> None:
        xy = (self._alive.xy + 0.5) / self._factor
        height, width = depth.shape
        column = np.clip(xy[:, 0].astype(int), 1, width - 2)
        row = np.clip(xy[:, 1].astype(int), 1, height - 2)
        around = np.stack([depth[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        usable = np.stack([known[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]).all(0)
        with np.errstate(all="ignore"):
            flat = usable & (around.max(0) < EDGE * around.min(0)) & (around.min(0) > 0)
            disparity = np.where(flat, 1 / around[4], np.nan)
        self._rows.append((self._alive.number, xy, disparity, np.full(len(xy), self._frame)))


@dataclass(frozen=True)
class _Alive:
    """The points that are followed now, in pixels of the measured picture with centres at 0."""

    number: np.ndarray
    anchor: np.ndarray  # key frame
    start: np.ndarray  # [n, 2] where it is there
    xy: np.ndarray  # [n, 2]
    speed: np.ndarray  # [n, 2]

    @classmethod
    def none(cls) -> _Alive:
        return cls(np.zeros(0, int), np.zeros(0, int), *(np.zeros((0, 2)) for _ in range(3)))

    def __len__(self) -> int:
        return len(self.number)

    def take(self, kept: np.ndarray) -> _Alive:
        return _Alive(self.number[kept], self.anchor[kept], self.start[kept], self.xy[kept], self.speed[kept])

    def moved(self, there: np.ndarray) -> _Alive:
        return _Alive(self.number, self.anchor, self.start, there, there - self.xy)

    def with_new(self, count: int, frame: int, points: np.ndarray) -> _Alive:
        new = len(points)
        return _Alive(
            np.concatenate([self.number, count + np.arange(new)]),
            np.concatenate([self.anchor, np.full(new, frame)]),
            np.concatenate([self.start, points]),
            np.concatenate([self.xy, points]),
            np.concatenate([self.speed, np.zeros_like(points)]),
        )


def _flow(
    before: np.ndarray,
    after: np.ndarray,
    points: np.ndarray,
    guess: np.ndarray,
    window: tuple[int, int],
    *,
    back: bool = True,
) -> np.ndarray:
    """Return where points [n,2] are in the next picture; NaN where lost, or where the way back differs."""
    lost = ~np.isfinite(guess[:, 0])
    start = points.astype(np.float32)[:, None]
    first = np.where(lost[:, None], 0, guess).astype(np.float32)[:, None]
    how: dict[str, Any] = {"winSize": window, "maxLevel": 4, "criteria": _STOP}
    how |= {"flags": cv2.OPTFLOW_USE_INITIAL_FLOW, "minEigThreshold": 1e-4}
    if not back:
        how["maxLevel"] = 1
    there, ok, error = cv2.calcOpticalFlowPyrLK(before, after, start, first.copy(), **how)
    x, y = there[:, 0, 0], there[:, 0, 1]
    height, width = before.shape
    kept = (ok[:, 0] == 1) & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1) & ~lost
    kept &= error[:, 0] < 30
    if back:
        again, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, start.copy(), **how)
        kept &= (returned[:, 0] == 1) & (np.linalg.norm(again[:, 0] - start[:, 0], axis=1) < 0.5)
    return np.where(kept[:, None], there[:, 0].astype(np.float64), np.nan)


def _cell(xy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of the cell of the grid that holds each point [n,2]."""
    row = np.clip((xy[:, 1] * GRID[0] / shape[0]).astype(int), 0, GRID[0] - 1)
    column = np.clip((xy[:, 0] * GRID[1] / shape[1]).astype(int), 0, GRID[1] - 1)
    return np.asarray(row * GRID[1] + column)


def _histogram(rgb: np.ndarray) -> np.ndarray:
    """Return the histogram of colours [512], sum 1, of about ten thousand pixels."""
    step = max(1, round((rgb.shape[0] * rgb.shape[1] / 10_000) ** 0.5))
    small = rgb[::step, ::step].astype(np.int64) >> 5
    return np.bincount((small[..., 0] * 64 + small[..., 1] * 8 + small[..., 2]).ravel(), minlength=512) / (
        small.shape[0] * small.shape[1]
    )


def follow(frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Tracks:
    """Return the tracks of frames: rgb uint8 [H,W,3], depth [H,W], known bool [H,W]."""
    follower = Follower()
    for rgb, depth, known in frames:
        follower.add(rgb, depth, known)
    return follower.tracks()
