"""Temporal packing in the plan of a job: which fills of a clip a later fill of it is shown.

Everything here follows from the configuration and from which fills could not be made, so that keys are known
before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig, TrajectoryConfig
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.geometry.trajectories import keyframe_path, preset_path

FILL, RENDER = "fill", "render"
FRAMES = 49  # of the path that a trajectory's reach is taken from


@dataclass(frozen=True)
class Packed:
    """What a fill is shown of its clip's earlier ones."""

    inputs: Mapping[str, str]  # fill/0, render/0, fill/1, ... -> key
    identity: Mapping[str, Any]  # what packing adds to the key; nothing where nothing is packed
    rank: int  # how many of the clip's trajectories come before; 0 without packing


def filling_order(config: RecaptureConfig) -> tuple[TrajectoryConfig, ...]:
    """Return the trajectories in the order in which a clip's are filled: as given, or packing by reach.

    The camera that moves least has the smallest holes, and less of its fill is invented. What comes from a
    file is not known here and goes last; ties go by label.
    """
    if not config.fill.packing.frames:
        return config.trajectories
    return tuple(sorted(config.trajectories, key=lambda one: (*reach(one), one.label)))


def reach(trajectory: TrajectoryConfig) -> tuple[float, float]:
    """Return how far a path leaves the source's view: degrees, and distance as a share of the pivot's depth.

    Degrees are the largest turn of the camera, or of its direction as seen from the pivot. Both are infinite
    where the configuration does not say. Raises UserError for a path that no clip can be filmed along.
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


def pack_earlier(
    config: RecaptureConfig,
    earlier: Sequence[str],  # names of the clip's fills that come before, in their order
    keys: Mapping[tuple[str, str], str],  # (stage, item) -> key
    lost: Collection[str],  # names of fills that there are none of
) -> Packed:
    """Return what a fill is given: every fill that comes before it in its clip and could be made."""
    if not config.fill.packing.frames:
        return Packed({}, {}, 0)
    there = [name for name in earlier if name not in lost]
    inputs = {
        f"{stage}/{number}": keys[stage, name]
        for number, name in enumerate(there)
        for stage in (FILL, RENDER)
    }
    identity = {"packing": config.fill.packing.model_dump(mode="json")} if there else {}
    return Packed(inputs, identity, len(earlier))
