"""Cameras as rays need them, and poses that look at a point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.scenes.rays import Rays, components, per_ray


@dataclass(frozen=True)
class Lenses:
    """F cameras as rays need them: the origin, and the matrix from pixel coordinates to directions."""

    origin: Tensor  # [F, 3]
    to_direction: Tensor  # [F, 3, 3]; direction = to_direction @ (x, y, 1)

    @staticmethod
    def of(intrinsics: Tensor, world_to_camera: Tensor) -> Lenses:
        pose = world_to_camera.to(torch.float64)
        back = torch.linalg.inv(pose[:, :3, :3])
        to_direction = back @ torch.linalg.inv(intrinsics.to(torch.float64))
        return Lenses((-back @ pose[:, :3, 3:])[..., 0].to(intrinsics), to_direction.to(intrinsics))

    def _rays(self, view: Tensor, x: Tensor, y: Tensor) -> Rays:
        matrix = per_ray(self.to_direction, view)

        def along(row: int) -> Tensor:
            return matrix[..., row, 0] * x + matrix[..., row, 1] * y + matrix[..., row, 2]

        return Rays(
            view=view,
            origin=components(per_ray(self.origin, view)),
            direction=(along(0), along(1), along(2)),
            per_column=components(matrix[..., 0]),
            per_row=components(matrix[..., 1]),
        )

    def whole_views(self, pixel: Tensor) -> Rays:
        """Return rays [F, P] of every camera through pixels [P, 2], or through its own pixels [F, P, 2]."""
        view = torch.arange(len(self.origin), device=pixel.device)[:, None]
        return self._rays(view, pixel[..., 0], pixel[..., 1])

    def scattered(self, view: Tensor, pixel: Tensor) -> Rays:
        """Return rays [M] of the cameras view [M] through pixels [M, 2]."""
        return self._rays(view, pixel[..., 0], pixel[..., 1])


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Return coordinates x, y [height * width, 2] in row order."""
    y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2)


def look_at(position: Tensor, target: Tensor) -> Tensor:
    """Return world_to_camera [..., 4, 4] at position, facing target ([..., 3]), without roll (y is down)."""
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    down = torch.tensor([0.0, 1.0, 0.0], dtype=forward.dtype, device=forward.device).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    pose = torch.eye(4, dtype=forward.dtype, device=forward.device).repeat(*position.shape[:-1], 1, 1)
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = -(rotation @ position[..., None])[..., 0]
    return pose
