"""Rounds against synthetic quality curves."""

import math

import pytest

from recapture.models.tuning.curriculum import (
    ROUNDS,
    AngleQuality,
    Round,
    check_rounds,
    next_round,
    quality_curve,
)


def falling(angle):
    """20 dB at 37.3 degrees."""
    return 20 + (37.3 - angle) * 0.4


@pytest.mark.parametrize("start", [10.0, 21.0, 30.0, 36.0])
def test_the_next_angle_is_the_largest_of_acceptable_quality(start):
    climb = next_round(falling, Round(0, start, 5), threshold=20, steps=7, tolerance=0.5)
    assert climb.round is not None and (climb.round.low, climb.round.steps) == (start, 7)
    assert 37.3 - 0.5 <= climb.round.high <= 37.3


def test_the_curve_holds_every_measurement_and_nothing_is_tried_beyond_a_collapse():
    tried = []

    def quality(angle):
        tried.append(angle)
        return 30.0 if angle < 20 or angle > 40 else 10.0  # good again behind the collapse

    climb = next_round(quality, Round(0, 8, 5), threshold=20, steps=5, stride=8, tolerance=1)
    assert climb.round is not None and 19 <= climb.round.high < 20
    assert max(tried) == 24 and len(tried) == len(set(tried))
    assert climb.curve == tuple(AngleQuality(a, 30.0 if a < 20 else 10.0) for a in sorted(tried))


def test_it_stops_where_quality_collapses_at_once_and_at_the_limit():
    assert next_round(falling, Round(20, 38, 5), threshold=20, steps=5).round is None
    assert next_round(lambda angle: math.nan, Round(0, 20, 5), threshold=20, steps=5).round is None
    end = next_round(lambda angle: 50.0, Round(0, 20, 5), threshold=20, steps=5, limit=45)
    assert end.round == Round(20, 45, 5) and [point.angle for point in end.curve] == [28, 36, 44, 45]
    over = next_round(lambda angle: 50.0, Round(20, 45, 5), threshold=20, steps=5, limit=45)
    assert over.round is None and over.curve == ()


def test_rounds_climb_as_tuning_moves_the_collapse():
    reached, rounds = 20.0, [Round(0, 15, 10)]
    while (
        climb := next_round(lambda a, r=reached: 25.0 - max(0, a - r), rounds[-1], threshold=22, steps=10)
    ).round:
        rounds.append(climb.round)
        reached = min(40.0, climb.round.high + 6)  # what tuning gains, up to a point
    check_rounds(rounds)
    assert 41 <= rounds[-1].high <= 43 and 3 <= len(rounds) <= 6


def test_a_quality_curve_is_sorted_and_measures_once():
    assert quality_curve(falling, [30, 10, 10]) == tuple(AngleQuality(a, falling(a)) for a in (10, 30))


def test_fixed_rounds_are_checked():
    check_rounds(ROUNDS)
    for rounds, fault in (
        ([], "no rounds"),
        ([Round(20, 10, 5)], "round 0 is 20-10"),
        ([Round(0, 10, 0)], "0 steps"),
        ([Round(0, 20, 5), Round(5, 20, 5)], "order the rounds"),
    ):
        with pytest.raises(ValueError, match=fault):
            check_rounds(rounds)
    with pytest.raises(ValueError, match="tolerance"):
        next_round(falling, Round(0, 10, 5), threshold=20, steps=5, tolerance=0)
