"""The membrane against a twin that visits every block by itself, and what it does to simple differences."""

import math

import numpy as np
import pytest
import torch

from recapture.models.fill.membrane import membrane


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def twin(difference, known):
    """Pull-push of one channel [T, H, W] float64, block by block, after each frame's mean is taken off."""
    mean = np.array([d[k].mean() if k.any() else 0.0 for d, k in zip(difference, known)])
    rest = np.where(known, difference - mean[:, None, None], 0.0)
    return np.where(known, difference, pull_push(rest, known.astype(float)) + mean[:, None, None])


def pull_push(values, share):
    """Return sums `values` with weights `share`, filled where the weight is less than 1."""
    if max(values.shape[1:]) == 1:
        return np.where(share > 0, values / np.where(share > 0, share, 1), 0.0)
    block = [min(2, side) for side in values.shape]
    smaller = [math.ceil(side / over) for side, over in zip(values.shape, block)]
    coarse, weight = np.zeros(smaller), np.zeros(smaller)
    for at in np.ndindex(*values.shape):
        over = tuple(place // size for place, size in zip(at, block))
        coarse[over] += values[at] / math.prod(block)
        weight[over] += share[at] / math.prod(block)
    above = pull_push(coarse, weight)
    filled = np.zeros(values.shape)
    for at in np.ndindex(*values.shape):
        filled[at] = values[at] + (1 - share[at]) * between(above, at, block)
    return filled


def between(coarse, at, block):
    """Return the value of the coarse grid at the centre of a fine cell, linear in each direction."""
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        share, place = 1.0, []
        for axis, side in enumerate(coarse.shape):
            where = max((at[axis] + 0.5) / block[axis] - 0.5, 0.0)
            low = min(int(where), side - 1)
            part = where - low
            share *= part if corner[axis] else 1 - part
            place.append(min(low + corner[axis], side - 1))
        total += share * coarse[tuple(place)]
    return total


@pytest.mark.parametrize("shape", [(4, 8, 8), (5, 7, 12), (1, 9, 6), (3, 1, 11), (2, 5, 1)])
def test_it_is_what_the_twin_makes_block_by_block(shape):
    difference = random(shape[0], 2, *shape[1:])
    known = random(*shape, seed=1) > 0.3
    known[-1] = False
    found = membrane(difference, known)
    for channel in range(2):
        expected = twin(difference[:, channel].double().numpy(), known.numpy())
        np.testing.assert_allclose(found[:, channel].numpy(), expected, atol=2e-6)


def test_what_shifts_each_frame_as_a_whole_is_continued_exactly():
    known = random(6, 30, 40) > 0.2
    known[:, 5:25, 10:30] = False
    shift = random(6, 3, 1, 1, seed=2)
    found = membrane(shift.expand(6, 3, 30, 40), known)
    torch.testing.assert_close(found, shift.expand(6, 3, 30, 40), atol=1e-6, rtol=0)


def test_what_is_known_comes_back_and_what_stands_in_holes_never_enters():
    difference, known = random(3, 3, 16, 20), random(3, 16, 20, seed=1) > 0
    spoilt = torch.where(known[:, None], difference, torch.nan)
    found = membrane(spoilt, known)
    seen = known[:, None].expand_as(found)
    assert torch.equal(found[seen], difference[seen]) and found.isfinite().all()


def test_it_stays_between_the_least_and_the_most_that_is_known():
    """As a harmonic function does; and near a hole's edge it is near what is known there."""
    known = torch.ones(2, 64, 64, dtype=torch.bool)
    known[:, 16:48, 16:48] = False
    ramp = torch.linspace(-1, 1, 64).expand(2, 1, 64, 64)
    found = membrane(ramp, known)
    assert found.min() >= -1 and found.max() <= 1
    assert (found[:, :, 20:44, 16] - ramp[:, :, 20:44, 15]).abs().max() < 0.1
    assert (found[:, :, 20:44, 47] - ramp[:, :, 20:44, 48]).abs().max() < 0.1
    inside = found[:, 0, 32, 16:48]
    assert (inside.diff(dim=1) > -1e-6).all()  # rises with what is known beside it


def test_it_is_linear_so_that_cross_fading_windows_before_or_after_it_is_the_same():
    known = random(4, 20, 24) > 0
    first, second = random(4, 3, 20, 24, seed=1), random(4, 3, 20, 24, seed=2)
    faded = membrane(0.3 * first + 0.7 * second, known)
    torch.testing.assert_close(
        faded, 0.3 * membrane(first, known) + 0.7 * membrane(second, known), atol=1e-5, rtol=0
    )


def test_a_clip_of_which_nothing_is_known_has_none():
    assert (membrane(random(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)) == 0).all()
