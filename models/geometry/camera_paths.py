"""Whole camera paths: moved to another start, brought to another length, smoothed."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from recapture.models.geometry.cameras import camera_centres, invert_rigid, rigid


def restarted(world_to_camera: Tensor, start: Tensor) -> Tensor:
    """Return a path [T,4,4] that moves like `world_to_camera` [T,4,4] from the camera `start` [4,4] on."""
    return world_to_camera @ invert_rigid(world_to_camera[0]) @ start.to(world_to_camera)


def scaled(world_to_camera: Tensor, factor: float) -> Tensor:
    """Return cameras [T,4,4] of a world whose distances are multiplied by the factor."""
    changed = world_to_camera.clone()
    changed[:, :3, 3] *= factor
    return changed


def resampled(
    world_to_camera: Tensor,  # [T, 4, 4]
    intrinsics: Tensor | None,  # [T, 3, 3]
    frames: int,
) -> tuple[Tensor, Tensor | None]:
    """Return the path in another number of frames, at even speed of time, from its first to its last camera.

    Centres and intrinsics are interpolated linearly, rotations along the shortest arc.
    """
    return sampled(world_to_camera, intrinsics, np.linspace(0, len(world_to_camera) - 1, frames))


def sampled(
    world_to_camera: Tensor,  # [T, 4, 4]
    intrinsics: Tensor | None,  # [T, 3, 3]
    at: np.ndarray,  # [N] moments in frames, 0 to T-1
) -> tuple[Tensor, Tensor | None]:
    """Return the path's cameras [N,4,4] and [N,3,3] at these moments, interpolated as by `resampled`."""
    count = len(world_to_camera)
    if count == 1:
        lens = None if intrinsics is None else intrinsics.expand(len(at), 3, 3).clone()
        return world_to_camera.expand(len(at), 4, 4).clone(), lens
    below = torch.from_numpy(np.minimum(at.astype(int), count - 2))
    share = torch.from_numpy(at).to(world_to_camera) - below

    def between(values: Tensor) -> Tensor:
        weight = share.reshape(-1, *[1] * (values.ndim - 1)).to(values)
        return values[below] * (1 - weight) + values[below + 1] * weight

    turns = Rotation.from_matrix(world_to_camera[:, :3, :3].double().numpy())
    rotation = torch.from_numpy(Slerp(np.arange(count), turns)(at).as_matrix()).to(world_to_camera)
    centres = between(camera_centres(world_to_camera))
    path = rigid(rotation, -(rotation @ centres[..., None])[..., 0])
    return path, None if intrinsics is None else between(intrinsics)


def smoothed(world_to_camera: Tensor, sigma: float) -> Tensor:
    """Return a steadier path [T,4,4]: a Gaussian mean over frames of standard deviation `sigma` frames.

    Centres are averaged, rotations by their chordal mean (the rotation nearest to the average matrix). Beyond
    its ends the path is mirrored through them, so that steady motion stays as it is. Raises ValueError unless
    sigma is positive.
    """
    if not sigma > 0:
        raise ValueError(f"the path is to be smoothed over {sigma:g} frames; give a positive number")
    pose = world_to_camera.double()
    reach = min(len(pose) - 1, math.ceil(4 * sigma))
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    weight = weight / weight.sum()
    rotation, centres = pose[:, :3, :3], camera_centres(pose)
    before, after = slice(1, reach + 1), slice(len(pose) - 1 - reach, len(pose) - 1)

    def turned(end: Tensor, part: slice) -> Tensor:
        return (end @ rotation[part].transpose(1, 2) @ end).flip(0)

    turns = torch.cat([turned(rotation[0], before), rotation, turned(rotation[-1], after)])
    places = torch.cat(
        [(2 * centres[0] - centres[before]).flip(0), centres, (2 * centres[-1] - centres[after]).flip(0)]
    )
    mean = _filtered(turns.flatten(1), weight).reshape(-1, 3, 3)
    left, _, right = torch.linalg.svd(mean)
    proper = torch.ones(len(pose), 3, dtype=torch.float64)
    proper[:, 2] = torch.linalg.det(left @ right)
    steady = left @ torch.diag_embed(proper) @ right
    return rigid(steady, -(steady @ _filtered(places, weight)[..., None])[..., 0])


def _filtered(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sums [T,C] over the windows of values [T + len(weight) - 1, C]."""
    return torch.nn.functional.conv1d(values.T[:, None], weight[None, None])[:, 0].T
