"""The choice of the next round, or the reason why there is none."""

from __future__ import annotations

from recapture.conf.tune import CurriculumConfig
from recapture.models.tuning.curriculum import Quality, Round, next_round


class Unmeasured(Exception):
    """The quality at this angle has to be measured first."""

    def __init__(self, angle: float) -> None:
        super().__init__(angle)
        self.angle = angle


def first_round(curriculum: CurriculumConfig) -> Round:
    """Return the first round of every schedule."""
    one = curriculum.rounds[0]
    return Round(one.low, one.high, one.steps)


def following_round(
    curriculum: CurriculumConfig, number: int, one: Round, quality: Quality
) -> tuple[Round | None, str]:
    """Return the round after round `number`, or None and the reason.

    quality: mean cycle PSNR in dB at an angle with the newest adapter. A given round needs the threshold at
    its largest angle; below it, its recaptures would not be used as pairs.
    """
    if curriculum.schedule == "auto":
        return _searched(curriculum, number, one, quality)
    if number + 1 == len(curriculum.rounds):
        return None, "All rounds were made."
    given = curriculum.rounds[number + 1]
    reached = quality(given.high)
    if reached >= curriculum.threshold:
        return Round(given.low, given.high, given.steps), ""
    return None, (
        f"Stopped after round {number}: {reached:.1f} dB at {given.high:g} degrees, less than "
        f"tune.curriculum.threshold {curriculum.threshold:g}."
    )


def _searched(
    curriculum: CurriculumConfig, number: int, one: Round, quality: Quality
) -> tuple[Round | None, str]:
    if number + 1 >= curriculum.max_rounds:
        return None, f"All {curriculum.max_rounds} rounds of tune.curriculum.max_rounds were made."
    climb = next_round(
        quality,
        one,
        threshold=curriculum.threshold,
        steps=one.steps,
        limit=curriculum.limit,
        stride=curriculum.stride,
        tolerance=curriculum.tolerance,
    )
    if climb.round is not None:
        return climb.round, ""
    if one.high >= curriculum.limit:
        return None, f"tune.curriculum.limit, {curriculum.limit:g} degrees, is reached."
    return None, (
        f"Stopped after round {number}: beyond {one.high:g} degrees quality falls below "
        f"tune.curriculum.threshold {curriculum.threshold:g} dB."
    )
