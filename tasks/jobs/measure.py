"""Measure: metrics of the result, beside those of the baselines that every table shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.clip.filled_frames import SHOWN, joined
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.clip.read_ahead import read_ahead
from recapture.tasks.clip.scene_reader import Scene, read_frames
from recapture.tasks.engine.model_revision import once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.measuring import UNPASTED, MeasuringStage
from recapture.tasks.jobs.set_distances import FEATURES


@dataclass
class MeasureStage(MeasuringStage):
    """Return metrics named METHOD/METRIC: the filler's own name and, if they were measured, the baselines'.

    METHOD_unpasted is the filler's result before known pixels were pasted back over it. Values are those of
    the whole clip: they do not depend on how many frames are read at once.
    """

    name: ClassVar[str] = "measure"
    version: ClassVar[str] = "4"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras", "render", "fill")

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return once(("measure settings", self.config), self.config.keyed)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        device, method = stage_device(self.resources.gpus), inputs["fill"].meta["method"]
        measurement = self._measurement(item.params.clip, inputs)

        def read(frames: np.ndarray) -> tuple[Scene, dict[str, np.ndarray]]:
            scene = measurement.load(frames)
            shown = {name: scene.render[name].numpy() for name in SHOWN}
            return scene, joined(read_frames(inputs["fill"], frames), shown)

        for scene, filled in read_ahead(read, list(measurement.parts())):
            results = {method: to_video(filled["rgb"], device)}
            if "unpasted" in filled:
                results[f"{method}{UNPASTED}"] = to_video(filled["unpasted"], device)
            measurement.add(scene, results)
        metrics = measurement.metrics()
        if "baselines" in inputs:
            metrics |= inputs["baselines"].read_json("metrics.json")
        if sets := measurement.sets():
            beside = inputs["baselines"].read_npz(FEATURES) if "baselines" in inputs else {}
            output.write_npz(FEATURES, **{**beside, **sets})
        output.write_json("metrics.json", metrics)
        return metrics


@dataclass
class MeasureBesideBaselinesStage(MeasureStage):
    """Measure the result, and return the baselines' metrics too."""

    parents: ClassVar[tuple[str, ...]] = (*MeasureStage.parents, "baselines")
