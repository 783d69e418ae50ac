"""Rounds against synthetic quality curves."""

import math
from itertools import pairwise

import pytest

from recapture.models.tuning.curriculum import AngleQuality, Round, next_round


def falling(angle):
    """20 dB at 37.3 degrees."""
    return 20 + (37.3 - angle) * 0.4


def climb(quality, previous, *, limit=90.0, stride=8.0, tolerance=1.0, **given):
    return next_round(quality, previous, limit=limit, stride=stride, tolerance=tolerance, **given)


@pytest.mark.parametrize("start", [10.0, 21.0, 30.0, 36.0])
def test_the_next_angle_is_the_largest_of_acceptable_quality(start):
    found = climb(falling, Round(0, start, 5), threshold=20, steps=7, tolerance=0.5)
    assert found.round is not None and (found.round.low, found.round.steps) == (start, 7)
    assert 37.3 - 0.5 <= found.round.high <= 37.3


def test_the_curve_holds_every_measurement_and_nothing_is_tried_beyond_a_collapse():
    tried = []

    def quality(angle):
        tried.append(angle)
        return 30.0 if angle < 20 or angle > 40 else 10.0  # good again behind the collapse

    found = climb(quality, Round(0, 8, 5), threshold=20, steps=5, stride=8, tolerance=1)
    assert found.round is not None and 19 <= found.round.high < 20
    assert max(tried) == 24 and len(tried) == len(set(tried))
    assert found.curve == tuple(AngleQuality(a, 30.0 if a < 20 else 10.0) for a in sorted(tried))


def test_it_stops_where_quality_collapses_at_once_and_at_the_limit():
    assert climb(falling, Round(20, 38, 5), threshold=20, steps=5).round is None
    assert climb(lambda angle: math.nan, Round(0, 20, 5), threshold=20, steps=5).round is None
    end = climb(lambda angle: 50.0, Round(0, 20, 5), threshold=20, steps=5, limit=45)
    assert end.round == Round(20, 45, 5) and [point.angle for point in end.curve] == [28, 36, 44, 45]
    over = climb(lambda angle: 50.0, Round(20, 45, 5), threshold=20, steps=5, limit=45)
    assert over.round is None and over.curve == ()


def test_rounds_climb_as_tuning_moves_the_collapse():
    reached, rounds = 20.0, [Round(0, 15, 10)]
    while (
        found := climb(lambda a, r=reached: 25.0 - max(0, a - r), rounds[-1], threshold=22, steps=10)
    ).round:
        rounds.append(found.round)
        reached = min(40.0, found.round.high + 6)  # what tuning gains, up to a point
    assert all(one.high < after.high for one, after in pairwise(rounds))
    assert 41 <= rounds[-1].high <= 43 and 3 <= len(rounds) <= 6


def test_a_tolerance_of_nothing_is_refused():
    with pytest.raises(ValueError, match="tolerance"):
        climb(falling, Round(0, 10, 5), threshold=20, steps=5, tolerance=0)
