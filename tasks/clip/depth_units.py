"""The units of a clip's depth, as its artifact states them in meta.depth_units, and what they allow."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.store.artifact import Artifact

GIVEN = "given"  # depth came with the clip: its units are taken to be the cameras'
MATCHED = "matched"  # predicted, and brought to the cameras' units
FREE = "free"  # predicted, and any scale will do: the clip's cameras are unknown or do not travel
KEPT = "kept"  # predicted, and not matched because depth.match_cameras is false
UNMATCHED = "unmatched"  # predicted, and what the cameras' units are could not be told

WAY_OUT = (
    "give depth beside the clip (NAME.depth.npz), or set depth.match_cameras to false if the model's depth"
    " has the cameras' units already"
)


def refuse_unmatched(depth: Artifact, name: str) -> None:
    """Raise ValueError, naming the item, if depth is known to have other units than the cameras."""
    if depth.meta.get("depth_units") == UNMATCHED:
        raise ValueError(
            f"{name}: the trajectory depends on how far the clip's own cameras travel, but the scale of the"
            f" predicted depth in their units cannot be told ({depth.meta.get('depth_evidence')}); {WAY_OUT}"
        )


def related_poses(pose_group: Tensor, depth: Artifact) -> Tensor:
    """Return the groups [T] of frames between which depth may be carried by their poses.

    With depth in other units than the cameras' none may: every frame is alone.
    """
    return torch.arange(len(pose_group)) if depth.meta.get("depth_units") == UNMATCHED else pose_group
