"""What a mask covers is moved as the reference moves, and a target without room for it says so."""

import pytest
import torch

from recapture.datasets.clips.clip import Clip
from recapture.models.motion.explicit import Moves
from recapture.tasks.transfer.params import TransferParams
from recapture.tasks.transfer.swept import _check_room, moved_body, swept_region

BODY = torch.zeros(32, 48, dtype=torch.bool)
BODY[10:18, 6:14] = True


def moves(pixels, nearness=1.0, frames=5):
    """Return moves to the right and down by `pixels` in equal steps, in shares of a width of 48."""
    way = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None] * torch.tensor(
        pixels, dtype=torch.float64
    )
    return Moves(way[None] / 48, torch.linspace(1, nearness, frames, dtype=torch.float64)[None])


def test_a_body_moves_by_whole_pixels_exactly():
    made = moved_body(BODY, moves((20.0, 8.0)))
    for t, frame in enumerate(made):
        assert torch.equal(frame, torch.roll(BODY, (2 * t, 5 * t), (0, 1)))


def test_a_nearer_body_grows_about_its_centre():
    made = moved_body(BODY, moves((0.0, 0.0), nearness=2.0))
    rows, columns = torch.nonzero(made[-1], as_tuple=True)
    assert abs(float(rows.double().mean()) - 13.5) < 0.6 and abs(float(columns.double().mean()) - 9.5) < 0.6
    assert 15 <= len(rows.unique()) <= 18


def test_the_swept_region_is_the_union_of_all_places_dilated():
    made = moved_body(BODY, moves((20.0, 0.0)))
    region = swept_region(made, 2)
    assert region[8:20, 4:16].all() and region[8:20, 24:36].all()
    assert not region[:7].any() and not region[:, 37:].any()
    assert torch.equal(swept_region(made, 0), made.any(0))


def test_a_target_without_room_for_the_body_is_named_with_the_way_out():
    clip = Clip("box", "box.mp4", "video", "8", 5, 48, 32, 1.0, False, "", "0")
    params = TransferParams(clip, clip, "", 0, 5)
    _check_room(params, moved_body(BODY, moves((30.0, 0.0))))
    with pytest.raises(
        ValueError, match=r"target 'box' has no room for the motion of 'box'.*in 3 of 5 frames"
    ):
        _check_room(params, moved_body(BODY, moves((-40.0, 0.0))))
