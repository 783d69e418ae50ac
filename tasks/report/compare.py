"""The comparison of two jobs: differences of the same videos, with intervals by the bootstrap over clips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recapture.tasks.report.record import Report

RESAMPLES = 2000
LEVEL = 0.95
LEAST_CLIPS = 3  # an interval of fewer would say nothing


@dataclass(frozen=True)
class Difference:
    """A metric of the results of two jobs, over the videos that have it in both."""

    metric: str
    videos: int
    clips: int
    before: float  # means
    after: float
    mean: float  # of after - before
    low: float | None  # of the interval; None with too few clips
    high: float | None
    rose: int  # videos
    fell: int


@dataclass(frozen=True)
class Pair:
    """The place of one video in both jobs."""

    before: int
    after: int


def pairs(before: Report, after: Report) -> list[Pair]:
    """Return the videos, by clip and trajectory, that both jobs wanted."""
    one = before.videos
    places = {(one.clip[at], one.label[at]): at for at in range(len(one))}
    both = after.videos
    named = ((places.get((both.clip[at], both.label[at])), at) for at in range(len(both)))
    return [Pair(at, other) for at, other in named if at is not None]


def values(report: Report, places: list[int]) -> dict[str, np.ndarray]:
    """Return metric -> values [n] of the results of a job at these places, NaN where there is none."""
    main = next(iter(report.videos.methods), "")
    found = {}
    for name, column in report.videos.metrics.items():
        method, _, metric = name.partition("/")
        if method == main:
            whole = [*column, *[None] * (len(report.videos) - len(column))]
            found[metric] = np.array([math.nan if whole[at] is None else whole[at] for at in places], float)
    return found


def differences(before: Report, after: Report) -> list[Difference]:
    """Compare all metrics that both jobs have, over the videos of both.

    Trajectories of one clip depend on each other, so the bootstrap draws clips with all their videos.
    """
    both = pairs(before, after)
    first = values(before, [pair.before for pair in both])
    second = values(after, [pair.after for pair in both])
    clips = np.array([after.videos.clip[pair.after] for pair in both])
    return [
        difference(metric, first[metric], second[metric], clips)
        for metric in second
        if metric in first and (np.isfinite(first[metric]) & np.isfinite(second[metric])).any()
    ]


def difference(metric: str, before: np.ndarray, after: np.ndarray, clips: np.ndarray) -> Difference:
    """Compare one metric; before, after: [n], clips: the clip of each. At least one pair must be finite."""
    known = np.isfinite(before) & np.isfinite(after)
    one, other = before[known], after[known]
    steps = other - one
    names, group = np.unique(clips[known], return_inverse=True)
    low, high = interval(steps, group) if len(names) >= LEAST_CLIPS else (None, None)
    mean, means = float(steps.mean()), (float(one.mean()), float(other.mean()))
    moved = int((steps > 0).sum()), int((steps < 0).sum())
    return Difference(metric, len(steps), len(names), *means, mean, low, high, *moved)


def interval(
    steps: np.ndarray, group: np.ndarray, *, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """Return the percentile interval of the mean of steps [n]; group [n]: 0...G-1, what is drawn together."""
    sums, counts = np.bincount(group, weights=steps), np.bincount(group)
    draws, size = np.random.default_rng(0), len(sums)
    means = np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(draws.integers(size, size=size), minlength=size)
        means[number] = times @ sums / (times @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def most_changed(before: Report, after: Report, metric: str, count: int) -> list[Pair]:
    """Return the pairs whose metric fell or rose most, at most `count`."""
    both = pairs(before, after)
    one = values(before, [pair.before for pair in both])[metric]
    other = values(after, [pair.after for pair in both])[metric]
    size = np.nan_to_num(np.abs(other - one), nan=-1.0, posinf=-1.0)
    return [both[at] for at in np.argsort(-size, kind="stable")[:count]]


def metric_of(found: Mapping[str, object], preferred: tuple[str, ...]) -> str | None:
    """Return the first preferred metric that was measured."""
    return next((name for name in preferred if name in found), None)
