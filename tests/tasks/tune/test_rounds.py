"""Which round follows: given or searched, and the words for why none does."""

import math
from itertools import pairwise

import pytest
from pydantic import ValidationError

from recapture.conf.tune import CurriculumConfig, PairsConfig, TuneConfig
from recapture.models.tuning.curriculum import Round
from recapture.tasks.tune.rounds import first_round, following_round


def falling(angle):
    """30 dB at no angle, half a dB less with every degree."""
    return 30 - angle / 2


def all_rounds(curriculum, quality):
    rounds, one = [], first_round(curriculum)
    while one is not None:
        rounds.append((one.low, one.high))
        one, why = following_round(curriculum, len(rounds) - 1, one, quality)
    return rounds, why


def test_given_rounds_are_made_in_order_while_their_largest_angle_reaches_the_threshold():
    assert all_rounds(CurriculumConfig(threshold=10), falling) == (
        [(5, 15), (15, 25), (25, 40)],
        "All rounds were made.",
    )
    rounds, why = all_rounds(CurriculumConfig(threshold=15), falling)
    assert rounds == [(5, 15), (15, 25)]
    assert why == ("Stopped after round 1: 10.0 dB at 40 degrees, less than tune.curriculum.threshold 15.")


def test_a_quality_that_is_no_number_ends_the_rounds():
    assert all_rounds(CurriculumConfig(), lambda angle: math.nan)[0] == [(5, 15)]


def test_searched_rounds_end_where_quality_does():
    curriculum = CurriculumConfig(schedule="auto", threshold=12, stride=8, tolerance=1, limit=60)
    rounds, why = all_rounds(curriculum, falling)
    assert rounds[0] == (5, 15) and 35 <= rounds[-1][1] <= 36
    assert all(after[0] == before[1] for before, after in pairwise(rounds))
    assert "quality falls below tune.curriculum.threshold 12 dB" in why


def test_searched_rounds_end_at_the_limit_and_at_the_number_that_is_allowed():
    def better_every_time(angle):
        return 30.0 if angle <= reached[-1] + 10 else 0.0

    reached = [15.0]
    curriculum = CurriculumConfig(schedule="auto", max_rounds=3)
    one, found = first_round(curriculum), []
    for number in range(3):
        one, why = following_round(curriculum, number, one, better_every_time)
        if one is not None:
            found.append(one)
            reached.append(one.high)
    assert len(found) == 2 and "tune.curriculum.max_rounds" in why
    near = CurriculumConfig(schedule="auto", limit=15)
    assert following_round(near, 0, Round(5, 15, 60), falling) == (
        None,
        "tune.curriculum.limit, 15 degrees, is reached.",
    )


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (PairsConfig, {"window": 16}, "use 13 or 17|use 17 or 21"),
        (CurriculumConfig, {"rounds": [{"low": 20, "high": 10}]}, "from 20 down to 10"),
        (CurriculumConfig, {"rounds": [{"low": 5, "high": 20}, {"low": 5, "high": 20}]}, "no further than"),
        (CurriculumConfig, {"stride": 2, "tolerance": 4}, "more than stride"),
        (PairsConfig, {"shares": dict.fromkeys(("point_cloud", "union", "edit", "prior"), 0)}, "every share"),
        (TuneConfig, {"workers": 3}, "multiple of 3"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_way_out(model, given, words):
    with pytest.raises(ValidationError, match=words):
        model(**given)
