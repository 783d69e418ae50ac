"""Keyed tracks of bodies, limbs and cameras against closed forms, and MotionScenes as promised."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recapture.datasets.scenes import motion_programmes
from recapture.datasets.scenes.assemble import make_scene, stack_scenes
from recapture.datasets.scenes.keyed import spline
from recapture.datasets.scenes.layout import SceneObject
from recapture.datasets.scenes.motion_programmes import PROGRAMMES
from recapture.datasets.scenes.motion_scenes import (
    CATEGORIES,
    REFERENCES,
    TARGETS,
    Category,
    MotionScene,
    motion_scene,
    programme_name,
)
from recapture.datasets.scenes.motion_stage import FIRST_SEED, seed_of
from recapture.datasets.scenes.poses import object_poses

SIDE = 48


def centres(scene: MotionScene) -> np.ndarray:
    """Pixels [T, 2] of the first body's centre, projected by hand."""
    times = torch.arange(scene.frames, dtype=torch.float64)
    slot = int((scene.tracked == 1).nonzero()[0])
    centre = object_poses(scene.scene.as_batch(), times[None].float())[0][0, :, slot].double()
    lens, pose = (one.double() for one in scene.cameras())
    seen = (pose[:, :3, :3] @ centre[..., None])[..., 0] + pose[:, :3, 3]
    pixel = (lens @ seen[..., None])[..., 0]
    return (pixel[:, :2] / pixel[:, 2:]).numpy()


def test_a_spline_passes_through_its_keys_and_follows_straight_lines_exactly() -> None:
    random = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 6, 3, generator=random, dtype=torch.float64)
    torch.testing.assert_close(spline(keys, torch.arange(6).expand(2, 6)), keys)
    line = torch.arange(6, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    at = torch.rand(40, generator=random, dtype=torch.float64) * 5
    torch.testing.assert_close(spline(line, at), at[:, None] * line[1])
    outside = spline(keys[0], torch.tensor([-3.0, 99.0]))
    torch.testing.assert_close(outside, keys[0, [0, -1]])
    step = 1e-6  # the derivative is continuous at a key
    before, here, after = spline(keys[0], torch.tensor([2 - step, 2.0, 2 + step], dtype=torch.float64))
    torch.testing.assert_close((here - before) / step, (after - here) / step, rtol=1e-3, atol=1e-3)


def test_a_path_is_added_to_what_a_body_does_anyway() -> None:
    body = SceneObject("sphere", (0.3, 0.3, 0.3), (1.0, 2.0, 5.0), velocity=(0.1, 0, 0))
    keys = ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 2.0, 3.0))
    resting = SceneObject("box", (0.3, 0.3, 0.3), (0.0, 0.0, 4.0))
    scene = make_scene([replace(body, path=keys), resting])
    times = torch.tensor([[0.0, 1.0, 2.0]])
    found = object_poses(scene.as_batch(), times)[0][0]
    without = object_poses(make_scene([body, resting]).as_batch(), times)[0][0]
    torch.testing.assert_close(found[:, 0] - without[:, 0], torch.tensor(keys))
    torch.testing.assert_close(found[:, 1], without[:, 1])
    with pytest.raises(ValueError, match="keyed paths"):
        stack_scenes([scene, scene])
    with pytest.raises(ValueError, match=r"\[2, 3\] keys"):
        make_scene([replace(body, path=keys), replace(resting, path=keys[:2])])


def test_a_shot_rolls_and_zooms_as_its_keys_say() -> None:
    roll, dolly = motion_scene("camera", 4, side=SIDE), motion_scene("camera", 8, side=SIDE)
    assert (programme_name("camera", 4), programme_name("camera", 8)) == ("roll", "dolly zoom")
    lens, pose = (one.double() for one in roll.cameras())
    turn = pose[-1, :3, :3] @ pose[0, :3, :3].T
    assert math.degrees(math.atan2(turn[1, 0], turn[0, 0])) == pytest.approx(30, abs=0.01)
    assert turn[2, 2] == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(lens, lens[:1].expand_as(lens))
    lens, pose = (one.double() for one in dolly.cameras())
    assert lens[-1, 0, 0] / lens[0, 0, 0] == pytest.approx(0.66, abs=1e-4)
    centre = -(pose[:, :3, :3].mT @ pose[:, :3, 3:])[..., 0]
    ahead = pose[0, 2, :3]
    reach = float((torch.tensor([0.0, 0.0, 4.2], dtype=torch.float64) - centre[0]).norm())
    assert float((centre[-1] - centre[0]) @ ahead) == pytest.approx(0.34 * reach, rel=0.02)


def test_a_reference_moves_in_the_picture_as_its_programme_says() -> None:
    u = np.linspace(0, 1, 17)
    for number in (2, 9):
        track = motion_programmes.single(PROGRAMMES["single"][number], u)[0]
        place = centres(motion_scene("single", number, side=SIDE))
        np.testing.assert_allclose((place - place[0]) / SIDE, track.moves(17)[:, :2], atol=0.006)


def test_the_truth_repeats_the_way_in_the_picture_or_the_way_in_the_world() -> None:
    own = motion_scene("single", 9, side=SIDE)
    mine = centres(own)
    slot = int((own.tracked == 1).nonzero()[0])
    assert own.scene.keys is not None
    for target in range(TARGETS):
        picture = motion_scene("single", 9, target, side=SIDE)
        place = centres(picture)
        np.testing.assert_allclose(place - place[0], mine - mine[0], atol=0.02)
        world = motion_scene("single", 9, target, reading="world", side=SIDE)
        assert world.scene.keys is not None and picture.scene.keys is not None
        there = int((world.tracked == 1).nonzero()[0])
        torch.testing.assert_close(world.scene.keys[there], own.scene.keys[slot])
        first = replace(picture, frames=2), replace(world, frames=2)
        assert torch.equal(first[0].scene.position, first[1].scene.position)  # they start alike
    far = motion_scene("single", 9, 3, reading="world", side=SIDE)
    moved = centres(far) - centres(far)[0]
    assert 0.6 < np.linalg.norm(moved) / np.linalg.norm(mine - mine[0]) < 0.9  # it is 1.2 times as far away


def test_a_figure_is_one_body_of_tracked_limbs_that_swing_as_posed() -> None:
    kick = motion_scene("figure", 6, side=96)
    assert programme_name("figure", 6) == "kicking" and kick.owner == (1,) * 4 and len(kick.colours) == 4
    whole, parts = kick.render().object_id, kick.render(parts=True).object_id
    assert set(whole.unique().tolist()) == {0, 1} and torch.equal(whole > 0, parts > 0)
    rows = torch.arange(96) + 0.5
    area, height = {}, {}
    for leg in (3, 4):
        shown = (parts == leg).double()
        area[leg] = shown.sum((1, 2))
        height[leg] = (shown.sum(2) * rows).sum(1) / area[leg]
    assert height[4][0] - height[4].min() > 6  # the right leg comes up, in pixels
    still = height[3][area[3] > 0.9 * area[3].max()]  # the left one, where the right one does not hide it
    assert len(still) > 3 and still.max() - still.min() < 1.5


@pytest.mark.parametrize("category", CATEGORIES)
def test_bodies_stay_in_the_picture_and_keep_their_colours_apart_from_the_room(category: Category) -> None:
    for number, target in ((1, None), (10, 3)):
        scene = motion_scene(category, number, target, frames=9, side=SIDE)
        shown = scene.render(parts=True)
        ids = shown.object_id
        edge = torch.cat([ids[:, 0], ids[:, -1], ids[:, :, 0], ids[:, :, -1]], 1)
        assert (edge == 0).all() and shown.depth.isfinite().all()
        colours = [shown.video.movedim(1, -1)[ids == part].mean(0) for part in ids.unique() if part > 0]
        room = scene.render(bodies=False).video.movedim(1, -1).reshape(-1, 3)
        for colour in colours:
            assert (room - colour).norm(dim=1).min() > 0.25


def test_names_give_the_same_scenes_each_time_and_seeds_of_training_are_never_used() -> None:
    for category in CATEGORIES:
        assert len(PROGRAMMES[category]) == len(set(PROGRAMMES[category])) == REFERENCES
        one, two = (motion_scene(category, 3, 2, side=32).render().video for _ in range(2))
        assert torch.equal(one, two)
    seeds = [
        seed_of(category, number, target)
        for category in CATEGORIES
        for number in range(REFERENCES)
        for target in (None, *range(TARGETS))
    ]
    assert len(set(seeds)) == len(seeds) == 4 * 12 * 5 and min(seeds) >= FIRST_SEED == 9_000_000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("walk", 0), "category is 'walk'"),
        (("single", 12), "reference is 12"),
        (("single", 0, 4), "target is 4"),
    ],
)
def test_what_does_not_exist_is_named(given: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        motion_scene(*given)
