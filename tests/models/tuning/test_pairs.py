"""Pairs by double reprojection: exact where visible, holes by the move, and the mix of kinds."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from support.surface import SURFACE

from recapture.models.geometry.reproject import source_visibility
from recapture.models.tuning.pairs import (
    Move,
    check_source,
    draw_moves,
    move_path,
    shares_of,
    source_pairs,
)

PIVOT = 3.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pair_of(source, *move, **more):
    return next(source_pairs(source, PIVOT, [Move(*move, **more)], SURFACE))


def test_the_degraded_clip_is_the_source_bit_for_bit_where_visible_and_grey_elsewhere(source):
    for pair in source_pairs(source, PIVOT, draw_moves(4, 10, 25, generator()), SURFACE):
        known = pair.visible[:, None].expand_as(source.video)
        assert torch.equal(pair.degraded[known], source.video[known])
        assert (~known).any() and not pair.degraded[~known].any()
        assert torch.equal(pair.target, source.video) and (pair.kind, pair.weight) == ("source", 1.0)


def test_a_move_that_stays_has_no_holes(source):
    for direct in (False, True):
        assert pair_of(source, 0.0, 0.0, 0.0, direct=direct).visible.all()


def test_a_gradual_move_starts_whole_and_a_direct_one_does_not(source):
    gradual, direct = (pair_of(source, 20.0, 5.0, 0.05, direct=d) for d in (False, True))
    assert gradual.visible[0].all() and not gradual.visible[-1].all()
    assert not direct.visible[0].all()
    assert torch.equal(gradual.visible[-1], direct.visible[-1])


def test_holes_grow_with_the_angle(source):
    holes = [int((~pair_of(source, yaw, 0.0, 0.0).visible).sum()) for yaw in (2.0, 8.0, 16.0, 30.0)]
    assert holes == sorted(holes) and holes[0] < holes[-1] / 3


def test_unknown_depth_is_never_visible(source):
    known = source.known.clone()
    known[:, :4] = False
    pair = next(source_pairs(replace(source, known=known), PIVOT, [Move(0.0, 0.0, 0.0)], SURFACE))
    assert not pair.visible[:, :4].any() and pair.visible[:, 6:].all()


def test_the_mask_is_what_the_moves_cameras_see(source):
    move = Move(-18.0, 6.0, -0.1)
    path = move_path(source, PIVOT, move)
    cameras = source.intrinsics, source.world_to_camera, path.intrinsics, path.world_to_camera
    expected = source_visibility(source.depth, *cameras, surface=SURFACE)
    assert torch.equal(pair_of(source, -18.0, 6.0, -0.1).visible, expected)
    centre = -path.world_to_camera[-1, :3, :3].T @ path.world_to_camera[-1, :3, 3]
    distance = (centre - torch.tensor([0.0, 0.0, PIVOT])).norm()
    assert float(distance) == pytest.approx(PIVOT * 1.1)  # radius -.1: it backs off
    assert centre[0] < 0 and centre[1] < 0  # to the left, and up (y points down)


def test_moves_keep_to_their_range_and_take_sides_in_turn():
    moves = draw_moves(400, 10, 25, generator(1), pitch_share=0.5, radius=0.1, direct_share=0.25)
    assert all(10 <= move.angle <= 25 for move in moves)
    assert max(move.angle for move in moves) > 24 and min(move.angle for move in moves) < 11
    assert all(first.yaw * second.yaw < 0 for first, second in pairwise(moves))
    assert all(abs(move.pitch) <= 0.5 * move.angle and abs(move.radius) <= 0.1 for move in moves)
    assert max(abs(move.pitch) / move.angle for move in moves) > 0.45
    assert 0.15 < sum(move.direct for move in moves) / 400 < 0.35
    assert draw_moves(9, 10, 25, generator(2)) == draw_moves(9, 10, 25, generator(2))
    assert draw_moves(9, 10, 25, generator(2)) != draw_moves(9, 10, 25, generator(3))


@pytest.mark.parametrize(("low", "high"), [(20, 10), (-5, 10), (10, 200)])
def test_an_empty_range_of_angles_is_refused(low, high):
    with pytest.raises(ValueError, match="low <= high"):
        draw_moves(2, low, high, generator())


def test_another_mask_shows_degraded_pixels_where_there_are_any_and_clean_ones_elsewhere(source):
    pair = replace(pair_of(source, 20.0, 0.0, 0.0), target=source.video + 0.05)
    visible = torch.rand(5, 32, 32, generator=generator()) < 0.6
    shown = pair.shown(visible)
    for t, y, x in [(1, 3, 30), (4, 12, 20), (4, 15, 30), (2, 31, 0)]:
        expected = pair.degraded if pair.visible[t, y, x] else pair.target
        expected = expected[t, :, y, x] if visible[t, y, x] else torch.zeros(3)
        assert torch.equal(shown[t, :, y, x], expected)
    assert torch.equal(pair.shown(pair.visible), pair.degraded)


def test_clips_that_teach_nothing_are_refused_by_name(source):
    check_source(source, "a/b", window=5)
    with pytest.raises(ValueError, match="clip 'a/b' has 5 frames, a window takes 9"):
        check_source(source, "a/b", window=9)
    with pytest.raises(ValueError, match="clip 'a/b' has flat depth"):
        check_source(replace(source, depth=torch.full_like(source.depth, 3.0)), "a/b")
    with pytest.raises(ValueError, match="clip 'a/b' has no known depth"):
        check_source(replace(source, known=torch.zeros_like(source.known)), "a/b")


def test_the_real_source_keeps_its_share_of_the_draws():
    kinds = ["source", "source", "cycle", "pseudo"]
    even = shares_of(kinds, [1, 1, 1, 0.25], source_share=0.4)
    torch.testing.assert_close(even, torch.tensor([1, 1, 1, 0.25], dtype=torch.float64) / 3.25)
    lifted = shares_of(kinds, [1, 3, 12, 4], source_share=0.4)
    torch.testing.assert_close(lifted, torch.tensor([0.1, 0.3, 0.45, 0.15], dtype=torch.float64))
    gated = shares_of(["source", "cycle"], [1, 0], source_share=0.4)
    torch.testing.assert_close(gated, torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_a_mix_without_the_source_is_refused(source):
    with pytest.raises(ValueError, match="of which 0 from the source"):
        shares_of(["cycle"], [1.0], 0.4)
    with pytest.raises(ValueError, match="0 pairs"):
        shares_of([], [], 0.4)
    with pytest.raises(ValueError, match="shares in 0"):
        shares_of(["source"], [1.0], source_share=1.5)
