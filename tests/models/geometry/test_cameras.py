import math

import pytest
import torch

from recapture.models.geometry.cameras import (
    camera_centres,
    check_cameras,
    default_intrinsics,
    invert_rigid,
    project_points,
    rigid,
    rotation_degrees,
    scale_intrinsics,
    shift_intrinsics,
)


def cameras(frames=3):
    intrinsics = default_intrinsics(48, 64).double().expand(frames, 3, 3).clone()
    world_to_camera = rigid(
        rotation_degrees("y", torch.linspace(0, 20, frames)) @ rotation_degrees("x", 5.0),
        torch.randn(frames, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    )
    return intrinsics, world_to_camera


def test_default_intrinsics_span_the_asked_field_of_view_across_the_longer_side():
    for height, width in ((48, 64), (64, 48)):
        intrinsics = default_intrinsics(height, width, 70.0)
        across = 2 * math.degrees(math.atan(max(height, width) / 2 / float(intrinsics[0, 0])))
        assert across == pytest.approx(70.0, abs=1e-4)
        assert intrinsics[:2, 2].tolist() == [width / 2, height / 2]


def test_resized_and_padded_intrinsics_project_to_the_resized_and_padded_pixel():
    intrinsics = default_intrinsics(48, 64).double()
    point = torch.tensor([0.3, -0.2, 1.7], dtype=torch.float64)

    def pixel(k):
        return (k @ point)[:2] / point[2]

    scaled = pixel(scale_intrinsics(intrinsics, 0.5, 2.0))
    torch.testing.assert_close(scaled, pixel(intrinsics) * torch.tensor([0.5, 2.0], dtype=torch.float64))
    shifted = pixel(shift_intrinsics(intrinsics, 3.0, -5.0))
    torch.testing.assert_close(shifted, pixel(intrinsics) + torch.tensor([3.0, -5.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("axis", "start", "end"),
    [("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_a_quarter_turn_takes_one_axis_to_the_next(axis, start, end):
    turned = rotation_degrees(axis, 90.0) @ torch.tensor(start, dtype=torch.float64)
    torch.testing.assert_close(turned, torch.tensor(end, dtype=torch.float64), atol=1e-12, rtol=0)


def test_inverted_motion_undoes_the_motion_and_its_shift_is_the_camera_centre():
    _, world_to_camera = cameras()
    identity = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    torch.testing.assert_close(invert_rigid(world_to_camera) @ world_to_camera, identity)
    centres = camera_centres(world_to_camera)
    origin = world_to_camera @ torch.cat([centres, torch.ones(3, 1).double()], -1)[..., None]
    torch.testing.assert_close(origin[:, :3, 0], torch.zeros(3, 3).double())


def test_project_points_agrees_with_lifting_to_the_world_point_by_point():
    source_k, source = cameras()
    target_k, target = source_k * torch.tensor([[1.3], [0.8], [1.0]]).double(), cameras()[1].flip(0)
    generator = torch.Generator().manual_seed(1)
    pixel = torch.rand(3, 7, 2, generator=generator).double() * 50
    z = 1 + torch.rand(3, 7, 1, generator=generator).double()
    got = project_points(torch.cat([pixel * z, z], -1), source_k, source, target_k, target)
    for t in range(3):
        for n in range(7):
            ray = torch.linalg.solve(source_k[t], torch.cat([pixel[t, n], torch.ones(1).double()]))
            world = torch.linalg.solve(source[t], torch.cat([ray * z[t, n], torch.ones(1).double()]))
            torch.testing.assert_close(got[t, n], target_k[t] @ (target[t] @ world)[:3])


def broken(change):
    intrinsics, world_to_camera = cameras()
    change(intrinsics, world_to_camera)
    return intrinsics, world_to_camera


def not_finite(k, w):
    w[1, 0, 3] = float("nan")


def not_finite_intrinsics(k, w):
    k[2, 0, 0] = float("inf")


def no_focal(k, w):
    k[1, 0, 0] = -40.0


def transposed(k, w):
    w[:] = w.transpose(1, 2).clone()


def scaled(k, w):
    w[2, :3, :3] *= 1.5


def left_handed(k, w):
    w[1, 0, :3] *= -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (not_finite, r"^clip: world_to_camera is not finite at frame 1$"),
        (not_finite_intrinsics, r"^clip: intrinsics is not finite at frame 2$"),
        (no_focal, r"^clip: focal length \[-40\.0, .*\] at frame 1 is not positive$"),
        (transposed, r"^clip: the last row of world_to_camera is not 0 0 0 1; is it transposed\?$"),
        (scaled, r"^clip: the rotation at frame 2 is not orthonormal \(off by 1\.25\)"),
        (left_handed, r"^clip: the camera at frame 1 is left-handed; convert it to OpenCV"),
    ],
)
def test_an_unusable_camera_is_one_error_that_names_the_frame_and_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        check_cameras(*broken(change), frames=3, name="clip")


def test_wrong_counts_are_an_error_that_names_both_shapes():
    with pytest.raises(ValueError, match=r"^clip: intrinsics is \[3, 3, 3\], expected \[5, 3, 3\]"):
        check_cameras(*cameras(), frames=5, name="clip")
    with pytest.raises(ValueError, match=r"^clip: world_to_camera is \[3, 3, 4\], expected \[3, 4, 4\]"):
        check_cameras(cameras()[0], cameras()[1][:, :3], frames=3, name="clip")


def test_usable_cameras_pass():
    check_cameras(*cameras(), frames=3, name="clip")
