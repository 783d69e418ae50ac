"""Whole paths: a restart, a change of length and a smoothing keep what they must."""

import math

import pytest
import torch

from recapture.models.geometry.camera_paths import resampled, restarted, scaled, smoothed
from recapture.models.geometry.cameras import camera_centres, invert_rigid, rigid, rotation_degrees


def path(frames=9):
    degrees = torch.linspace(0, 40, frames)
    rotation = rotation_degrees("y", degrees) @ rotation_degrees("x", degrees / 3)
    centres = torch.stack(
        [torch.linspace(0, 2, frames), torch.linspace(1, 0, frames), degrees / 9], -1
    ).double()
    return rigid(rotation, -(rotation @ centres[..., None])[..., 0])


def angle(first, second):
    trace = (first[..., :3, :3].transpose(-1, -2) @ second[..., :3, :3]).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def test_a_restarted_path_begins_at_the_camera_and_moves_alike():
    start = rigid(rotation_degrees("z", 30.0), torch.tensor([3.0, -1, 2]).double())
    moved = restarted(path(), start)
    torch.testing.assert_close(moved[0], start)
    for frame in range(9):
        torch.testing.assert_close(
            moved[frame] @ invert_rigid(moved[0]), path()[frame] @ invert_rigid(path()[0])
        )


def test_scaling_multiplies_every_distance_and_turns_nothing():
    bigger = scaled(path(), 2.5)
    torch.testing.assert_close(camera_centres(bigger), 2.5 * camera_centres(path()))
    assert torch.equal(bigger[:, :3, :3], path()[:, :3, :3])


def test_resampling_keeps_the_ends_and_meets_the_cameras_between():
    lens = torch.eye(3).double() * torch.arange(1.0, 6)[:, None, None]
    longer, lenses = resampled(path(5), lens, 9)
    torch.testing.assert_close(longer[::2], path(5))
    torch.testing.assert_close(lenses[:, 0, 0], torch.linspace(1, 5, 9).double())
    middle = (camera_centres(path(5))[:-1] + camera_centres(path(5))[1:]) / 2
    torch.testing.assert_close(camera_centres(longer)[1::2], middle)
    torch.testing.assert_close(angle(longer[1], longer[0]), angle(longer[1], longer[2]))
    torch.testing.assert_close(resampled(path(9), None, 5)[0], path(9)[::2])
    assert resampled(path(1), None, 4)[0].shape == (4, 4, 4)
    torch.testing.assert_close(resampled(path(7), None, 1)[0], path(7)[:1])


def test_smoothing_leaves_a_still_camera_and_takes_out_the_shaking():
    torch.testing.assert_close(smoothed(path()[:1].repeat(6, 1, 1), 2.0), path()[:1].repeat(6, 1, 1))
    steady = path(60)
    generator = torch.Generator().manual_seed(0)
    shake = rotation_degrees("x", torch.randn(60, generator=generator))
    shaken = rigid(shake, 0.05 * torch.randn(60, 3, generator=generator).double()) @ steady
    result = smoothed(shaken, 3.0)
    rotation = result[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(60, 3, 3))
    assert (torch.linalg.det(rotation) > 0).all()
    assert angle(result, steady).mean() < 0.5 * angle(shaken, steady).mean()
    jerk = [camera_centres(cameras).diff(n=3, dim=0).norm(dim=1).mean() for cameras in (shaken, result)]
    assert jerk[1] < 0.05 * jerk[0]


def test_smoothing_averages_centres_as_a_slow_twin_does():
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(9, 3, generator=generator).double()
    cameras = rigid(torch.eye(3).double().expand(9, 3, 3), -centres)
    expected = torch.zeros(9, 3).double()
    for frame in range(9):
        total = 0.0
        for offset in range(-6, 7):
            there = frame + offset
            if there < 0:
                place = 2 * centres[0] - centres[-there]
            elif there > 8:
                place = 2 * centres[8] - centres[16 - there]
            else:
                place = centres[there]
            share = math.exp(-0.5 * (offset / 1.5) ** 2)
            expected[frame], total = expected[frame] + share * place, total + share
        expected[frame] /= total
    torch.testing.assert_close(camera_centres(smoothed(cameras, 1.5)), expected)


@pytest.mark.parametrize("sigma", [0.4, 2.0, 100.0])
def test_steady_motion_stays_as_it_is(sigma):
    steps = torch.arange(7.0).double()
    rotation = rotation_degrees("y", 4 * steps) @ rotation_degrees("x", 20.0)
    centres = torch.stack([steps, -2 * steps, 0.5 * steps], -1)
    steady = rigid(rotation, -(rotation @ centres[..., None])[..., 0])
    torch.testing.assert_close(smoothed(steady, sigma), steady)
    torch.testing.assert_close(smoothed(steady[:1], sigma), steady[:1])


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_smoothing_over_nothing_is_refused(sigma):
    with pytest.raises(ValueError, match="give a positive number"):
        smoothed(path(), sigma)
