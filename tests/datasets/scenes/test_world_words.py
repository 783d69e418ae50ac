"""Captions of "worlds" say what is seen: colours of bodies, directions of walkers, motion of the camera."""

from __future__ import annotations

import colorsys

import pytest
import torch

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.words import COLOURS
from recapture.datasets.scenes.world_camera import path_cameras
from recapture.datasets.scenes.world_layout import stack_world
from recapture.datasets.scenes.world_scenes import world_scene

SIDE = 40


def phrases(caption: str) -> list[str]:
    """The phrases of a caption, one per object id."""
    bodies = caption.split(", in a room")[0].split(", on ")[0]
    return bodies.replace(" and a ", ", a ").replace(" and an ", ", an ").split(", ")


@pytest.fixture(scope="module")
def still() -> list[Scene]:
    return [world_scene(seed, camera_motion=False).scene() for seed in range(24)]


def test_the_middle_hue_of_a_body_of_one_colour_is_that_of_its_word(still: list[Scene]) -> None:
    near = []
    for scene in still:
        intrinsics, pose = source_cameras(scene, 1, SIDE, SIDE)
        view = render_scene(scene, intrinsics, pose, torch.tensor([35.0]), SIDE, SIDE, antialias=1)
        for label, words in enumerate(phrases(scene.captions[0]), start=1):
            look = " ".join(words.split()[1:3]) if " sky blue" in words else words.split()[1]
            one_colour = look in COLOURS and words.split(look)[1].split()[0] != "and"
            seen = view.object_id[0] == label
            if not one_colour or look in ("white", "black", "brown") or seen.sum() < 12:
                continue
            pixels = ((view.video[0][:, seen] + 1) / 2).median(dim=1).values.tolist()
            hue, saturation, _ = colorsys.rgb_to_hsv(*pixels)
            if saturation > 0.25:  # haze and darkness take the hue
                away = abs((hue * 360 - COLOURS[look][0] + 180) % 360 - 180)
                near.append(away < 25)
    assert len(near) > 20
    assert sum(near) > 0.9 * len(near)


def test_walkers_and_cars_go_where_their_words_say(still: list[Scene]) -> None:
    told = 0
    for scene in still:
        for label, words in enumerate(phrases(scene.captions[0]), start=1):
            way = words.split("walking ")[-1].split("driving ")[-1]
            if way not in ("to the right", "to the left", "away", "closer"):
                continue
            if not ("walking" in words or "driving" in words):
                continue
            velocity = scene.velocity[scene.label == label][0]
            across, ahead = float(velocity[0]), float(velocity[2])
            if way in ("to the right", "to the left"):
                assert (across > 0) == (way == "to the right") and abs(across) > abs(ahead)
            else:
                assert (ahead > 0) == (way == "away") and abs(ahead) > abs(across)
            told += 1
    assert told > 8


def test_walkers_face_the_way_they_go(still: list[Scene]) -> None:
    for scene in still:
        moving = (scene.velocity.norm(dim=-1) > 0) & (scene.axis[:, 1] == 1)
        for slot in moving.nonzero()[:, 0].tolist():
            words = phrases(scene.captions[0])[int(scene.label[slot]) - 1]
            if "walking" in words or "driving" in words:
                heading = scene.spin[slot, 0]
                faced = torch.stack([heading.sin(), torch.zeros_like(heading), heading.cos()])
                velocity = scene.velocity[slot]
                torch.testing.assert_close(velocity / velocity.norm(), faced, atol=1e-4, rtol=0)


def test_the_camera_moves_as_its_words_say_in_every_clip() -> None:
    drawn = [world_scene(seed) for seed in range(200)]
    scenes = stack_world(drawn)
    elapsed = torch.tensor([[0.0, 4.0, 16.0]], dtype=torch.float64).expand(200, -1)
    chance = torch.rand((200, 13), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pose, zoom = path_cameras(scenes, elapsed, chance)
    centre = -(pose[..., :3, :3].mT @ pose[..., :3, 3:])[..., 0]
    travelled = centre[:, 2] - centre[:, 0]
    forward = pose[..., 2, :3]
    yaw = torch.atan2(forward[..., 0], forward[..., 2]).diff(dim=1)[:, 0:2].sum(1)
    climb = -(forward[:, 2, 1] - forward[:, 0, 1])
    axis = {
        "pans to the right": yaw,
        "pans to the left": -yaw,
        "tilts up": climb,
        "tilts down": -climb,
        "drifts to the right": travelled[:, 0],
        "drifts to the left": -travelled[:, 0],
        "moves forward": travelled[:, 2],
        "moves back": -travelled[:, 2],
        "rises": -travelled[:, 1],
        "zooms in": zoom[:, 2] - zoom[:, 0],
        "zooms out": zoom[:, 0] - zoom[:, 2],
    }
    for index, one in enumerate(drawn):
        words = one.caption.split("the camera ")[1]
        if words == "stands still":
            assert torch.equal(pose[index, 0], pose[index, 2]) and zoom[index, 2] == 1
        elif words != "shakes":
            assert axis[words][index] > 0.01, (index, words)
    assert {one.caption.split("the camera ")[1] for one in drawn} > set(axis)
