"""The choice of shortcuts: holes with a known truth, losses with their bounds, the fastest that fits."""

import math

import numpy as np
import pytest
import torch

from recapture.models.fill.calibrate import (
    ALWAYS,
    FEWEST,
    FEWEST_STEPS,
    Loss,
    Shortcut,
    cheapest,
    enough_hidden,
    losses,
    moved_holes,
    shortcuts,
)
from recapture.models.wan.step_cache import Saving

WAYS = [Shortcut(30), Shortcut(20), Shortcut(30, Saving(0.1))]


def test_moved_holes_have_the_shape_of_real_ones_and_lie_where_the_view_is_known():
    visible = torch.ones(3, 16, 32, dtype=torch.bool)
    visible[:, 4:9, 25:] = False
    hidden = moved_holes(visible)
    assert not (hidden & ~visible).any()
    assert torch.equal(hidden.roll(16, 2), ~visible)


def test_holes_move_the_way_that_hides_more():
    visible = torch.ones(2, 16, 32, dtype=torch.bool)
    visible[:, :3] = False  # over the full width: moved sideways it would cover itself
    hidden = moved_holes(visible)
    assert hidden[:, 8:11].all() and int(hidden.sum()) == 2 * 3 * 32


def test_a_view_without_holes_hides_too_little():
    visible = torch.ones(2, 64, 64, dtype=torch.bool)
    assert not enough_hidden(moved_holes(visible))
    visible[:, :8, :8] = False
    assert enough_hidden(moved_holes(visible))


def measured(lost):
    """Arrays [views, 2] of PSNR, passes and seconds, for an exact way at 20 dB and one that loses `lost`."""
    exact = np.full(len(lost), 20.0)
    return np.stack([exact, exact - np.array(lost)], 1), np.tile([60.0, 24.0], (len(lost), 1))


def test_the_bound_of_a_loss_is_students_of_the_paired_differences():
    lost = [0.1, 0.3, 0.2, 0.0]
    psnr, passes = measured(lost)
    exact, found = losses(WAYS[:2], psnr, passes, passes / 10)
    assert (exact.loss, exact.upper, exact.passes) == (0, 0, 1)
    deviation = math.sqrt(sum((one - 0.15) ** 2 for one in lost) / 3)
    assert found.loss == pytest.approx(0.15)
    assert found.upper == pytest.approx(0.15 + 2.3534 * deviation / 2, abs=1e-4)  # t table: 3 degrees, 95 %
    assert (found.passes, found.seconds) == pytest.approx((0.4, 0.4))


def test_what_the_exact_way_itself_scores_cancels_out():
    """Views differ by many dB, the way's loss does not."""
    psnr = np.array([[10.0, 9.8], [20.0, 19.8], [30.0, 29.8]])
    assert losses(WAYS[:2], psnr, psnr, psnr)[1].upper == pytest.approx(0.2)


def test_too_few_views_bound_no_loss():
    psnr, passes = measured([0.0] * (FEWEST - 1))
    found = losses(WAYS[:2], psnr, passes, passes)
    assert found[1].upper == math.inf
    assert cheapest(found, 3.0) is found[0]


def test_the_way_with_fewest_passes_within_the_loss_is_chosen():
    exact = Loss(WAYS[0], 0, 0, 1, 1)
    small, large = Loss(WAYS[1], 0.0, 0.1, 0.6, 0.9), Loss(WAYS[2], 0.2, 0.5, 0.3, 0.3)
    slow = Loss(WAYS[2], 0, 0, 1.2, 0.1)
    assert cheapest([exact, small, large, slow], 0.3) is small
    assert cheapest([exact, small, large, slow], 0.5) is large
    assert cheapest([exact, small, large, slow], 0.05) is exact


@pytest.mark.parametrize("steps", [4, 8, 10, 30, 50])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("caches", [True, False])
def test_ways_that_are_tried_differ_and_fit_the_sampling(steps, guided, caches):
    found = shortcuts(steps, guided=guided, caches=caches)
    assert found[0] == Shortcut(steps)
    assert len({one.name for one in found}) == len(found)
    assert all(min(steps, FEWEST_STEPS) <= one.steps <= steps for one in found)
    assert guided or all(one.saving.guided == ALWAYS for one in found)
    assert caches or all(one.saving.budget == 0 for one in found)
    assert len(found) == 1 if steps < FEWEST_STEPS else len(found) > 1 or not (guided or caches)
