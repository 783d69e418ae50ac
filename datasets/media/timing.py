"""Convert the display times of a video's frames to a constant rate."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

LONGEST_GAP = 60.0  # seconds that one frame may be shown
_COMMON_RATES = tuple(
    Fraction(numerator, denominator)
    for numerator, denominator in (
        *((rate, 1) for rate in (5, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
        *((rate * 1000, 1001) for rate in (24, 30, 60, 120)),
    )
)


class TimingError(ValueError):
    """The times of frames do not fit any constant rate."""


def constant_rate(times: Sequence[float], stated: Fraction | None) -> tuple[Fraction, np.ndarray]:
    """Return a constant rate for frames shown at `times` (seconds, rising), and how often each is repeated.

    If all frames are within half a frame of an even spacing, as in containers that round their times, each is
    shown once at the stated or measured rate. Otherwise the rate is that of most frames, and each slot shows
    the latest frame: a long frame fills several slots, a short one perhaps none.
    Raises: TimingError if there is no rate at all, or if a frame is shown for more than a minute.
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
            f"its times jump by {steps.max():.0f} seconds after frame {at}; cut it there, or convert it "
            "to a constant frame rate"
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
