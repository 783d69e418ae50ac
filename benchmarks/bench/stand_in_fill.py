"""A fill that costs nothing, for measurements of the stages behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from recapture.conf.schema import FillConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.pull_push import pull_push
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.engine.stage import Item

PART = 16  # frames at once


@dataclass
class StandInFill(ClipStage):
    """Write what a base's fill has: rgb with holes filled by pull-push, and a slightly noisy `unpasted`."""

    config: FillConfig
    name: ClassVar[str] = "fill"
    version: ClassVar[str] = "stand-in"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "render")
    per_trajectory: ClassVar[bool] = True

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        frames, device = inputs["render"].meta["frames"], stage_device(self.resources.gpus)
        random = torch.Generator().manual_seed(0)
        with output.frames() as writer:
            for start in range(0, frames, PART):
                read = read_frames(inputs["render"], np.arange(start, min(start + PART, frames)))
                known = torch.from_numpy(read["visible"]).to(device)
                filled = pull_push(to_video(read["rgb"], device), known)
                noise = 0.05 * torch.randn(filled.shape, generator=random).to(device)
                writer.append(rgb=to_frames(filled), unpasted=to_frames(filled + noise))
        output.meta.update(frames=frames, windows=1, method="base")
        return {"windows": 1.0}
