"""Camera paths relative to a body: where it is, poses about it, and a camera that is aimed at it.

A subject is a point per frame. Turned about it, the camera keeps it at the pixel where the source has it; the
aim does so for any path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recapture.models.geometry.cameras import invert_rigid, rigid, rotation_degrees

DEPTH_PIXELS = 8  # of a mask, that must have depth for the subject to have a place


def subject_place(
    mask: Tensor,  # [H, W] bool, the subject's pixels
    depth: Tensor,  # [H, W] z-depth
    known: Tensor,  # [H, W] bool, pixels with usable depth
    intrinsics: Tensor,  # [3, 3]
) -> Tensor:
    """Return where the subject is, [3] float64 in camera coordinates: the mean of its visible surface.

    Depth beyond a twentieth of the surface to either side counts as there, since edges of masks are coarse.
    NaN if fewer than DEPTH_PIXELS of the mask (or, of a smaller one, none) have depth.
    """
    usable = mask & known & torch.isfinite(depth) & (depth > 0)
    z = depth[usable].double()
    if z.numel() < max(1, min(DEPTH_PIXELS, int(mask.sum()))):
        return torch.full((3,), math.nan, dtype=torch.float64)
    v, u = (place.double() + 0.5 for place in torch.nonzero(usable, as_tuple=True))
    z = z.clamp(z.quantile(1 / 20), z.quantile(19 / 20))
    mean = torch.stack([(u * z).mean(), (v * z).mean(), z.mean()])
    return torch.linalg.inv(intrinsics.double()) @ mean


def in_world(places: Tensor, world_to_camera: Tensor) -> Tensor:
    """Return points [T,3], given in the coordinates of each frame's camera [T,4,4], in the world's."""
    to_world = invert_rigid(world_to_camera.double())
    return (to_world[:, :3, :3] @ places[..., None])[..., 0] + to_world[:, :3, 3]


def in_camera(points: Tensor, world_to_camera: Tensor) -> Tensor:
    """Return points [T,3] of the world in the coordinates of each frame's camera [T,4,4]."""
    pose = world_to_camera.double()
    return (pose[:, :3, :3] @ points[..., None])[..., 0] + pose[:, :3, 3]


def without_gaps(points: Tensor) -> Tensor:
    """Return points [T,3] with frames of NaN interpolated linearly, and held beyond the first and last seen.

    Raises ValueError if there is no point at all.
    """
    seen = torch.isfinite(points).all(1).numpy()
    if not seen.any():
        raise ValueError("no frame shows the subject")
    at = np.arange(len(points))
    parts = [np.interp(at, at[seen], points[:, axis].numpy()[seen]) for axis in range(3)]
    return torch.from_numpy(np.stack(parts, axis=1))


def steadied(points: Tensor, sigma: float) -> Tensor:
    """Return points [T,3] smoothed by a Gaussian of `sigma` frames; 0 leaves them.

    Beyond its ends the way is mirrored through them, so that steady motion stays as it is.
    """
    reach = min(len(points) - 1, math.ceil(4 * sigma))
    if not sigma or not reach:
        return points
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    before = (2 * points[0] - points[1 : reach + 1]).flip(0)
    after = (2 * points[-1] - points[-reach - 1 : -1]).flip(0)
    way = torch.cat([before, points, after])
    return way.unfold(0, 2 * reach + 1, 1) @ (weight / weight.sum())


def at_moments(points: Tensor, moments: np.ndarray) -> Tensor:
    """Return points [T,3] at moments [N] in frames, linear in between and held beyond the ends."""
    at = np.arange(len(points))
    return torch.from_numpy(np.stack([np.interp(moments, at, axis) for axis in points.T.numpy()], axis=1))


def offset_about(pose: Mapping[str, Tensor], pivot: Tensor) -> Tensor:
    """Return the motions [T,4,4] from source to new camera coordinates of poses (part -> [T]) about points.

    pivot: [T,3] in the source camera's coordinates. The pose's parts are those of trajectories.py, with the
    way to this point in place of the optical axis: r and z travel along it, x and y across the picture.
    """
    turn = rotation_degrees("y", -pose["phi"]) @ rotation_degrees("x", -pose["theta"])
    away = -(turn @ pivot[..., None])[..., 0]
    across = pivot[:, 2:] * torch.stack([pose["x"], -pose["y"], torch.zeros_like(pose["x"])], dim=-1)
    centre = pivot + (1 - pose["r"])[:, None] * away + across + pose["z"][:, None] * pivot
    rotation = (
        turn
        @ rotation_degrees("y", pose["pan"])
        @ rotation_degrees("x", pose["tilt"])
        @ rotation_degrees("z", pose["roll"])
    )
    return rigid(rotation.mT, -(rotation.mT @ centre[..., None])[..., 0])


def aimed(
    world_to_camera: Tensor,  # [T, 4, 4]
    intrinsics: Tensor,  # [T, 3, 3]
    points: Tensor,  # [T, 3] in the world
    pixels: Tensor,  # [T, 2]
) -> Tensor:
    """Return the cameras [T,4,4] turned on the spot, by pan and tilt, until each sees its point at its pixel.

    Raises ValueError for a point at the camera itself.
    """
    pose = world_to_camera.double()
    towards = in_camera(points, pose)
    near = towards.norm(dim=1) < 1e-9
    if bool(near.any()):
        raise ValueError(f"at frame {int(near.nonzero()[0])} the camera is where the subject is")
    ones = torch.ones(len(pixels), 1, dtype=torch.float64)
    wanted = torch.linalg.solve(intrinsics.double(), torch.cat([pixels.double(), ones], dim=1))
    turn = _to_axis(wanted).mT @ _to_axis(towards)
    return rigid(turn, torch.zeros(len(turn), 3, dtype=torch.float64)) @ pose


def pixels_of(points: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> Tensor:
    """Return the pixels [T,2] at which cameras see points [T,3] of the world."""
    seen = (intrinsics.double() @ in_camera(points, world_to_camera)[..., None])[..., 0]
    return seen[:, :2] / seen[:, 2:]


def _to_axis(direction: Tensor) -> Tensor:
    """Return the rotations [T,3,3], a pan and then a tilt, that turn directions [T,3] to the optical axis."""
    x, y, z = normalize(direction, dim=1).unbind(1)
    pan = torch.rad2deg(torch.atan2(x, z))
    tilt = torch.rad2deg(torch.atan2(y, torch.hypot(x, z)))
    return rotation_degrees("x", tilt) @ rotation_degrees("y", -pan)
