"""Whole paths: a restart, a change of length and a smoothing keep what they must."""

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
    inner = slice(9, -9)  # the ends lean inwards, having neighbours on one side alone
    assert angle(result, steady)[inner].mean() < 0.5 * angle(shaken, steady)[inner].mean()
    jerk = [camera_centres(cameras).diff(n=3, dim=0).norm(dim=1).mean() for cameras in (shaken, result)]
    assert jerk[1] < 0.05 * jerk[0]


def test_smoothing_averages_by_the_gaussian_of_a_slow_twin():
    cameras = path(7)
    weights = torch.exp(-0.5 * (torch.arange(7.0).double() - 2) ** 2 / 1.5**2)
    expected = (weights[:, None] * camera_centres(cameras)).sum(0) / weights.sum()
    torch.testing.assert_close(camera_centres(smoothed(cameras, 1.5))[2], expected)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_smoothing_over_nothing_is_refused(sigma):
    with pytest.raises(ValueError, match="give a positive number"):
        smoothed(path(), sigma)
