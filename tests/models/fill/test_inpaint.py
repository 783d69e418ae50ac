import torch

from recapture.models.fill.inpaint import background_depth, close_cracks, foreground, inpaint, nearest

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
