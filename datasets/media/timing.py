"""When a video's frames are shown, and how frames of varying length become frames at a constant rate."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

LONGEST_GAP = 60.0  # seconds that a frame may stand
_COMMON_RATES = tuple(
    Fraction(numerator, denominator)
    for numerator, denominator in (
        *((rate, 1) for rate in (5, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
        *((rate * 1000, 1001) for rate in (24, 30, 60, 120)),
    )
)


class TimingError(ValueError):
    """Times of frames that no constant rate can stand for."""


def constant_rate(times: Sequence[float], stated: Fraction | None) -> tuple[Fraction, np.ndarray]:
    """Return a constant rate for frames shown at `times` (seconds, rising), and how often each then is shown.

    Frames that lie within half a frame of an even spacing, as containers that round their times have them,
    are shown once each at the rate stated or measured. Otherwise the rate is that of most frames, and at each
    of its moments the last frame so far is shown: a longer one several times, a shorter one perhaps never.
    Raises: TimingError without any rate, or where a frame stands for more than a minute.
    """
    shown = np.asarray(times, dtype=np.float64)
    shown = shown - shown[0]
    steps = np.diff(shown)
    if not len(steps) or not steps.any():
        if not stated:
            raise TimingError("it states no frame rate; convert it to a constant frame rate")
        return stated, np.ones(len(shown), dtype=np.int64)
    if steps.max() > LONGEST_GAP:
        at = int(steps.argmax())
        raise TimingError(
            f"its times jump by {steps.max():.0f} seconds after frame {at}; cut it there, or write it again "
            "at a constant frame rate"
        )
    measured = _near_common(Fraction(len(steps) / float(shown[-1])))
    for rate in (stated, measured):
        if rate and (np.abs(shown * float(rate) - np.arange(len(shown))) < 0.5).all():
            return rate, np.ones(len(shown), dtype=np.int64)
    usual = np.median(steps[steps > 0])
    rate = _near_common(Fraction(1 / float(steps[np.abs(steps / usual - 1) < 0.1].mean())))
    slots = np.round(shown * float(rate)).astype(np.int64)
    return rate, np.diff(slots, append=slots[-1] + 1)


def _near_common(rate: Fraction) -> Fraction:
    nearest = min(_COMMON_RATES, key=lambda common: abs(common / rate - 1))
    return nearest if abs(nearest / rate - 1) < 0.0005 else rate.limit_denominator(1001)
