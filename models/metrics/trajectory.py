"""Errors of a camera path against the true one: absolute (APE) and relative (RPE), after alignment.

Definitions: J. Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, as in the package
evo; alignment: S. Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns,
1991. Poses are world_to_camera [T,4,4].
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Alignment = Literal["none", "scale", "se3", "sim3"]


def centres(world_to_camera: np.ndarray) -> np.ndarray:
    """Return the places [T,3] of cameras."""
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    return np.asarray(-np.einsum("tji,tj->ti", rotation, translation))


def umeyama(points: np.ndarray, onto: np.ndarray, *, scaled: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Return rotation, translation and scale that bring points [n,3] closest to others; 1 if not scaled.

    Points on a line leave the turn about it open, and points in one place leave all: then it is as small as
    the singular vectors give it.
    """
    mean, target = points.mean(0), onto.mean(0)
    u, singular, v = np.linalg.svd((onto - target).T @ (points - mean) / len(points))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ np.diag(sign) @ v
    variance = float(((points - mean) ** 2).sum(1).mean())
    scale = float((singular * sign).sum() / variance) if scaled and variance > 0 else 1.0
    return rotation, target - scale * rotation @ mean, scale


def aligned(found: np.ndarray, truth: np.ndarray, how: Alignment) -> np.ndarray:
    """Return the found poses in the coordinates of the true ones.

    none, scale: the first frames coincide; scale also by the least-squares scale. se3, sim3: Umeyama.
    """
    if how in ("none", "scale"):
        moved = found @ np.linalg.inv(found[0]) @ truth[0]
        if how == "scale":
            own, other = (centres(one @ np.linalg.inv(truth[0])) for one in (moved, truth))
            power = float((own**2).sum())
            factor = float((own * other).sum()) / power if power > 0 else 1.0
            local = moved @ np.linalg.inv(truth[0])
            local[:, :3, 3] *= factor
            moved = local @ truth[0]
        return np.asarray(moved)
    rotation, shift, scale = umeyama(centres(found), centres(truth), scaled=how == "sim3")
    place = scale * centres(found) @ rotation.T + shift
    pose = np.tile(np.eye(4), (len(found), 1, 1))
    pose[:, :3, :3] = found[:, :3, :3] @ rotation.T
    pose[:, :3, 3] = -np.einsum("tij,tj->ti", pose[:, :3, :3], place)
    return pose


def absolute_errors(found: np.ndarray, truth: np.ndarray, how: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance and the angle in degrees [T] between aligned and true poses."""
    moved = aligned(found, truth, how)
    return np.linalg.norm(centres(moved) - centres(truth), axis=1), angles(moved, truth)


def relative_errors(found: np.ndarray, truth: np.ndarray, delta: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and angle in degrees [T-delta] of motions over delta frames, without alignment."""
    own, other = (pose[delta:] @ np.linalg.inv(pose[:-delta]) for pose in (found, truth))
    off = np.linalg.inv(other) @ own
    return np.linalg.norm(off[:, :3, 3], axis=1), angles(own, other)


def angles(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the angles in degrees [T] between the rotations of poses."""
    off = found[:, :3, :3] - truth[:, :3, :3]
    half = np.linalg.norm(off, axis=(1, 2)) / np.sqrt(8)  # of the chord: exact for small angles
    return np.asarray(2 * np.degrees(np.arcsin(np.clip(half, 0, 1))))


def path_length(world_to_camera: np.ndarray) -> float:
    """Return how far the cameras travel."""
    return float(np.linalg.norm(np.diff(centres(world_to_camera), axis=0), axis=1).sum())
