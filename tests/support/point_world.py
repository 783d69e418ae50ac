"""Tracks of random points before a moving camera, without any picture: exact, or with noise."""

import numpy as np
from scipy.spatial.transform import Rotation

from recapture.models.cameras.tracks import Tracks

WIDTH, HEIGHT, FOCAL = 832, 480, 720.0
CENTRE = (WIDTH / 2, HEIGHT / 2)


def walk(frames, *, turn=0.0, travel=0.0, seed=0):
    """world_to_camera [T,4,4] of a smooth random walk: degrees of turn, units of travel over the clip."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, frames)[:, None]
    waves = [np.sin(at * rng.uniform(2, 6, 3) + rng.uniform(0, 6, 3)) for _ in range(2)]
    angles, places = (wave - wave[0] for wave in waves)
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(np.radians(turn) * angles).as_matrix()
    pose[:, :3, 3] = -np.einsum("tij,tj->ti", pose[:, :3, :3], travel * places)
    return pose


def tracks(pose, *, focal=None, points=500, noise=0.1, moving=0.0, length=20, seed=0, depth_error=0.0):
    """Tracks of `length` frames each; a share of the points moves along, near and in the middle."""
    rng = np.random.default_rng(seed)
    frames = len(pose)
    focal = np.full(frames, FOCAL) if focal is None else focal
    rows = []
    for number in range(points * max(1, frames // length)):
        first = int(rng.integers(0, max(1, frames - length // 2)))
        moves = rng.random() < moving
        inner = 0.3 if moves else 0.0
        x, y = rng.uniform(inner * WIDTH, (1 - inner) * WIDTH), rng.uniform(0, HEIGHT)
        z = rng.uniform(1.5, 2.0) if moves else 1 / rng.uniform(1 / 12, 1 / 2.5)
        local = z * np.array([(x - CENTRE[0]) / focal[first], (y - CENTRE[1]) / focal[first], 1.0])
        world = np.linalg.inv(pose[first]) @ [*local, 1]
        wrong = np.exp(depth_error * rng.normal())
        for frame in range(first, min(first + length, frames)):
            shift = [*((frame - first) * np.array([0.02, 0.006, 0.0])), 0] if moves else np.zeros(4)
            seen = (pose[frame] @ (world + shift))[:3]
            at = focal[frame] * seen[:2] / seen[2] + CENTRE
            if seen[2] < 0.1 or not (0 <= at[0] < WIDTH and 0 <= at[1] < HEIGHT):
                break
            jitter = noise * rng.normal(size=2) if frame > first else np.zeros(2)
            rows.append((number, frame, *(at + jitter), wrong / seen[2]))
    table = np.array(rows)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    track, frame = table[:, 0].astype(int), table[:, 1].astype(int)
    everything = Tracks(track, frame, table[:, 2:4], table[:, 4], frames, (), (WIDTH, HEIGHT))
    return everything.select(np.ones(len(track), bool))
