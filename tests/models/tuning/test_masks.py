"""Composite masks: kinds by their shares, each the set that it says."""

import pytest
import torch

from recapture.models.tuning.masks import (
    KINDS,
    SHARES,
    draw_composite,
    edit_visible,
    prior_visible,
)

SIZE = (5, 32, 32)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moved(batch=6):
    """What a camera move leaves: a band that grows from the right, also in the first frame."""
    visible = torch.ones(batch, *SIZE, dtype=torch.bool)
    for t in range(SIZE[0]):
        visible[:, t, :, 28 - 2 * t :] = False
    return visible


def test_kinds_come_by_their_shares():
    kinds = draw_composite(moved(2000)[:, :2, ::8, ::8], generator()).kind
    for index, kind in enumerate(KINDS):
        share = SHARES[kind]
        deviation = (share * (1 - share) / 2000) ** 0.5
        assert abs(float((kinds == index).float().mean()) - share) < 4 * deviation


def test_point_cloud_masks_are_the_moves_own_and_their_first_frame_is_free_by_its_share():
    visible = moved(400)
    drawn = draw_composite(visible, generator(), shares={"point_cloud": 1.0}).visible
    assert torch.equal(drawn[:, 1:], visible[:, 1:])
    whole = drawn[:, 0].flatten(1).all(1)
    assert torch.equal(drawn[~whole][:, 0], visible[~whole][:, 0])
    assert 0.84 < float(whole.float().mean()) < 0.96
    never = draw_composite(visible, generator(), shares={"point_cloud": 1.0}, free_first_frame=0.0)
    assert torch.equal(never.visible, visible)


def test_a_union_is_the_holes_of_move_and_edit_together():
    visible = moved()
    only = {name: draw_composite(visible, generator(7), shares={name: 1.0}).visible for name in KINDS}
    assert torch.equal(only["union"], only["point_cloud"] & only["edit"])
    assert only["edit"][:, 0].all() and not only["edit"].all()
    assert not torch.equal(only["union"], only["point_cloud"])


def test_mixed_draws_are_the_kinds_drawn_alone():
    visible = moved(64)
    mixed = draw_composite(visible, generator(3))
    for index, name in enumerate(KINDS):
        alone = draw_composite(visible, generator(3), shares={name: 1.0}).visible
        rows = mixed.kind == index
        assert rows.any() and torch.equal(mixed.visible[rows], alone[rows])


def test_a_tracked_object_is_hidden_whole_with_a_margin_after_the_first_frame():
    object_id = torch.zeros(40, *SIZE, dtype=torch.int64)
    for t in range(SIZE[0]):
        object_id[:, t, 10:18, 4 + 3 * t : 12 + 3 * t] = 2
    visible = edit_visible(40, SIZE, generator(), object_id)
    assert visible[:, 0].all()
    hides = [bool((~v[1:])[object_id[0, 1:] > 0].all()) for v in visible]
    tight = [
        h and bool(v[1:, 24:].all() and v[1:, :4].all()) for h, v in zip(hides, visible)
    ]  # the margin is at most 2 + 2 pixels
    assert 10 <= sum(tight) <= 30  # half, with the shares' deviation; the rest are blobs
    beside = object_id[0, 1:].roll(-1, 2) > 0
    assert all(bool((~v[1:])[beside].all()) for v, t in zip(visible, tight) if t)
    nowhere = edit_visible(40, SIZE, generator(), torch.zeros_like(object_id))
    assert all((~v).any() for v in nowhere)


def test_the_prior_is_as_the_base_knows_it():
    masks = prior_visible(300, SIZE, generator())
    shown = masks.flatten(1).float().mean(1)
    assert 0.03 < float((shown == 0).float().mean()) < 0.13  # nothing known: .06 of all, .077 without objects
    whole_frames = masks.flatten(2).all(2) | (~masks).flatten(2).all(2)
    assert 0.15 < float(whole_frames.all(1).float().mean()) < 0.4
    assert not (shown == 1).all()


def test_the_same_generator_gives_the_same_masks():
    first, again = (draw_composite(moved(), generator(5)) for _ in range(2))
    assert torch.equal(first.visible, again.visible) and torch.equal(first.kind, again.kind)
    assert not torch.equal(first.visible, draw_composite(moved(), generator(6)).visible)


@pytest.mark.parametrize(
    ("shares", "fault"), [({"holes": 1.0}, "no kind 'holes'"), ({"edit": -1.0}, "negative"), ({}, "positive")]
)
def test_unusable_shares_are_refused(shares, fault):
    with pytest.raises(ValueError, match=fault):
        draw_composite(moved(), generator(), shares=shares)
