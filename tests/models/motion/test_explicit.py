"""Explicit motion against the renderer of scenes and closed forms of pinhole cameras."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recapture.conf.schema import RenderConfig
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.motion.explicit import (
    Moves,
    background_view,
    body_moves,
    camera_moves,
    explicit_view,
    pivot_of,
)

SIDE, FRAMES = 48, 5
LENS = torch.tensor([[48.0, 0, 24], [0, 48, 24], [0, 0, 1]])
SETTINGS = RenderConfig()
SURFACE = SurfaceSettings(SETTINGS.break_ratio, SETTINGS.shell, SETTINGS.max_stretch)


def square(x: float, y: float, half: float) -> Tensor:
    grid = torch.arange(SIDE) + 0.5
    return ((grid[None, :] - x).abs() < half) & ((grid[:, None] - y).abs() < half)


def target() -> tuple[Tensor, Tensor, Tensor]:
    """A frame, its depth and its one body: a red square at depth 4 before a wall at 8."""
    body = square(16, 24, 5)
    wall = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.2
    frame = torch.where(body, torch.tensor([0.9, -0.9, -0.9])[:, None, None], wall)
    return frame, torch.where(body, 4.0, 8.0), body[None]


def reference(way: list[tuple[float, float]], halves: list[float]) -> Tensor:
    return torch.stack([square(x, y, half) for (x, y), half in zip(way, halves)])[None]


def test_moves_are_those_of_the_masks_and_of_depth() -> None:
    way = [(10.0 + 4 * step, 20.0 + step) for step in range(FRAMES)]
    masks = reference(way, [4.0] * FRAMES)
    depth = torch.tensor([6.0, 5, 4, 3, 2])[:, None, None].expand(FRAMES, SIDE, SIDE)
    moves = body_moves(masks, depth)
    expected = torch.tensor([(4.0 * step, 1.0 * step) for step in range(FRAMES)]).double() / SIDE
    torch.testing.assert_close(moves.across[0], expected)
    torch.testing.assert_close(moves.nearness[0], torch.tensor([1, 1.2, 1.5, 2, 3]).double())
    grown = body_moves(reference([(24.0, 24.0)] * 3, [4.0, 6.0, 8.0]))
    torch.testing.assert_close(grown.nearness[0], torch.tensor([1, 1.5, 2]).double())
    masks[0, 2] = False  # hidden for a moment
    torch.testing.assert_close(body_moves(masks, depth).across, moves.across)


def test_a_body_goes_where_the_reference_goes_and_grows_as_it_comes_nearer() -> None:
    frame, depth, bodies = target()
    across = torch.tensor([[[0.0, 0.0], [0.125, 0.0], [0.25, 0.0], [0.25, 0.125], [0.25, 0.25]]])
    moves = Moves(across.double(), torch.tensor([[1, 1, 1, 1, 1.6]]).double())
    view = explicit_view(frame, depth, bodies, LENS, surface=SURFACE, moves=moves)
    assert torch.equal(view.video[0], frame) and bool(view.visible[0].all())
    grid = torch.arange(SIDE) + 0.5
    for step, (dx, dy) in enumerate(across[0].tolist()):
        red = (view.video[step, 0] > 0.5) & (view.video[step, 1] < -0.5)
        x, y = (float((red.sum(axis) * grid).sum() / red.sum()) for axis in (0, 1))
        assert (x, y) == pytest.approx((16 + SIDE * dx, 24 + SIDE * dy), abs=0.6)
        wide = math.sqrt(float(red.sum()))
        assert wide == pytest.approx(10 * float(moves.nearness[0, step]), abs=1.2)
    assert bool(view.visible.all())
    own = torch.nn.functional.max_pool2d((view.depth[2] < 6)[None].float(), 3, 1, 1)[0].bool()
    still = ~own & ~torch.nn.functional.max_pool2d(bodies.float(), 7, 1, 3)[0].bool()
    assert torch.allclose(view.video[2][:, still], frame[:, still], atol=1e-4)


def test_what_a_body_uncovers_is_the_scene_behind_it() -> None:
    frame, depth, bodies = target()
    wall = frame[:, -1, -1, None, None].expand_as(frame)
    frame = torch.where(bodies[0], frame, wall)
    moves = Moves(torch.tensor([[[0.0, 0.0], [0.5, 0.0]]]).double(), torch.ones(1, 2).double())
    view = explicit_view(frame, depth, bodies, LENS, surface=SURFACE, moves=moves)
    inside = torch.nn.functional.max_pool2d(bodies.float(), 5, 1, 2)[0].bool()
    assert (view.video[1] - wall)[:, inside].abs().max() < 0.05  # inpainted from around it, not from the body
    torch.testing.assert_close(
        view.depth[1][inside], depth[-1, -1].expand(int(inside.sum())), rtol=1e-3, atol=0
    )
    given = explicit_view(frame, depth, bodies, LENS, surface=SURFACE, moves=moves, behind=-wall)
    assert (given.video[1] + wall)[:, bodies[0]].abs().max() < 1e-4
    hidden = background_view(frame, depth, bodies, LENS)
    assert len(hidden.video) % 4 == 1 and torch.equal(hidden.visible, (~inside).expand_as(hidden.visible))
    with pytest.raises(ValueError, match="no scene to move them in"):
        explicit_view(frame, depth, torch.ones_like(bodies), LENS, surface=SURFACE, moves=moves)


def test_the_reference_camera_moves_the_target_by_its_own_distance() -> None:
    frame, depth, _ = target()
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, 0, 3] = -torch.arange(FRAMES) * 0.25  # to the right, 3 units from its scene
    lens = LENS.repeat(FRAMES, 1, 1)
    lens[:, 0, 0] *= torch.linspace(1, 1.5, FRAMES)
    camera = camera_moves(lens, pose, 3.0)
    view = explicit_view(
        frame, depth, torch.zeros(0, SIDE, SIDE).bool(), LENS, surface=SURFACE, camera=camera
    )
    assert pivot_of(depth) == 8.0
    torch.testing.assert_close(view.world_to_camera[:, 0, 3], -torch.arange(FRAMES).double() * 0.25 * 8 / 3)
    torch.testing.assert_close(view.intrinsics[:, 0, 0], 48 * torch.linspace(1, 1.5, FRAMES).double())


def test_what_cannot_be_moved_is_one_clear_error() -> None:
    frame, depth, bodies = target()
    with pytest.raises(ValueError, match=r"move 0\.0 pixels"):
        body_moves(reference([(20.0, 20.0)] * 3, [4.0] * 3))
    empty = reference([(20.0, 20.0), (30.0, 20.0)], [4.0, 4.0])
    empty[0, 0] = False
    with pytest.raises(ValueError, match="body 1 of 1 is not in the reference's first frame"):
        body_moves(empty)
    two = Moves(torch.zeros(2, 3, 2).double(), torch.ones(2, 3).double())
    with pytest.raises(ValueError, match="2 moving bodies and the target 1"):
        explicit_view(frame, depth, bodies, LENS, surface=SURFACE, moves=two)
    with pytest.raises(ValueError, match="nothing to move"):
        explicit_view(frame, depth, bodies, LENS, surface=SURFACE)
