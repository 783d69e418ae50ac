import cv2
import numpy as np
import pytest
import torch

from recapture.models.fill.inpaint import (
    DEEP,
    _telea,
    background_depth,
    close_cracks,
    foreground,
    inpaint,
    largest_within,
    nearest,
)

RED, BLUE = torch.tensor([0.8, -0.8, -0.8]), torch.tensor([-0.8, -0.8, 0.8])
GREY = torch.zeros(3)


def split_picture(size=72):
    """A near red half, a far blue half, a hole of 10 columns between them that the red one uncovered."""
    video = torch.zeros(1, 3, size, size)
    depth = torch.full((1, size, size), 6.0)
    video[0, :, :, :30], video[0, :, :, 40:] = RED[:, None, None], BLUE[:, None, None]
    depth[..., :30] = 2.0
    known = torch.ones(1, size, size, dtype=torch.bool)
    known[..., 30:40] = False
    depth[..., 30:40] = torch.inf
    return torch.where(known[:, None], video, 0.0), known, depth


def test_the_background_flows_into_a_hole_and_the_object_that_hid_it_does_not():
    video, known, depth = split_picture()
    filled = inpaint(video, known, depth, 3.0, GREY)
    hole = filled[0, :, :, 30:40]
    assert (hole - BLUE[:, None, None]).abs().max() < 0.1
    assert torch.equal(filled[:, :, :, :30], video[:, :, :, :30])
    assert (background_depth(depth[0], known[0])[:, 30:40] == 6).all()
    assert (background_depth(depth[0], known[0])[:, :30] == 2).all()


def test_only_the_rim_of_the_near_side_is_foreground():
    _, known, depth = split_picture()
    rim = foreground(depth[0], known[0])
    assert rim[:, 18:30].all() and not rim[:, 30:].any() and not rim[:, :17].any()


def test_the_near_side_is_found_from_every_direction():
    _, known, depth = split_picture()
    rim = foreground(depth[0], known[0])
    for turns in range(1, 4):
        turned = foreground(torch.rot90(depth[0], turns), torch.rot90(known[0], turns))
        assert torch.equal(turned, torch.rot90(rim, turns))


def test_a_floor_is_not_foreground_of_its_own_far_end():
    below_horizon = torch.arange(72)[:, None] + 0.5 - 7.2
    depth = torch.where(below_horizon > 0, 80 * 1.5 / below_horizon, 50.0).clamp(max=50).expand(72, 96)
    known = torch.ones(72, 96, dtype=torch.bool)
    known[30:50, 40:60] = False
    assert not foreground(depth, known).any()
    flat = torch.where(torch.arange(72)[:, None] < 40, 50.0, 3.0).expand(72, 96)
    assert foreground(flat, known).any()


def test_a_crack_takes_the_colour_and_depth_around_it_and_a_wide_hole_stays():
    video, known, depth = split_picture()
    known[0, :, 15] = False
    video[0, :, :, 15], depth[0, :, 15] = 0.0, torch.inf
    cracks = close_cracks(video, known, depth, 3.0)
    assert cracks[0, :, 15].all() and int(cracks.sum()) == 72
    assert known[0, :, 15].all() and (depth[0, :, 15] == 2).all()
    assert (video[0, :, :, 15] - RED[:, None]).abs().max() < 0.05
    assert not known[..., 30:40].any()


def test_a_frame_with_nothing_known_gets_the_given_colour():
    video, known, depth = (
        torch.zeros(1, 3, 16, 16),
        torch.zeros(1, 16, 16, dtype=torch.bool),
        torch.ones(1, 16, 16),
    )
    assert (inpaint(video, known, depth, 3.0, RED)[0] == RED[:, None, None]).all()
    assert not close_cracks(video, known, depth, 3.0).any()


def test_nearest_equals_the_slow_search():
    generator = torch.Generator().manual_seed(0)
    values, seeds = torch.rand(12, 9, generator=generator), torch.rand(12, 9, generator=generator) < 0.1
    found = nearest(values, seeds)
    points = torch.nonzero(seeds).double()
    for y in range(12):
        for x in range(9):
            distance = (points - torch.tensor([y, x])).norm(dim=1)
            best = points[distance <= distance.min() + 0.15].long()  # OpenCV's 5x5 distance is approximate
            assert float(found[y, x]) in {float(values[a, b]) for a, b in best}


@pytest.mark.parametrize(
    "shape, reach", [((7, 9), 3), ((5, 5), 0), ((40, 60), 13), ((3, 30, 20), 4), ((9, 8), 40)]
)
def test_the_largest_within_reach_is_that_of_a_window_of_any_size(shape, reach):
    """Pooling with the window of 279 x 279 pixels of a 480x832 frame took 10 CPU seconds per frame."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(values, (reach, reach, reach, reach), value=-torch.inf)
    expected = padded.unfold(-2, 2 * reach + 1, 1).unfold(-2, 2 * reach + 1, 1).amax((-2, -1))
    assert torch.equal(largest_within(values, reach), expected)


@pytest.mark.parametrize("radius", [1.0, 2.5, 3.0, 5.0])
def test_holes_inpainted_one_by_one_are_those_of_the_whole_frame(radius):
    random = np.random.default_rng(int(10 * radius))
    for _ in range(15):
        height, width = (int(side) for side in random.integers(20, 120, 2))
        pixels = random.integers(0, 255, (height, width, 3)).astype(np.uint8)
        hole = np.zeros((height, width), dtype=np.uint8)
        for _ in range(random.integers(1, 9)):
            y, x, h, w = (int(n) for n in random.integers(0, (height, width, 25, 25)))
            hole[y : y + h + 1, x : x + w + 1] = 1
        hole[cv2.distanceTransform(hole, cv2.DIST_L2, 5) > 4 * DEEP - 1] = 0  # deep ones are another matter
        expected = cv2.inpaint(pixels, hole, radius, cv2.INPAINT_TELEA)
        frame = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
        open_ = torch.from_numpy(hole) > 0
        done = ((_telea(frame, open_, open_, radius) + 1) * 127.5).round().byte()
        assert (done.permute(1, 2, 0).numpy()[hole > 0] == expected[hole > 0]).all()


def deep_hole(height=300, width=500):
    """A slope of brightness, with noise, and a hole of 50 x 70 pixels in it."""
    across = torch.linspace(-0.8, 0.8, width).expand(3, height, width)
    noise = 0.05 * torch.randn(across.shape, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(height, width, dtype=torch.bool)
    hole[20:70, 40:110] = True
    return (across + noise).clamp(-1, 1), across, hole


def test_a_deep_hole_is_nearer_to_a_slope_than_inpainted_at_full_size_and_joins_its_edge():
    frame, slope, hole = deep_hole()
    filled = _telea(torch.where(hole, 0.0, frame), hole, hole, 3.0)
    pixels = ((torch.where(hole, 0.0, frame).permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    full_size = cv2.inpaint(pixels, hole.byte().numpy(), 3.0, cv2.INPAINT_TELEA)
    full_size = torch.from_numpy(full_size).permute(2, 0, 1) / 127.5 - 1
    errors = [(one - slope)[:, hole].square().mean() for one in (filled, full_size)]
    assert errors[0] < errors[1] and errors[0] < 0.1
    step = (filled[:, 20:70, 40] - frame[:, 20:70, 39]).abs().mean()
    assert step < 0.15  # noise alone makes 0.05


def test_what_is_unknown_never_shows_in_a_deep_hole_and_other_holes_keep_their_own():
    frame, _, hole = deep_hole()
    hole[5:9, 5:9] = True
    fills = [_telea(torch.where(hole, colour, frame), hole, hole, 3.0) for colour in (-1.0, 1.0)]
    assert torch.equal(fills[0][:, hole], fills[1][:, hole])
    small = torch.zeros_like(hole)
    small[5:9, 5:9] = True
    alone = _telea(torch.where(small, 0.0, frame), small, small, 3.0)
    assert torch.equal(alone[:, small], fills[0][:, small])
