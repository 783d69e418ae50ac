"""Keyed tracks: poses and cameras given at evenly spaced moments, and a spline through them.

Source: Catmull and Rom, "A class of local interpolating splines", 1974 (the uniform one).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

POSE = 6  # columns of Scene.keys: x, y, z in units; turn, swing and bend in radians
SHOT = 8  # columns of Scene.shot: position and target in units, roll in degrees, zoom


def spline(keys: Tensor, at: Tensor) -> Tensor:
    """Return the spline through keys [..., K, C] at moments [..., T], counted in keys: [..., T, C].

    It passes through every key, has a continuous derivative, and is exact for straight lines. Before the
    first key and after the last one it rests.
    """
    count = keys.shape[-2]
    if count == 1:
        return keys.expand(*at.shape, keys.shape[-1])
    before, after = 2 * keys[..., :1, :] - keys[..., 1:2, :], 2 * keys[..., -1:, :] - keys[..., -2:-1, :]
    padded = torch.cat([before, keys, after], dim=-2)
    at = at.to(keys).clamp(0, count - 1)
    first = at.floor().clamp_max(count - 2)
    x = (at - first)[..., None]
    a, b, c, d = (_taken(padded, first.long() + step) for step in range(4))
    slope, bow, rest = c - a, 2 * a - 5 * b + 4 * c - d, 3 * b - a - 3 * c + d
    return b + 0.5 * x * (slope + x * (bow + x * rest))


def _taken(keys: Tensor, index: Tensor) -> Tensor:
    """Return keys [..., K, C] at index [..., T]: [..., T, C]."""
    return torch.gather(keys, -2, index[..., None].expand(*index.shape, keys.shape[-1]))


def pose_keys(tracks: Sequence[np.ndarray]) -> np.ndarray:
    """Return tracks [K, 6] of several bodies as one array [N, K, 6]; a body without keys (K = 0) rests.

    Raises: ValueError for tracks of different lengths.
    """
    lengths = {len(track) for track in tracks if len(track)}
    if len(lengths) > 1:
        raise ValueError(f"bodies of a scene have {sorted(lengths)} keys; give all of them as many")
    count = lengths.pop() if lengths else 1
    return np.stack([track if len(track) else np.zeros((count, POSE)) for track in tracks])
