"""The holes of pre-training: shapes, shares, and that objects vanish whole."""

import pytest
import torch

from recapture.models.training.masks import FAMILIES, SHARES, draw_masks, objects
from recapture.models.training.seeds import generator

SIZE = (9, 48, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_a_function_of_its_seed_and_covers_a_sensible_share(family):
    first = FAMILIES[family](64, SIZE, generator(0, 1, "cpu"))
    assert first.shape == (64, *SIZE) and first.dtype == torch.bool
    assert torch.equal(first, FAMILIES[family](64, SIZE, generator(0, 1, "cpu")))
    shown = first.float().mean()
    if family == "nothing":
        assert shown == 0
    elif family in ("first_frames", "both_ends"):
        whole = first.flatten(2)
        assert (whole.all(2) | ~whole.any(2)).all() and first[:, 0].all() and not first.all(0).all()
        assert first[:, -1].all() == (family == "both_ends")
    elif family == "first_frame":
        assert first[:, 0].all() and not first[:, 1:].any()
    else:
        assert not torch.equal(first, FAMILIES[family](64, SIZE, generator(0, 2, "cpu")))
        assert 0.05 < shown < 0.95
    if family == "some_frames":
        whole = first.flatten(2)
        assert (whole.all(2) | ~whole.any(2)).all()


def test_a_hidden_object_is_hidden_in_every_frame_with_a_margin_and_the_rest_stays():
    ids = torch.zeros((1, 3, 32, 32), dtype=torch.int64)
    for t in range(3):
        ids[0, t, 4 + 3 * t : 14 + 3 * t, 8:18] = 2
    visible = objects(ids, generator(0, 0, "cpu"))[0]
    for t in range(3):
        expected = torch.ones(32, 32, dtype=torch.bool)
        expected[2 + 3 * t : 16 + 3 * t, 6:20] = False
        assert torch.equal(visible[t], expected)
    assert objects(torch.zeros_like(ids), generator(0, 0, "cpu")).all(), "no object, no hole"


def test_families_come_in_their_shares():
    ids = torch.zeros((3000, 2, 8, 8), dtype=torch.int64)
    shares = {"nothing": 0.25, "first_frame": 0.75}
    visible = draw_masks(ids, generator(0, 0, "cpu"), shares)
    nothing = (~visible.flatten(1).any(1)).float().mean()
    assert float(nothing) == pytest.approx(0.25, abs=0.03)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_thin_holes_are_thin_and_most_of_the_picture_stays():
    """Of three kinds: no hole reaches far from what is known, and each kind is drawn."""
    visible = FAMILIES["thin"](48, (3, 64, 64), generator(0, 3, "cpu"))
    known = visible.float().flatten(0, 1)[:, None]
    near = torch.nn.functional.max_pool2d(known, 15, 1, 7)
    assert near.mean() > 0.995  # within 7 pixels of a known one
    share = 1 - visible.float().mean((1, 2, 3))
    assert share.median() < 0.35 and share.max() < 0.6 and share.min() > 0.001
