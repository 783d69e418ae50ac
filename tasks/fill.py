"""Fill: complete the holes of a rendered video, window by window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recapture.conf.schema import FillConfig, TrajectoryConfig
from recapture.datasets.clips import Clip
from recapture.datasets.store import Artifact, ArtifactWriter
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.view import Filler
from recapture.models.fill.windows import WindowJoin, windows
from recapture.tasks.convert import stage_device, to_frames
from recapture.tasks.stage import Item, Resources
from recapture.tasks.views import SceneReader


@dataclass
class FillStage:
    """Write the completed video as rgb uint8 [T,H,W,3]."""

    config: FillConfig
    seed: int = 0
    resources: Resources = Resources()
    name: str = "fill"
    version: str = "1"
    parents: tuple[str, ...] = ("ingest", "depth", "render")
    per_trajectory: bool = True

    def identity(self, clip: Clip, trajectory: TrajectoryConfig | None) -> Mapping[str, Any]:
        return {"caption": clip.caption, "seed": self.seed}

    def setup(self) -> None:
        self._filler = open_filler(self.config)

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        clip = Clip(**item.params["clip"])
        scene = SceneReader(inputs, stage_device(self.resources.gpus))
        spans = windows(scene.frames, self.config.window, self.config.overlap)
        join = WindowJoin(spans)
        with output.frames() as writer:
            for span in spans:
                view, source = scene.read(np.array(span.indices()))
                filled = self._filler.fill(view, source, caption=clip.caption, seed=self.seed)
                writer.append(rgb=to_frames(join.add(filled)))
        output.meta.update(frames=scene.frames, windows=len(spans), method=self.config.method)
        return {"windows": float(len(spans))}


def open_filler(config: FillConfig) -> Filler:
    """Return the filler that the configuration names, ready to use."""
    return ClassicalFiller(propagate=config.propagate, inpaint_radius=config.inpaint_radius)
