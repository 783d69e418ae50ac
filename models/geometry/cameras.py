"""Pinhole cameras: OpenCV axes (x right, y down, z forward), pixel centres at +0.5.

world_to_camera [..., 4, 4] maps world points to camera coordinates; intrinsics [..., 3, 3] are in pixels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

ORTHONORMAL_TOLERANCE = 1e-3


def default_intrinsics(height: int, width: int, fov_degrees: float = 60.0) -> Tensor:
    """Return intrinsics [3,3] with `fov_degrees` across the longer side, its principal point central."""
    focal = 0.5 * max(height, width) / math.tan(math.radians(fov_degrees) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def scale_intrinsics(intrinsics: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Return the intrinsics [...,3,3] of images resized by the factors; exact because centres are at +0.5."""
    factors = intrinsics.new_tensor([[scale_x], [scale_y], [1.0]])
    return intrinsics * factors


def shift_intrinsics(intrinsics: Tensor, dx: float, dy: float) -> Tensor:
    """Return the intrinsics [...,3,3] after padding dx columns left and dy rows on top (crops: < 0)."""
    shift = torch.zeros_like(intrinsics)
    shift[..., 0, 2], shift[..., 1, 2] = dx, dy
    return intrinsics + shift


def rotation_degrees(axis: Literal["x", "y", "z"], degrees: Tensor | float) -> Tensor:
    """Return rotations [...,3,3] about one axis, float64: x turns y to z, y turns z to x, z turns x to y."""
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    cos, sin = torch.cos(angle), torch.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = torch.eye(3, dtype=torch.float64).expand(*angle.shape, 3, 3).clone()
    rotation[..., first, first] = rotation[..., second, second] = cos
    rotation[..., first, second], rotation[..., second, first] = -sin, sin
    return rotation


def rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    """Return [...,4,4] from a rotation [...,3,3] and a translation [...,3]."""
    matrix = torch.eye(4, dtype=rotation.dtype, device=rotation.device)
    matrix = matrix.expand(*rotation.shape[:-2], 4, 4).clone()
    matrix[..., :3, :3], matrix[..., :3, 3] = rotation, translation
    return matrix


def invert_rigid(matrix: Tensor) -> Tensor:
    """Return the inverse of rigid motions [...,4,4]: world_to_camera from camera_to_world and back."""
    rotation = matrix[..., :3, :3].transpose(-1, -2)
    return rigid(rotation, -(rotation @ matrix[..., :3, 3:])[..., 0])


def camera_centres(world_to_camera: Tensor) -> Tensor:
    """Return the camera centres [...,3] in world coordinates."""
    return invert_rigid(world_to_camera)[..., :3, 3]


def project_points(
    points: Tensor,  # [T, N, 3] pixel coordinates times depth: (u z, v z, z)
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3]
    target_world_to_camera: Tensor,  # [T, 4, 4]
) -> Tensor:
    """Carry homogeneous source pixels to homogeneous target pixels [T,N,3]; composes matrices as given."""
    matrix, shift = pixel_motion(
        source_intrinsics, source_world_to_camera, target_intrinsics, target_world_to_camera
    )
    return points @ matrix.to(points.dtype) + shift.to(points.dtype)


def project_grid(
    u: Tensor,  # [W] pixels
    v: Tensor,  # [H] pixels
    depth: Tensor,  # [T, H, W]
    matrix: Tensor,  # [T, 3, 3]
    shift: Tensor,  # [T, 1, 3]
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry a grid of source pixels with depth to homogeneous target pixels, by what `pixel_motion` returns.

    Same as `project_points`, with no tensor of points: memory is what takes time here.
    """
    x, y, z = (
        (
            (u * across[:, None]).to(depth.dtype)[:, None]
            + (v * down[:, None] + far[:, None]).to(depth.dtype)[..., None]
        )
        .mul_(depth)
        .add_(moved.to(depth.dtype)[:, None, None])
        for across, down, far, moved in zip(
            *(row.unbind(1) for row in matrix.unbind(1)), shift[:, 0].unbind(1)
        )
    )
    return x, y, z


def pixel_motion(
    source_intrinsics: Tensor,  # [T, 3, 3]
    source_world_to_camera: Tensor,  # [T, 4, 4]
    target_intrinsics: Tensor,  # [T, 3, 3]
    target_world_to_camera: Tensor,  # [T, 4, 4]
) -> tuple[Tensor, Tensor]:
    """Return matrix [T,3,3], shift [T,1,3]: homogeneous source pixels p (rows) go to p @ matrix + shift."""
    motion = target_world_to_camera @ invert_rigid(source_world_to_camera)
    matrix = target_intrinsics @ motion[:, :3, :3] @ torch.linalg.inv(source_intrinsics)
    shift = target_intrinsics @ motion[:, :3, 3:]
    return matrix.transpose(1, 2), shift.transpose(1, 2)


def check_cameras(intrinsics: Tensor, world_to_camera: Tensor, frames: int, name: str) -> None:
    """Raise ValueError, naming `name`, the frame and the value, unless these are `frames` usable cameras."""
    shapes = {
        "intrinsics": (intrinsics, (frames, 3, 3)),
        "world_to_camera": (world_to_camera, (frames, 4, 4)),
    }
    for what, (value, shape) in shapes.items():
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name}: {what} is {list(value.shape)}, expected {list(shape)}: one camera per frame"
            )
        bad = ~torch.isfinite(value).flatten(1).all(1)
        if bool(bad.any()):
            raise ValueError(f"{name}: {what} is not finite at frame {int(bad.nonzero()[0])}")
    focal = intrinsics.diagonal(dim1=-2, dim2=-1)[:, :2]
    if bool((focal <= 0).any()):
        frame = int((focal <= 0).any(1).nonzero()[0])
        raise ValueError(f"{name}: focal length {focal[frame].tolist()} at frame {frame} is not positive")
    last_row = world_to_camera.new_tensor([0.0, 0.0, 0.0, 1.0])
    if not torch.allclose(world_to_camera[:, 3], last_row.expand(frames, 4), atol=1e-6):
        raise ValueError(f"{name}: the last row of world_to_camera is not 0 0 0 1; is it transposed?")
    rotation = world_to_camera[:, :3, :3].double()
    off = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    if bool((off > ORTHONORMAL_TOLERANCE).any()):
        frame = int(off.argmax())
        raise ValueError(
            f"{name}: the rotation at frame {frame} is not orthonormal (off by {float(off[frame]):.3g}); "
            "is a scale mixed into it?"
        )
    if bool((torch.linalg.det(rotation) < 0).any()):
        frame = int((torch.linalg.det(rotation) < 0).nonzero()[0])
        raise ValueError(
            f"{name}: the camera at frame {frame} is left-handed; convert it to OpenCV axes first"
        )
