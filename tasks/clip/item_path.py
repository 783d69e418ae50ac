"""The camera path of an item, from its artifacts: subject and amounts found, if they are to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recapture.conf.presets import AUTO
from recapture.conf.trajectory import TrajectoryConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.geometry.safe_amount import CoarseScene, Found, Strain, largest_amount
from recapture.models.geometry.trajectories import CameraPath
from recapture.tasks.clip.camera_path import Source, camera_path, needs_camera_units
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.clip.depth_units import refuse_unmatched
from recapture.tasks.clip.scene_reader import read_depth
from recapture.tasks.clip.sheets import spread
from recapture.tasks.clip.source_cameras import pivot_depth
from recapture.tasks.clip.subject import subject_points
from recapture.tasks.clip.working_size import content_known

TRIED_FRAMES = 9


@dataclass(frozen=True)
class ItemPath:
    """The cameras of an item, and what was found to make them."""

    path: CameraPath
    found: Found | None = None  # of an amount of auto
    unseen: float | None = None  # share of the frames without the subject

    @property
    def metrics(self) -> dict[str, float]:
        """Return what is to be known of the path."""
        metrics = {} if self.unseen is None else {"subject_unseen_share": self.unseen}
        if self.found is not None:
            metrics |= {"amount": self.found.amount, "amount_hole_share": self.found.strain.hole_share}
            metrics |= {"amount_stretch": self.found.strain.stretch}
        return metrics


def item_path(params: ClipParams, inputs: Mapping[str, Artifact], surface: SurfaceSettings) -> ItemPath:
    """Return the path of an item. inputs: ingest, depth and estimated cameras, or the mask in their place.

    Raises ValueError, naming the item, for a path that this clip cannot have.
    """
    trajectory, source = params.path, Source.of(params.clip, inputs)
    if needs_camera_units(trajectory, params.file):
        refuse_unmatched(inputs["depth"], params.name)
    points = None
    try:
        if trajectory.subject is not None:
            points = subject_points(trajectory.subject, params.clip, inputs)
    except ValueError as error:
        raise ValueError(f"{params.name}: {error}") from error
    unseen = None if points is None else float((~torch.isfinite(points).all(1)).double().mean())

    def path_of(chosen: TrajectoryConfig) -> CameraPath:
        return camera_path(chosen, params.file, source, pivot_depth(inputs), params.name, points)

    if trajectory.amount != AUTO:
        return ItemPath(path_of(trajectory), unseen=unseen)
    search = _Search(inputs, source, path_of(trajectory.settled(0.0)).source_frame)

    def strain(amount: float) -> Strain:
        return search.strain(path_of(trajectory.settled(amount)), surface)

    bound = Strain(trajectory.bound.hole_share, trajectory.bound.stretch)
    try:
        found = largest_amount(strain, trajectory.most, bound)
    except ValueError as error:
        named = str(error) if str(error).startswith(params.name) else f"{params.name}: {error}"
        raise ValueError(named) from error
    return ItemPath(path_of(trajectory.settled(found.amount)), found, unseen)


class _Search:
    """Paths of one clip, tried on a few of its frames."""

    def __init__(self, inputs: Mapping[str, Artifact], source: Source, source_frame: Tensor) -> None:
        self._tried = spread(len(source_frame), TRIED_FRAMES)
        shown = source_frame[self._tried].numpy()
        depth = read_depth(inputs, shown)
        height, width = inputs["ingest"].meta["content"]
        known = depth["known"] & content_known(inputs["ingest"])
        self._scene = CoarseScene.of(
            torch.from_numpy(depth["depth"][:, :height, :width]).float(),
            torch.from_numpy(known[:, :height, :width]),
            source.intrinsics[shown].double(),
            source.world_to_camera[shown].double(),
        )

    def strain(self, path: CameraPath, surface: SurfaceSettings) -> Strain:
        picked = torch.from_numpy(np.asarray(self._tried))
        return self._scene.strain(path.intrinsics[picked], path.world_to_camera[picked], surface)
