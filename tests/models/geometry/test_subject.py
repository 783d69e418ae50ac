"""A subject is where mask and depth are; poses turn about it; an aimed camera sees it where it is to be."""

import math

import numpy as np
import pytest
import torch

from recapture.models.geometry.cameras import camera_centres, default_intrinsics, rigid, rotation_degrees
from recapture.models.geometry.subject import (
    aimed,
    at_moments,
    in_camera,
    in_world,
    pixels_of,
    steadied,
    subject_place,
    without_gaps,
)
from recapture.models.geometry.trajectories import PRESETS, preset_path

FRAMES = 5
POINTS = torch.tensor([[0.6, -0.4, 3.0]]).double() + torch.arange(FRAMES)[:, None] * torch.tensor(
    [0.1, 0, 0.2]
)


def cameras():
    lens = default_intrinsics(48, 64).double().expand(FRAMES, 3, 3).clone()
    travel = torch.arange(FRAMES).double()[:, None] * torch.tensor([0.1, 0.02, -0.05]).double()
    return lens, rigid(rotation_degrees("y", torch.linspace(0, 30, FRAMES)), travel)


def test_a_place_is_the_mean_of_the_visible_surface_whatever_one_pixel_says():
    mask, depth = torch.zeros(48, 64, dtype=torch.bool), torch.full((48, 64), 9.0)
    mask[10:14, 20:30], depth[10:14, 20:30] = True, 2.0
    depth[10, 20] = 50.0  # one wrong pixel
    place = subject_place(mask, depth, torch.ones_like(mask), cameras()[0][0])
    focal = float(cameras()[0][0, 0, 0])
    expected = [2 * (25 - 32) / focal, 2 * (12 - 24) / focal, 2.0]
    assert place.tolist() == pytest.approx(expected)


def test_an_empty_mask_and_one_without_depth_have_no_place():
    mask, depth = torch.zeros(8, 8, dtype=torch.bool), torch.ones(8, 8)
    assert torch.isnan(subject_place(mask, depth, ~mask, torch.eye(3))).all()
    assert torch.isnan(subject_place(~mask, depth, mask, torch.eye(3))).all()


def test_world_and_camera_coordinates_are_inverse():
    points = torch.randn(FRAMES, 3, dtype=torch.float64)
    torch.testing.assert_close(in_camera(in_world(points, cameras()[1]), cameras()[1]), points)


@pytest.mark.parametrize("preset", [name for name in PRESETS if "pan" not in name and "tilt" not in name])
def test_a_pivot_on_the_optical_axis_gives_the_path_of_its_depth(preset):
    pivots = torch.tensor([[0.0, 0.0, 4.0]]).double().expand(FRAMES, 3)
    about, usual = preset_path(preset, *cameras(), pivots), preset_path(preset, *cameras(), 4.0)
    torch.testing.assert_close(about.world_to_camera, usual.world_to_camera)


@pytest.mark.parametrize("preset", ["orbit_left", "orbit_up", "dolly_in", "dolly_zoom_out"])
def test_an_orbit_or_dolly_about_a_subject_keeps_its_direction_and_an_orbit_its_distance(preset):
    lens, pose = cameras()
    world = in_world(POINTS, pose)
    path = preset_path(preset, lens, pose, POINTS)
    seen = in_camera(world, path.world_to_camera)
    torch.testing.assert_close(seen / seen[:, 2:], POINTS / POINTS[:, 2:])
    if "orbit" in preset:
        torch.testing.assert_close(seen, POINTS)


@pytest.mark.parametrize("preset", ["left", "spiral", "zoom_in", "orbit_right", "static"])
def test_an_aimed_camera_sees_its_point_at_its_pixel_from_where_it_was(preset):
    lens, pose = cameras()
    path = preset_path(preset, lens, pose, 4.0)
    pixels = torch.linspace(10, 50, FRAMES * 2).double().view(FRAMES, 2)
    world = in_world(POINTS, pose)
    turned = aimed(path.world_to_camera, path.intrinsics, world, pixels)
    torch.testing.assert_close(pixels_of(world, path.intrinsics, turned), pixels)
    torch.testing.assert_close(camera_centres(turned), camera_centres(path.world_to_camera))


def test_a_camera_that_sees_its_point_there_already_is_not_turned():
    lens, pose = cameras()
    world = in_world(POINTS, pose)
    torch.testing.assert_close(aimed(pose, lens, world, pixels_of(world, lens, pose)), pose)


def test_aiming_at_the_centre_does_not_roll():
    lens, _ = cameras()
    turned = aimed(torch.eye(4).double().expand(FRAMES, 4, 4), lens, POINTS, lens[:, :2, 2])
    torch.testing.assert_close(turned[:, 0, 1], torch.zeros(FRAMES).double())  # right stays level


def test_a_camera_at_its_subject_is_an_error_that_names_the_frame():
    points = torch.ones(2, 3).double()
    points[1] = 0
    with pytest.raises(ValueError, match="at frame 1 the camera is where the subject is"):
        aimed(torch.eye(4).expand(2, 4, 4), torch.eye(3).expand(2, 3, 3), points, torch.zeros(2, 2))


def test_gaps_are_interpolated_and_ends_held():
    way = torch.full((6, 3), math.nan).double()
    way[1], way[4] = 1.0, 4.0
    assert without_gaps(way)[:, 0].tolist() == pytest.approx([1, 1, 2, 3, 4, 4])
    with pytest.raises(ValueError, match="no frame shows the subject"):
        without_gaps(torch.full((3, 3), math.nan))


def test_steadying_keeps_straight_ways_and_calms_shaking_ones():
    straight = torch.arange(30).double()[:, None] * torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(steadied(straight, 4.0), straight)
    shaken = straight + torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    assert float((steadied(shaken, 4.0) - straight).std()) < 0.5 * float((shaken - straight).std())
    assert steadied(shaken, 0.0) is shaken
    assert steadied(shaken[:1], 4.0).shape == (1, 3)


def test_moments_between_frames_are_linear_and_the_ends_are_held():
    way = torch.arange(4).double()[:, None].expand(4, 3)
    assert at_moments(way, np.array([0.5, 2, 9]))[:, 1].tolist() == [0.5, 2, 3]
