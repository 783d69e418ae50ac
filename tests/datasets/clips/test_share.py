"""Shares of a dataset: which of several jobs works on a clip."""

import math
import unicodedata

import pytest

from recapture.datasets.clips.share import Share

IDS = [f"folder{number % 7}/clip{number:05d}" for number in range(4000)]


@pytest.mark.parametrize("of", [1, 2, 16, 37])
def test_every_clip_is_in_exactly_one_share(of):
    shares = [Share(number, of) for number in range(1, of + 1)]
    assert all(sum(share.holds(clip) for share in shares) == 1 for clip in IDS)


def test_shares_are_even_as_chance_makes_them():
    sizes = [sum(Share(number, 16).holds(clip) for clip in IDS) for number in range(1, 17)]
    deviation = math.sqrt(len(IDS) * (1 / 16) * (15 / 16))
    assert max(abs(size - len(IDS) / 16) for size in sizes) < 4.5 * deviation


def test_a_clip_keeps_its_share_for_good():
    # Fixed: a change would make jobs of two versions of the product work on the same clips, or on none.
    for clip, number in {"bmx/003": 10, "a": 11, "é": 4}.items():
        assert Share(number, 16).holds(clip)


@pytest.mark.parametrize(("one", "other"), [("Clip/A", "clip/a"), ("é", unicodedata.normalize("NFD", "é"))])
def test_ids_that_a_scan_takes_for_equal_are_in_one_share(one, other):
    assert all(Share(n, 1000).holds(one) == Share(n, 1000).holds(other) for n in range(1, 1001))


def test_shares_are_written_as_users_write_them():
    assert Share.parse("3/16") == Share(3, 16)
    assert Share(3, 16).folder == "3-of-16"
