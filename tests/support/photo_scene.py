"""A still scene of two photographs, ray-cast exactly: a wall and, before it, a box; any camera, any frame."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_sample_images

HEIGHT, WIDTH, FRAMES = 96, 128, 17
# z, half width, half height of the surfaces, nearest first
SURFACES = ((3.0, 0.7, 0.9), (6.0, 12.0, 8.0))


def intrinsics(height=HEIGHT, width=WIDTH, frames=FRAMES):
    focal = width / 2 / np.tan(np.radians(30))
    one = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return one.expand(frames, 3, 3)


def moving_cameras(frames=FRAMES, pan=0.0, dolly=0.0, truck=0.0, shake=0.0, seed=0):
    """world_to_camera [T,4,4]: degrees of pan, and units forward and right, per frame; shake in degrees."""
    random = np.random.default_rng(seed)
    turns = np.zeros((frames, 2))
    turns[:, 0] = np.arange(frames) * pan
    turns += shake * random.standard_normal((frames, 2))
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for t, (yaw, pitch) in enumerate(np.radians(turns)):
        about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        centre = np.array([truck * t, 0, dolly * t])
        poses[t, :3, :3] = about_x @ about_y
        poses[t, :3, 3] = -poses[t, :3, :3] @ centre
    return torch.from_numpy(poses)


@cache
def photographs():
    first, second = (image.astype(np.float64) / 127.5 - 1 for image in load_sample_images().images)
    return second, first  # of the box, of the wall


def shoot(intrinsics, world_to_camera, height=HEIGHT, width=WIDTH):
    """Return video [T,3,H,W] float32 and z-depth [T,H,W] of the scene; (0, inf) beside the wall."""
    frames = [_shoot(k.numpy(), w.numpy(), height, width) for k, w in zip(intrinsics, world_to_camera)]
    video, depth = (torch.from_numpy(np.stack(part)).float() for part in zip(*frames))
    return video.movedim(-1, 1).contiguous(), depth


def _shoot(k, pose, height, width):
    v, u = np.mgrid[:height, :width] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(k).T  # z-depth 1
    world = rays @ pose[:3, :3]
    centre = -pose[:3, :3].T @ pose[:3, 3]
    colour, depth = np.zeros((height, width, 3)), np.full((height, width), np.inf)
    for (z, half_x, half_y), picture in zip(SURFACES, photographs()):
        with np.errstate(divide="ignore"):
            along = (z - centre[2]) / world[..., 2]
        x, y = centre[0] + along * world[..., 0], centre[1] + along * world[..., 1]
        hit = (along > 0) & (np.abs(x) <= half_x) & (np.abs(y) <= half_y) & np.isinf(depth)
        rows = (y / (2 * half_y) + 0.5) * (picture.shape[0] - 1)
        columns = (x / (2 * half_x) + 0.5) * (picture.shape[1] - 1)
        colour[hit] = _bilinear(picture, rows[hit], columns[hit])
        depth[hit] = along[hit]
    return colour, depth


def _bilinear(picture, rows, columns):
    y = np.clip(rows.astype(int), 0, picture.shape[0] - 2)
    x = np.clip(columns.astype(int), 0, picture.shape[1] - 2)
    a, b = (rows - y)[:, None], (columns - x)[:, None]
    upper = (1 - b) * picture[y, x] + b * picture[y, x + 1]
    lower = (1 - b) * picture[y + 1, x] + b * picture[y + 1, x + 1]
    return (1 - a) * upper + a * lower


@dataclass(frozen=True)
class Motion:
    """How the source's camera moves; see `moving_cameras`."""

    name: str
    pan: float = 0.0
    dolly: float = 0.0
    truck: float = 0.0
    shake: float = 0.0

    def cameras(self, frames=FRAMES):
        return moving_cameras(frames, self.pan, self.dolly, self.truck, self.shake)
