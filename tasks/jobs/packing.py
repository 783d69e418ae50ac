"""Temporal packing in a job: which fills of a clip its later fills are conditioned on.

The order depends on the configuration alone, so that keys are known before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from recapture.conf.errors import UserError
from recapture.conf.schema import TrajectoryConfig
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.trajectories import keyframe_path, preset_path
from recapture.tasks.clip.clip_stage import ClipParams

FRAMES = 49  # of the path from which a trajectory's reach is computed


def filling_order(params: Iterable[ClipParams]) -> dict[str, list[str]]:
    """Return item name -> names of the items of the same clip that are filled before it.

    The camera that moves least comes first: it has the smallest holes, and less of its fill is invented.
    Paths from files are unknown here and come last; ties are ordered by label.
    """
    reaches: dict[str, tuple[float, float]] = {}
    by_clip: dict[str, list[tuple[tuple[float, float, str], str]]] = {}
    for one in params:
        if one.label not in reaches:
            reaches[one.label] = reach(one.path)
        by_clip.setdefault(one.clip_id, []).append(((*reaches[one.label], one.label), one.name))
    before: dict[str, list[str]] = {}
    for items in by_clip.values():
        names = [name for _, name in sorted(items)]
        before |= {name: names[:place] for place, name in enumerate(names)}
    return before


def reach(trajectory: TrajectoryConfig) -> tuple[float, float]:
    """Return how far a path leaves the source's view: degrees, and distance as a share of the pivot's depth.

    Degrees are the largest turn of the camera, or of its direction as seen from the pivot. Both are infinite
    if the configuration does not determine them. Raises UserError for a path that cannot be used.
    """
    if trajectory.stabilise_seconds is not None:
        return 0.0, 0.0
    eye = torch.eye(4, dtype=torch.float64).expand(FRAMES, 4, 4)
    cameras = default_intrinsics(64, 64).double().expand(FRAMES, 3, 3), eye, 1.0
    try:
        if trajectory.preset is not None:
            amounts = {"angle_degrees": trajectory.angle_degrees, "distance": trajectory.distance}
            path = preset_path(trajectory.preset, *cameras, **amounts)  # type: ignore[arg-type]
        elif trajectory.keyframes is not None:
            keys = trajectory.keyframes
            path = keyframe_path(keys, *cameras, interpolation=trajectory.interpolation)
        else:
            return math.inf, math.inf
    except ValueError as error:
        raise UserError(f"trajectory {trajectory.label!r} cannot be used: {error}") from None
    turn, travel = path.world_to_camera[:, :3, :3], path.world_to_camera[:, :3, 3]
    centre = -(turn.mT @ travel[..., None])[..., 0]
    turned = (turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    away = torch.nn.functional.normalize(centre - centre.new_tensor([0.0, 0.0, 1.0]), dim=1)
    cosine = torch.minimum(turned, -away[:, 2]).clamp(-1, 1).min()
    return round(float(cosine.arccos().rad2deg()), 6), round(float(centre.norm(dim=1).max()), 6)
