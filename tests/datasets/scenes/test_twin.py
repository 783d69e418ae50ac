"""The scene ray-caster against a slow, obvious twin: one ray at a time in plain float64 Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recapture.datasets.scenes.layout import Scene
from recapture.datasets.scenes.render import co_visible, render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene


def reflected(start: float, velocity: float, low: float, high: float, time: float) -> float:
    """Walk to `time`, turning round at low and high."""
    at = start + velocity * time
    while not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at


def turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation from a quaternion (the caster uses Rodrigues' formula)."""
    w, (x, y, z) = math.cos(angle / 2), math.sin(angle / 2) * axis
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def body_hit(kind: str, size: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> float:
    """Smallest positive ray parameter on the body's surface, from candidates checked one by one."""
    candidates = []
    if kind == "box":
        for axis in range(3):
            for side in (-size[axis], size[axis]):
                if direction[axis] != 0:
                    t = (side - origin[axis]) / direction[axis]
                    at = np.abs(origin + t * direction)
                    if all(at[other] <= size[other] + 1e-12 for other in range(3) if other != axis):
                        candidates.append(t)
    elif kind == "sphere":
        closest = -origin @ direction / (direction @ direction)
        miss = np.linalg.norm(origin + closest * direction)
        if miss < size[0]:
            candidates.append(closest - math.sqrt(size[0] ** 2 - miss**2) / np.linalg.norm(direction))
    else:
        radius, half = size[0], size[1]
        flat = np.array([direction[0], direction[2]])
        roots = np.roots(
            [flat @ flat, 2 * flat @ origin[[0, 2]], origin[[0, 2]] @ origin[[0, 2]] - radius**2]
        )
        real = [float(root.real) for root in roots if np.isreal(root)]
        candidates += [t for t in real if abs(origin[1] + t * direction[1]) <= half]
        for side in (-half, half):
            t = (side - origin[1]) / direction[1]
            x, _, z = origin + t * direction
            if x * x + z * z <= radius * radius:
                candidates.append(t)
    return min((t for t in candidates if t > 0), default=math.inf)


def first_hit(scene: Scene, time: float, origin: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Ray parameter and object id of what a ray meets first in a single scene."""
    low, high = scene.room_low.double().numpy(), scene.room_high.double().numpy()
    room = [
        ((high if direction[axis] > 0 else low)[axis] - origin[axis]) / direction[axis]
        for axis in range(3)
        if direction[axis] != 0
    ]
    best, seen = min(room), 0
    for index, kind in enumerate(scene.kinds):
        if not bool(scene.active[index]):
            continue
        field = {
            name: getattr(scene, name)[index].double().numpy()
            for name in ("size", "position", "velocity", "low", "high", "hop", "axis", "spin")
        }
        centre = np.array(
            [
                reflected(start, velocity, low, high, time)
                for start, velocity, low, high in zip(
                    *(field[name].tolist() for name in ("position", "velocity", "low", "high"))
                )
            ]
        )
        height, rate, phase = field["hop"]
        centre[1] -= height * abs(math.sin(math.pi * (rate * time + phase)))
        rotation = turned(field["axis"], float(field["spin"][0] + field["spin"][1] * time))
        t = body_hit(kind, field["size"], rotation.T @ (origin - centre), rotation.T @ direction)
        if t < best:
            best, seen = t, int(scene.label[index])
    return best, seen


def pixel_ray(
    intrinsics: np.ndarray, world_to_camera: np.ndarray, x: float, y: float
) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre and the direction (camera z = 1) through pixel coordinates x, y."""
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    direction = rotation.T @ np.array([(x - cx) / fx, (y - cy) / fy, 1.0])
    return -rotation.T @ translation, direction


def orbit(pose: Tensor, degrees: float, depth: float = 4.0, axis: int = 1) -> Tensor:
    """The camera [T, 4, 4] swung about the point at `depth` before it."""
    angle = torch.deg2rad(torch.tensor(degrees))
    spin = torch.zeros(3)
    spin[axis] = angle
    cross = torch.tensor([[0, -spin[2], spin[1]], [spin[2], 0, -spin[0]], [-spin[1], spin[0], 0]])
    rotation = torch.matrix_exp(cross)
    pivot = torch.tensor([0.0, 0.0, depth])
    offset = torch.eye(4)
    offset[:3, :3], offset[:3, 3] = rotation, pivot - rotation @ pivot
    return offset @ pose


@pytest.mark.parametrize("seed", [3, 9])  # together they show every kind of body
def test_depth_and_ids_agree_with_a_float64_twin_that_casts_one_ray_at_a_time(seed: int) -> None:
    scene, size = sample_scene(seed, camera_motion=True), 24
    intrinsics, pose = source_cameras(scene, 40, size, size)
    when = [0, 13, 39]
    poses = torch.cat([orbit(pose[t : t + 1], 25.0 * turn) for turn, t in enumerate(when)])
    frames = render_scene(scene, intrinsics[when], poses, torch.tensor(when).float(), size, size)
    wrong = 0
    for index, time in enumerate(when):
        for row in range(size):
            for column in range(size):
                origin, direction = pixel_ray(
                    intrinsics[time].double().numpy(), poses[index].double().numpy(), column + 0.5, row + 0.5
                )
                depth, seen = first_hit(scene, float(time), origin, direction)
                if seen != int(frames.object_id[index, row, column]):
                    wrong += 1
                    continue
                assert float(frames.depth[index, row, column]) == pytest.approx(depth, rel=1e-3)
    assert len(frames.object_id.unique()) >= 3
    assert wrong <= 1  # a float32 ray may fall to the other side of a silhouette


def test_co_visibility_agrees_with_shadow_rays_of_the_twin() -> None:
    scene, size = sample_scene(10), 20
    intrinsics, pose = source_cameras(scene, 9, size, size)
    source, target, k = pose[8:9], orbit(pose[8:9], 30.0), intrinsics[8:9]
    seen = co_visible(scene, k, target, k, source, torch.tensor([8.0]), size, size)[0]
    k64, source64, target64 = k[0].double().numpy(), source[0].double().numpy(), target[0].double().numpy()
    for row in range(size):
        for column in range(size):
            origin, direction = pixel_ray(k64, target64, column + 0.5, row + 0.5)
            point = origin + first_hit(scene, 8.0, origin, direction)[0] * direction
            x, y, z = k64 @ (source64[:3, :3] @ point + source64[:3, 3])
            expected = z > 0 and 0 <= x / z < size and 0 <= y / z < size
            if expected:
                eye, towards = pixel_ray(k64, source64, x / z, y / z)
                expected = first_hit(scene, 8.0, eye, towards)[0] >= z - 1e-6
            assert bool(seen[row, column]) == expected, (row, column)
    assert 0.2 < seen.float().mean() < 0.95
