"""The cameras of a clip's frames, given or estimated, and its depth made consistent with them.

Stages that read a clip's cameras have `cameras` among their parents. An item has it as an input only where
cameras are estimated (`estimated`); otherwise those of ingest are used, and keys are as if there were no such
stage. Behind a mask, the mask stage's artifact stands in for all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recapture.conf.cameras import CamerasConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact

CAMERAS = "cameras.npz"


def has_cameras(clip: Clip) -> bool:
    """Return whether a clip brings its cameras."""
    return clip.cameras_uri is not None or clip.kind == "scene"


def estimated(config: CamerasConfig, clip: Clip) -> bool:
    """Return whether the cameras stage has an item for a clip; with `given`, it refuses those without."""
    return config.source in ("estimate", "still") or not has_cameras(clip)


def cameras_known(inputs: Mapping[str, Artifact]) -> bool:
    """Return whether the cameras are given, or estimated with confidence."""
    return bool(_of(inputs).meta["cameras_known"])


def from_pictures(inputs: Mapping[str, Artifact]) -> bool:
    """Return whether the cameras are estimated: their world is not the one of the clip's other views."""
    return bool(_of(inputs).meta.get("estimated"))


def read_cameras(inputs: Mapping[str, Artifact]) -> dict[str, np.ndarray]:
    """Return intrinsics [T,3,3], world_to_camera [T,4,4] and pose_group [T], and what else is stored."""
    return _of(inputs).read_npz(CAMERAS)


def consistent(
    read: dict[str, np.ndarray], cameras: Mapping[str, np.ndarray], frames: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what was read of the depth at the frames [t], by the gains that cameras were found with."""
    gain = cameras.get("depth_gain")
    if gain is None or (gain[frames] == 1).all():
        return read
    return read | {"depth": (read["depth"] * gain[frames, None, None]).astype(np.float32)}


def pivot_depth(inputs: Mapping[str, Artifact]) -> float:
    """Return the depth of the point that trajectories turn about."""
    gain = read_cameras(inputs).get("depth_gain")
    return float(inputs["depth"].meta["pivot_depth"]) * (1.0 if gain is None else float(gain[0]))


def _of(inputs: Mapping[str, Any]) -> Artifact:
    found: Artifact = inputs.get("cameras", inputs["ingest"])
    return found
