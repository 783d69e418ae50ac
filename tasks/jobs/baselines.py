"""Baselines: metrics of what every result is compared with. They depend on no filler, so fills share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.classical import ClassicalFiller
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.clip.read_ahead import read_ahead
from recapture.tasks.clip.scene_reader import SceneReader
from recapture.tasks.clip.static_scene import StaticScene
from recapture.tasks.engine.model_revision import once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.measuring import MeasuringStage
from recapture.tasks.jobs.render import surface_settings
from recapture.tasks.jobs.set_distances import FEATURES

COPY_SOURCE, CLASSICAL = "copy_source", "classical"


@dataclass
class BaselinesStage(MeasuringStage):
    """Return metrics of the copied source, copy_source/METRIC, and of a classical fill, classical/METRIC.

    classical: whether to fill; not where the job's own filler is the classical one. The fill is made of
    config.chunk frames at a time.
    """

    classical: bool = True
    name: ClassVar[str] = "baselines"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras", "render")

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        cut = params.clip.frames > self.config.chunk or params.timed
        chunk = self.config.chunk if self.classical and cut else None
        return once(
            ("baselines settings", self.config, self.classical, chunk),
            lambda: self.config.keyed() | {"classical": self.classical, "chunk": chunk},
        )

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, device = item.params.clip, stage_device(self.resources.gpus)
        measurement = self._measurement(clip, inputs)
        surface = surface_settings(self.render)
        scene, filler = SceneReader(inputs, device), ClassicalFiller(surface)
        static = StaticScene(scene, surface)
        for start in range(0, measurement.frames, self.config.chunk):
            stop = min(start + self.config.chunk, measurement.frames)
            filled = None
            if self.classical:
                view, source = scene.read(np.arange(start, stop))
                filled = filler.fill(view, static.beside(source), caption=clip.caption, seed=0)
                del view, source
            for part in read_ahead(measurement.load, list(measurement.parts(start, stop))):
                results = {} if filled is None else {CLASSICAL: filled[part.picked - start]}
                measurement.add(part, results, copy_source=COPY_SOURCE)
        metrics = measurement.metrics()
        if sets := measurement.sets():
            output.write_npz(FEATURES, **sets)
        output.write_json("metrics.json", metrics)
        return metrics
