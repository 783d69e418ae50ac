"""Haze, highlights, shadows' penumbras and the film of "worlds", each against its closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Lighting, Room, Scene, SourceCamera, Texture
from recapture.datasets.scenes.render import SceneFrames, render_scene
from recapture.datasets.scenes.world_film import develop
from recapture.datasets.scenes.world_layout import Actor, Air, CameraPath, Film, Part, WorldScene

SIZE = 48
GREY = Texture("plain", ((0.5, 0.5, 0.5),) * 2, grain=0.0)
CLEAR = Air(haze=0.0, softness=0.2, shadow=1.0, clouds=0.0, glow=0.0)
LENS = torch.tensor([[[float(SIZE), 0, SIZE / 2], [0, float(SIZE), SIZE / 2], [0, 0, 1]]])


def world(
    actors: list[Actor], air: Air = CLEAR, light: tuple[float, float, float] = (0.0, -1.0, 0.0)
) -> Scene:
    return WorldScene(
        actors,
        Room((-60.0, -60.0, -60.0), (60.0, 1.0, 60.0), (GREY,) * 6),
        SourceCamera(),
        light,
        Lighting(0.3, 0.6),
        air,
        CameraPath(),
        Film(),
        "",
    ).scene()


def ball(gloss: tuple[float, float] = (0.0, 16.0)) -> Actor:
    return Actor(
        (Part("ellipsoid", (0.8, 0.8, 0.8), (0, 0, 0), GREY, gloss=gloss),), (0.0, 0.0, 4.0), "a ball"
    )


def view(scene: Scene, time: float = 0.0) -> SceneFrames:
    return render_scene(scene, LENS, torch.eye(4)[None], torch.tensor([time]), SIZE, SIZE, antialias=1)


def directions() -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    return torch.stack([(x - SIZE / 2) / SIZE, (y - SIZE / 2) / SIZE, torch.ones_like(x)])


def test_haze_mixes_in_the_colour_of_the_horizon_by_distance() -> None:
    air = replace(CLEAR, haze=0.07)
    clear, hazy = view(world([ball()])), view(world([ball()], air))
    distance = clear.depth[0] * directions().norm(dim=0)
    horizon = torch.tensor(air.horizon)[:, None, None]
    mixed = horizon + ((clear.video[0] + 1) / 2 - horizon) * torch.exp(-0.07 * distance)
    on_ground = (clear.object_id[0] == 1) | (directions()[1] > 0.02)
    torch.testing.assert_close((hazy.video[0] + 1)[:, on_ground] / 2, mixed[:, on_ground], atol=1e-5, rtol=0)
    assert torch.equal(clear.depth, hazy.depth)


def test_a_highlight_is_that_of_blinn_and_phong() -> None:
    light = torch.nn.functional.normalize(torch.tensor([0.4, -0.7, -0.6]), dim=0)
    toward = tuple(light.tolist())
    shiny, dull = (view(world([ball(gloss)], light=toward)) for gloss in ((0.3, 20.0), (0.0, 20.0)))
    point = directions() * dull.depth[0]
    normal = (point - torch.tensor([0.0, 0.0, 4.0])[:, None, None]) / 0.8
    half = torch.nn.functional.normalize(light[:, None, None] - point / point.norm(dim=0), dim=0)
    facing = (normal * light[:, None, None]).sum(0)
    expected = 0.3 * 0.6 * (normal * half).sum(0).clamp_min(0) ** 20 * (facing > 0)
    ball_pixels = (dull.object_id[0] == 1) & (facing.abs() > 0.02)
    added = (shiny.video - dull.video)[0, 1] / 2
    torch.testing.assert_close(added[ball_pixels], expected[ball_pixels], atol=2e-3, rtol=0)
    assert added.max() > 0.1


def test_a_penumbra_is_as_wide_as_its_softness_times_the_height_of_the_body() -> None:
    plate = Actor((Part("box", (1.0, 0.01, 1.0), (0, 0, 0), GREY),), (0.0, -1.0, 4.0), "a plate")
    scene = world([plate])
    down = torch.eye(4)[None]  # from above: x stays, the view's y is the world's z
    down[0, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    below = -0.5  # the camera is under the plate, so that the plate does not hide its own shadow
    down[0, :3, 3] = -down[0, :3, :3] @ torch.tensor([0.0, below, 4.0])
    wide = LENS.clone()
    wide[:, 0, 0] = wide[:, 1, 1] = 0.4 * SIZE
    seen = render_scene(scene, wide, down, torch.zeros(1), SIZE, SIZE, antialias=1)
    row = (seen.video[0, 0, SIZE // 2] + 1) / 2
    x = (torch.arange(SIZE) + 0.5 - SIZE / 2) / (0.4 * SIZE) * 1.5  # on the ground
    width = 0.2 * 2.0 + 2e-3  # softness times the height of the plate's centre over the ground
    blocked = ((1 - x.abs()) / width + 0.5).clamp(0, 1)
    albedo, ambient, direct = 0.5, 0.3 * 1.22, 0.6
    torch.testing.assert_close(row, albedo * (ambient + direct * (1 - blocked)), atol=3e-3, rtol=0)


def test_the_film_changes_the_picture_by_its_exposure_and_never_the_depth() -> None:
    scene = world([ball()])
    assert scene.film is not None
    film = scene.film.clone()
    film[:3] = torch.tensor([0.1, 40.0, 0.0])
    plain, exposed = view(scene, 7.0), view(replace(scene, film=film), 7.0)
    gain = 1 + 0.1 * math.sin(2 * math.pi * 7 / 40)
    bright = (plain.video + 1) / 2 * gain
    torch.testing.assert_close((exposed.video + 1) / 2, bright.clamp_max(1), atol=1e-5, rtol=0)
    film[3:7] = torch.tensor([0.02, 20.0, 0.0, 0.02])
    worn = view(replace(scene, film=film), 7.0)
    assert not torch.allclose(worn.video, plain.video, atol=0.02)
    assert torch.equal(worn.depth, plain.depth) and torch.equal(worn.object_id, plain.object_id)


def test_focus_blurs_what_is_out_of_it_and_nothing_in_it() -> None:
    scene = world([]).as_batch()
    assert scene.film is not None
    film = scene.film.clone()
    film[:, 3:7] = torch.tensor([0.03, 4.0, 0.0, 0.0])
    video = torch.rand(1, 1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    depth = torch.full((1, 1, 20, 20), 4.0)
    depth[..., 10:] = 12.0
    times, focal = torch.zeros(1, 1), torch.full((1, 1), 60.0)
    sharp = develop(replace(scene, film=film), video, depth, times, focal)
    torch.testing.assert_close(sharp[..., :10], video[..., :10])
    assert sharp[..., 10:].std() < 0.5 * video[..., 10:].std()
    flat = torch.full_like(video, 0.4)
    torch.testing.assert_close(develop(replace(scene, film=film), flat, depth, times, focal), flat)
