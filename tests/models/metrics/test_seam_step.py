"""The step at seams against a loop over all pairs of neighbours."""

import math

import numpy as np
import pytest

from recapture.models.metrics.seam_step import seam_step


def slow(picture, visible):
    """Take every pair of neighbours, and ask of each whether it crosses, or is one step from a crossing."""
    height, width = visible.shape
    across, beside = [], []

    def crosses(y, x, down, right):
        inside = y >= 0 and x >= 0 and y + down < height and x + right < width
        return inside and visible[y, x] != visible[y + down, x + right]

    for down, right in ((1, 0), (0, 1)):
        for y in range(height - down):
            for x in range(width - right):
                step = np.abs(picture[y, x].astype(float) - picture[y + down, x + right]).mean()
                if crosses(y, x, down, right):
                    across.append(step)
                elif any(crosses(y + by * down, x + by * right, down, right) for by in (-1, 1)):
                    beside.append(step)
    return np.mean(across) - np.mean(beside)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_over_neighbours_finds(seed):
    draws = np.random.default_rng(seed)
    picture = draws.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    visible = draws.random((9, 13)) > 0.3
    assert seam_step(picture, visible) == pytest.approx(slow(picture, visible), rel=1e-12)


def test_a_ramp_has_no_seam_and_an_offset_is_its_own_size():
    ramp = np.tile(np.arange(0, 160, 8, dtype=np.uint8)[None, :, None], (12, 1, 3))
    visible = np.tile(np.arange(20) < 10, (12, 1))
    assert seam_step(ramp, visible) == pytest.approx(0)
    lifted = ramp + np.where(visible, 0, 30).astype(np.uint8)[..., None]
    assert seam_step(lifted, visible) == pytest.approx(30)


def test_without_holes_there_is_none():
    assert math.isnan(seam_step(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), bool)))
