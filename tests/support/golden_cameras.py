"""Helpers that check a known camera in every dialect by the pixels of known points."""

import numpy as np
from numpy.typing import ArrayLike


def project(intrinsics: ArrayLike, world_to_camera: ArrayLike, point: list[float]) -> np.ndarray:
    """Return pixel (u, v) and depth of a world point."""
    x, y, z = (np.asarray(world_to_camera) @ np.array([*point, 1.0]))[:3]
    assert z > 0, "the point is behind the camera"
    u, v, _ = np.asarray(intrinsics) @ np.array([x, y, z]) / z
    return np.array([u, v, z])


def proper(world_to_camera: np.ndarray) -> None:
    """Assert rigid motions: rotations of determinant +1."""
    rotation = world_to_camera[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.eye(3)[None].repeat(len(rotation), 0), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-9)


def turned(axis: str, degrees: float) -> np.ndarray:
    """Return the rotation [3, 3] about an axis: x turns y to z, y turns z to x, z turns x to y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(
        {
            "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
    )
