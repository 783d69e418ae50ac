"""Scenes that no training sees: exact depth, the same surface in every view, nothing of the other engine."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recapture.datasets.scenes import film_world, held_out_worlds, paint, solids
from recapture.datasets.scenes.film_world import film
from recapture.datasets.scenes.held_out_worlds import CUTS, PIVOT, World, make_world
from recapture.datasets.scenes.paint import Paint
from recapture.datasets.scenes.render import look_at
from recapture.datasets.scenes.solids import Card, Ellipsoid, Ground

GREY = Paint("cloudy", ((0.2, 0.2, 0.2), (0.5, 0.5, 0.5), (0.8, 0.8, 0.8)))
BACKDROP = Ellipsoid((0.0, 0.0, 0.0), (50.0, 50.0, 50.0), GREY, inside=True)
SIDE = 48


def world(*bodies):
    floor = Card((0.0, 40.0, 0.0), (1, 0, 0), (0, 0, 1), (1, 1), GREY)
    return World((BACKDROP, floor, *bodies), (0.0, -1.0, 0.0), (0.0, (1, 1, 1)), (0, 0, 0), (0, 0, 0), 60, "")


def cameras(*eyes):
    pose = look_at(torch.tensor(eyes), torch.tensor([[0.0, 0.0, 5.0]]).expand(len(eyes), 3))
    lens = torch.tensor([[40.0, 0, SIDE / 2], [0, 40.0, SIDE / 2], [0, 0, 1]])
    return lens.expand(len(eyes), 3, 3), pose


def points(depth, intrinsics, pose):
    """Return the world points [T, H, W, 3] of depth [T, H, W]."""
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(intrinsics[0]).mT
    seen = rays[None] * depth[..., None] - pose[:, None, None, :3, 3]
    return (seen[..., None, :] @ pose[:, None, None, :3, :3])[..., 0, :]


def test_points_at_the_depth_of_an_ellipsoid_are_on_it_also_when_it_has_moved():
    body = Ellipsoid((0.2, -0.3, 5.0), (0.8, 1.2, 0.6), GREY, velocity=(0.1, 0.0, 0.05))
    lens, pose = cameras((0.0, 0.0, 0.0), (1.5, -1.0, 1.0))
    seen = film(world(body), lens, pose, torch.tensor([0.0, 4.0]), SIDE, SIDE)
    for view, centre in enumerate(((0.2, -0.3, 5.0), (0.6, -0.3, 5.2))):
        on = seen.object_id[view] == 2
        at = points(seen.depth, lens, pose)[view][on]
        scaled = (at - torch.tensor(centre)) / torch.tensor([0.8, 1.2, 0.6])
        assert on.sum() > 50
        torch.testing.assert_close(scaled.norm(dim=-1), torch.ones(len(at)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("cut", CUTS)
def test_a_card_is_flat_and_has_what_its_cut_leaves(cut):
    turn = 0.4
    across = (float(torch.tensor(turn).cos()), 0.0, float(torch.tensor(turn).sin()))
    card = Card((0.0, 0.0, 4.0), across, (0.0, 1.0, 0.0), (1.5, 1.2), GREY, cut, 0.6, 0.3)
    lens, pose = cameras((0.0, 0.0, 0.0))
    seen = film(world(card), lens, pose, torch.zeros(1), SIDE, SIDE)
    on = seen.object_id[0] == 2
    away = points(seen.depth, lens, pose)[0][on] - torch.tensor([0.0, 0.0, 4.0])
    normal = torch.tensor([-across[2], 0.0, across[0]])
    assert (away @ normal).abs().max() < 1e-4
    whole = film(world(replace(card, cut="whole")), lens, pose, torch.zeros(1), SIDE, SIDE).object_id[0] == 2
    assert on.any() and (whole | ~on).all() and (whole & ~on).any()


def test_points_of_the_ground_are_where_its_hills_are():
    ground = Ground(1.5, (0.0, 5.0), 3.0, GREY, flat=3.0)
    lens, pose = cameras((0.0, -0.5, 0.0))
    hills = World((BACKDROP, ground), (0, -1, 0), (0, (1, 1, 1)), (0, 0, 0), (0, 0, 0), 60, "")
    seen = film(hills, lens, pose, torch.zeros(1), SIDE, SIDE)
    on = seen.object_id[0] == 1
    at = points(seen.depth, lens, pose)[0][on]
    assert on.sum() > 300 and at[:, 2].max() > 15
    near = at[at[:, 2] < 20]
    torch.testing.assert_close(ground.surface(near[:, 0], near[:, 2]), near[:, 1], atol=2e-3, rtol=0)


@pytest.mark.parametrize("family", ["outdoor", "cutout"])
def test_a_surface_point_looks_the_same_from_another_camera(family):
    one = replace(make_world(family, 3), haze=(0.0, (1.0, 1.0, 1.0)))
    lens, pose = cameras((0.0, 0.0, 0.0), (0.4, 0.0, 0.0))
    seen = film(one, lens, pose, torch.zeros(2), SIDE, SIDE)
    at = points(seen.depth, lens, pose)[0]
    there = at @ pose[1, :3, :3].mT + pose[1, :3, 3]
    pixel = (there @ lens[1].mT)[..., :2] / there[..., 2:]
    grid = (2 * pixel / SIDE - 1)[None]
    depth = torch.nn.functional.grid_sample(seen.depth[1:, None], grid, align_corners=False)[0, 0]
    colour = torch.nn.functional.grid_sample(seen.video[1:], grid, align_corners=False)[0]
    same = (depth / there[..., 2] - 1).abs() < 0.01
    assert same.float().mean() > 0.5
    assert (colour - seen.video[0]).abs().mean(0)[same].median() < 0.06


@pytest.mark.parametrize("family", ["outdoor", "cutout"])
def test_a_seed_gives_one_world_that_stays_clear_of_its_orbits(family):
    found = []
    for seed in (0, 0, 1):
        one = make_world(family, seed)
        lens, pose = one.cameras(1, SIDE, SIDE)
        found.append(film(one, lens, pose, torch.zeros(1), SIDE, SIDE))
    assert torch.equal(found[0].video, found[1].video) and not torch.equal(found[0].video, found[2].video)
    for seed in range(3):
        one = make_world(family, seed)
        turns = torch.deg2rad(torch.tensor([5.0, 20, 45, 75]))
        eyes = torch.stack([5 * turns.sin(), torch.zeros(4), 5 - 5 * turns.cos()], -1)
        pose = look_at(eyes, torch.tensor(PIVOT).expand(4, 3))
        lens, _ = one.cameras(4, SIDE, SIDE)
        seen = film(one, lens, pose, torch.zeros(4), SIDE, SIDE, antialias=1)
        assert seen.depth.isfinite().all() and seen.depth.min() > 0.3
        assert seen.video.abs().max() <= 1 and (seen.object_id > 1).float().mean() > 0.02


def test_edges_are_smooth_and_depth_is_that_of_pixel_centres():
    body = Ellipsoid((0.0, 0.0, 5.0), (1.0, 1.0, 1.0), Paint("cloudy", ((1.0, 1.0, 1.0),) * 3, glows=True))
    lens, pose = cameras((0.0, 0.0, 0.0))
    sharp, smooth = (film(world(body), lens, pose, torch.zeros(1), SIDE, SIDE, antialias=n) for n in (1, 4))
    assert torch.equal(sharp.depth, smooth.depth)
    changed = (sharp.video != smooth.video).any(1)
    assert (
        changed.any()
        and (torch.nn.functional.max_pool2d((sharp.object_id == 2).float(), 3, 1, 1) > 0)[changed].all()
    )


def test_nothing_is_taken_from_the_engine_of_the_training_scenes():
    for module in (film_world, held_out_worlds, paint, solids):
        tree = ast.parse(Path(module.__file__).read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert not [name for name in names if name.endswith(("textures", "photographs", "surfaces", "rays"))]
        assert not [
            name for name in names if name.endswith(("sampling", "wide_scenes", "assemble", "layout"))
        ]


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="family of scenes is 'indoor'; use outdoor or cutout"):
        make_world("indoor", 0)
