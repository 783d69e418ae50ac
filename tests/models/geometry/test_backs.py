import math
from dataclasses import replace

import pytest
import torch
from support.surface import SURFACE

from recapture.models.geometry.backs import nearest_back, thickness
from recapture.models.geometry.cameras import default_intrinsics, rigid, rotation_degrees
from recapture.models.geometry.mesh import CameraPair
from recapture.models.geometry.rasterize import nearest_surface

SIDE, RADIUS, FAR = 96, 1.0, 5.0


@pytest.fixture(scope="module")
def ball():
    """Depth [1, h, w] of a ball before a wall, and its intrinsics."""
    lens = default_intrinsics(SIDE, SIDE, 50.0)[None]
    at = (torch.arange(SIDE) + 0.5 - SIDE / 2) / lens[0, 0, 0]
    right, down = at[None], at[:, None]
    a, b, c = right**2 + down**2 + 1, FAR, FAR**2 - RADIUS**2
    inside = b**2 - a * c
    depth = torch.where(inside > 0, (b - inside.clamp_min(0).sqrt()) / a, 3 * FAR)
    return depth[None], lens


def orbit(degrees):
    """Return the pose of a camera that goes round the ball."""
    pivot = torch.tensor([0.0, 0.0, FAR], dtype=torch.float64)
    turn = rotation_degrees("y", degrees)
    return rigid(turn, pivot - turn @ pivot).float()[None]


def test_a_ball_is_as_thick_as_a_ball(ball):
    depth, lens = ball
    found = thickness(depth, torch.ones_like(depth, dtype=torch.bool), lens, SURFACE.break_ratio)[0]
    middle = SIDE // 2
    assert float(found[middle, middle]) == pytest.approx(2 * RADIUS, rel=0.25)
    body = depth[0] < 2 * FAR
    edge = body & (torch.nn.functional.max_pool2d(depth, 3, 1, 1)[0] > 2 * FAR)
    assert edge.any() and (found[edge] < 0.1 * RADIUS).all()
    assert (found[~body] > RADIUS).float().mean() > 0.5  # a wall has no end


@pytest.mark.parametrize("degrees", [50, -50])
def test_a_camera_that_goes_round_meets_front_or_back_where_the_ball_is(ball, degrees):
    depth, lens = ball
    eye, known = torch.eye(4)[None], torch.ones_like(depth, dtype=torch.bool)
    cameras = CameraPair(lens, eye, lens, orbit(degrees))
    back = nearest_back(depth, known, cameras, SURFACE, (SIDE, SIDE))[0]
    ball_ahead = depth[0] < 2 * FAR  # the camera looks at the ball's centre from the same distance
    bare = replace(SURFACE, shell=0.0)
    front = nearest_surface(depth, *cameras, surface=bare, known=known)[0] < 2 * FAR
    covered = front | (back < 2 * FAR)
    # the unseen half of a ball ends in a cone here, which is within it
    assert (covered & ball_ahead).sum() > (front & ball_ahead).sum() + 0.03 * ball_ahead.sum()
    assert (covered & ~ball_ahead).sum() < 0.05 * ball_ahead.sum()


def test_unusable_depth_has_no_back(ball):
    depth, lens = ball
    depth = depth.clone()
    depth[0, :10], depth[0, 10:20] = torch.nan, torch.inf
    found = thickness(depth, torch.ones_like(depth, dtype=torch.bool), lens, SURFACE.break_ratio)
    assert (found[0, :20] == 0).all() and torch.isfinite(found).all()
    assert math.isclose(float(found[0, 20:].min()), float(found[0, 20:][found[0, 20:] > 0].min()))
