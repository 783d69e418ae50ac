"""Which angles are tuned on when: given rounds, or as far as the tuned model's own output stays good.

quality(angle) is a callable, such as the cycle quality in dB of videos recaptured at that angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Quality = Callable[[float], float]


@dataclass(frozen=True)
class Round:
    """Steps of tuning on pairs of low to high degrees."""

    low: float
    high: float
    steps: int


@dataclass(frozen=True)
class AngleQuality:
    """A point of the angle-quality curve."""

    angle: float  # degrees
    quality: float


@dataclass(frozen=True)
class Climb:
    """What the search for the next round found."""

    round: Round | None  # None: the quality collapses at once, or the limit is reached
    curve: tuple[AngleQuality, ...]  # every angle measured, ascending


def next_round(
    quality: Quality,
    previous: Round,
    *,
    threshold: float,
    steps: int,
    limit: float,
    stride: float,
    tolerance: float,
) -> Climb:
    """Return the next round: from the end of the previous one to the largest angle of acceptable quality.

    Goes up from previous.high by `stride` degrees while quality is at least `threshold`, then halves the last
    stride until it is known to `tolerance` degrees; an angle beyond a collapse is never tried. The round
    begins at previous.high. None where the gain is less than `tolerance`, quality is not a number, or
    previous.high is the limit. Raises ValueError for a stride or tolerance that is not positive.
    """
    if not 0 < tolerance <= stride:
        raise ValueError(
            f"curriculum: stride {stride:g} and tolerance {tolerance:g}; use 0 < tolerance <= stride"
        )
    measured: dict[float, float] = {}

    def good(angle: float) -> bool:
        measured[angle] = quality(angle)
        return not math.isnan(measured[angle]) and measured[angle] >= threshold

    reached, collapsed = previous.high, math.inf
    while reached < limit and collapsed == math.inf:
        angle = min(reached + stride, limit)
        if good(angle):
            reached = angle
        else:
            collapsed = angle
    while collapsed - reached > tolerance and collapsed < math.inf:
        angle = (reached + collapsed) / 2
        if good(angle):
            reached = angle
        else:
            collapsed = angle
    curve = tuple(AngleQuality(angle, measured[angle]) for angle in sorted(measured))
    if reached - previous.high < min(tolerance, limit - previous.high) or reached <= previous.high:
        return Climb(None, curve)
    return Climb(Round(previous.high, reached, steps), curve)
