from dataclasses import replace

import pytest
import torch
from support.surface import SURFACE

from recapture.datasets.scenes.assemble import make_scene
from recapture.datasets.scenes.layout import Room, SceneObject, SourceCamera
from recapture.datasets.scenes.render import co_visible, render_scene
from recapture.models.geometry.cameras import default_intrinsics, rigid
from recapture.models.geometry.reproject import double_reprojection, source_visibility
from recapture.models.geometry.trajectories import preset_path

SIZE = (40, 64)


def lens(size=SIZE):
    return default_intrinsics(*size).double()[None]


def shifted(x=0.0, z=0.0):
    return rigid(torch.eye(3)[None].double(), torch.tensor([[-x, 0.0, -z]]).double())


def picture():
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


NEAR, WALL, LEFT, RIGHT = 2.0, 8.0, 28, 40


def block_before_wall():
    depth = torch.full((1, *SIZE), WALL)
    depth[:, 10:30, LEFT:RIGHT] = NEAR
    return depth


def test_the_sources_own_view_degrades_nothing():
    pair = double_reprojection(
        picture(), block_before_wall(), lens(), shifted(), lens(), shifted(), surface=SURFACE
    )
    assert pair.visible.all()
    assert torch.equal(pair.degraded, pair.clean) and torch.equal(pair.clean, picture())


def test_kept_pixels_are_the_sources_own_and_holes_are_grey():
    pair = double_reprojection(
        picture(), block_before_wall(), lens(), shifted(), lens(), shifted(0.4), surface=SURFACE
    )
    keep = pair.visible[:, None].expand_as(pair.clean)
    assert 0 < pair.visible.float().mean() < 1
    assert torch.equal(pair.degraded[keep], picture()[keep])
    assert (pair.degraded[~keep] == 0).all()


@pytest.mark.parametrize("travel", [0.3, -0.25])
@pytest.mark.parametrize("shell", [0.0, 0.3])
def test_a_block_hides_the_strip_of_wall_that_it_moves_over_in_the_target_view(travel, shell):
    """The block moves focal * travel / depth more pixels than the wall: that strip beside it is hidden."""
    visible = source_visibility(
        block_before_wall(), lens(), shifted(), lens(), shifted(travel), surface=replace(SURFACE, shell=shell)
    )
    focal = float(lens()[0, 0, 0])
    near_shift, wall_shift = focal * travel / NEAR, focal * travel / WALL
    strip = near_shift - wall_shift
    assert abs(strip) > 4
    columns = torch.arange(SIZE[1]) + 0.5
    on_block = (columns > LEFT) & (columns < RIGHT)
    hidden = (columns > LEFT - strip) & (columns < LEFT) if travel > 0 else (
        (columns > RIGHT) & (columns < RIGHT - strip)
    )  # fmt: skip
    outside = (columns - wall_shift < 0) | (columns - wall_shift > SIZE[1])
    expected = on_block | ~(hidden | outside)
    edges = torch.tensor([LEFT - strip, LEFT, RIGHT, RIGHT - strip, wall_shift, SIZE[1] + wall_shift])
    certain = ((columns[:, None] - edges).abs() > 1.0).all(1) | on_block
    for row in range(12, 28):
        assert torch.equal(visible[0, row][certain], expected[certain])
    for row in (2, 37):  # above and below the block there is only wall
        assert torch.equal(visible[0, row][certain], ~outside[certain])


def test_what_leaves_the_targets_image_is_hidden_to_the_pixel():
    depth = torch.full((1, *SIZE), 4.0)
    visible = source_visibility(depth, lens(), shifted(), lens(), shifted(z=2.0), surface=SURFACE)
    expected = torch.zeros(1, *SIZE, dtype=torch.bool)
    expected[:, SIZE[0] // 4 : 3 * SIZE[0] // 4, SIZE[1] // 4 : 3 * SIZE[1] // 4] = True
    assert torch.equal(visible, expected)


def test_a_larger_target_image_sees_more():
    depth = torch.full((1, *SIZE), 4.0)
    small = source_visibility(depth, lens(), shifted(), lens(), shifted(z=2.0), surface=SURFACE)
    wide = lens() + torch.tensor([[0.0, 0.0, SIZE[1] / 2], [0.0, 0.0, SIZE[0] / 2], [0.0, 0.0, 0.0]])
    large = source_visibility(
        depth, lens(), shifted(), wide, shifted(z=2.0), size=(2 * SIZE[0], 2 * SIZE[1]), surface=SURFACE
    )
    assert large.all() and not small.all()


def test_unknown_and_broken_depth_is_never_visible():
    depth = block_before_wall()
    depth[0, 3, 3:6] = torch.tensor([float("nan"), float("inf"), -1.0])
    known = torch.ones(1, *SIZE, dtype=torch.bool)
    known[0, 35, 50] = False
    visible = source_visibility(depth, lens(), shifted(), lens(), shifted(), known=known, surface=SURFACE)
    assert not visible[0, 3, 3:6].any() and not visible[0, 35, 50]
    assert visible.sum() == visible.numel() - 4


def test_nothing_is_visible_to_a_camera_that_has_passed_everything():
    assert not source_visibility(
        block_before_wall(), lens(), shifted(), lens(), shifted(z=20.0), surface=SURFACE
    ).any()


VIEWS = {
    "orbit_right": {"angle_degrees": 15.0},
    "orbit_up": {"angle_degrees": 20.0},
    "left": {"distance": 0.3},
    "dolly_in": {"distance": 0.5},
}


@pytest.mark.parametrize("preset", VIEWS)
def test_visibility_agrees_with_exact_co_visibility_of_a_scene_of_spheres(preset):
    side = 192
    scene = make_scene(
        [
            SceneObject("sphere", (0.8, 0.0, 0.0), (-0.7, 0.3, 3.4)),
            SceneObject("sphere", (0.7, 0.0, 0.0), (0.9, 0.4, 5.0)),
        ],
        Room(low=(-12.0, -9.0, -12.0), high=(12.0, 1.2, 9.0)),
        SourceCamera(position=(0.0, 0.0, 0.0), target=(0.0, 0.0, 4.0)),
    )
    source = (default_intrinsics(side, side, 55.0)[None], torch.eye(4)[None])
    path = preset_path(preset, *source, 4.2, mode="direct", **VIEWS[preset])
    target = (path.intrinsics.float(), path.world_to_camera.float())
    depth = render_scene(scene, *source, torch.zeros(1), side, side, antialias=1).depth
    truth = co_visible(scene, *source, *target, torch.zeros(1), side, side)
    visible = source_visibility(depth, *source, *target, surface=SURFACE)
    leaked = (visible & ~truth).sum() / (~truth).sum()
    kept = (visible & truth).sum() / truth.sum()
    overlap = (~visible & ~truth).sum() / (~visible | ~truth).sum()
    assert leaked < 0.012 and kept > 0.96 and overlap > 0.95


def test_a_surface_stretched_beyond_the_limit_does_not_come_back():
    """Half way to a wall at depth 4, a camera sees each source pixel on four of its own."""
    depth = torch.full((1, *SIZE), 4.0)
    ahead = depth, lens(), shifted(), lens(), shifted(z=2.0)
    kept = source_visibility(*ahead, surface=replace(SURFACE, max_stretch=4.1))
    assert kept.any() and torch.equal(kept, source_visibility(*ahead, surface=SURFACE))
    assert not source_visibility(*ahead, surface=replace(SURFACE, max_stretch=3.9)).any()
