"""Measure: metrics of the result and of the baselines that every table shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import MeasureConfig, RenderConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.metrics.learned import LearnedMetrics
from recapture.models.metrics.suite import measure
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.clip.scene_reader import SceneReader, read_frames, read_truth
from recapture.tasks.engine.model_revision import model_revision, once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.render import surface_settings

COPY_SOURCE, CLASSICAL = "copy_source", "classical"


@dataclass
class MeasureStage(ClipStage):
    """Return metrics named METHOD/METRIC: the filler's own name, copy_source and classical.

    METHOD_unpasted is the filler's result before known pixels were pasted back over it.

    Long videos are measured in chunks of config.chunk frames; a metric is the mean over the chunks that have
    it, weighted by their frames.
    """

    config: MeasureConfig
    render: RenderConfig = RenderConfig()
    name: ClassVar[str] = "measure"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "render", "fill")
    per_trajectory: ClassVar[bool] = True

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        whole = params.clip.frames <= self.config.chunk
        frames = self.config.chunk if whole else self.config.chunk + 1
        return once(("measure settings", self.config, whole), lambda: self.config.keyed_for(frames))

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        folders = self.config.learned.model_dump()
        learned = {
            name: model_revision(f"measure.learned.{name}", folder)
            for name, folder in folders.items()
            if folder is not None
        }
        captioned = {"caption": params.clip.caption} if "clip" in learned else {}
        return captioned | {"learned": learned}

    def setup(self) -> None:
        self._learned = LearnedMetrics(
            **self.config.learned.model_dump(), device=str(stage_device(self.resources.gpus))
        )

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        device = stage_device(self.resources.gpus)
        scene = SceneReader(inputs, device)
        surface = surface_settings(self.render)
        method = inputs["fill"].meta["method"]
        totals: dict[str, tuple[float, int]] = {}
        for start in range(0, scene.frames, self.config.chunk):
            frames = np.arange(start, min(start + self.config.chunk, scene.frames))
            padded_view, padded_source = scene.read(frames)
            height, width = inputs["ingest"].meta["content"]
            view, source = crop_view(padded_view, height, width), crop_source(padded_source, height, width)
            filled = read_frames(inputs["fill"], frames)
            results = {method: to_video(filled["rgb"], device)}
            if "unpasted" in filled:
                results[f"{method}_unpasted"] = to_video(filled["unpasted"], device)
            if self.config.baselines:
                results[COPY_SOURCE] = source.video[source.source_frame]
                if method != CLASSICAL:
                    results[CLASSICAL] = ClassicalFiller(surface).fill(
                        padded_view, padded_source, caption=clip.caption, seed=0
                    )
            truth, truth_depth = self._truth(clip, inputs, frames)
            for name, result in results.items():
                content = result[..., :height, :width]
                scores = measure(
                    content,
                    source,
                    view,
                    surface=surface,
                    pivot_depth=inputs["render"].meta["pivot_depth"],
                    seam_pixels=self.config.seam_pixels,
                    truth=truth,
                    truth_depth=truth_depth,
                )
                scores |= self._learned.measure(
                    self._learned.available(),
                    content,
                    source.video[source.source_frame],
                    truth=truth,
                    caption=clip.caption,
                )
                for metric, value in scores.items():
                    total, weight = totals.get(f"{name}/{metric}", (0.0, 0))
                    totals[f"{name}/{metric}"] = (total + value * len(frames), weight + len(frames))
        metrics = {name: total / weight for name, (total, weight) in totals.items()}
        output.write_json("metrics.json", metrics)
        return metrics

    def _truth(
        self, clip: Clip, inputs: Mapping[str, Artifact], frames: np.ndarray
    ) -> tuple[Tensor | None, Tensor | None]:
        truth = read_truth(clip, inputs["ingest"], inputs["render"].read_npz("cameras.npz"), frames)
        if truth is None:
            return None, None
        device = stage_device(self.resources.gpus)
        return to_video(truth["video"], device), torch.as_tensor(truth["depth"]).float().to(device)


def crop_view(view: RenderedView, height: int, width: int) -> RenderedView:
    """Cut a rendered view's padding off its right and bottom; the intrinsics stay as they are."""
    return replace(
        view,
        video=view.video[..., :height, :width],
        visible=view.visible[..., :height, :width],
        depth=view.depth[..., :height, :width],
        stretch=view.stretch[..., :height, :width],
    )


def crop_source(source: SourceView, height: int, width: int) -> SourceView:
    """Cut a source view's padding off its right and bottom; the intrinsics stay as they are."""
    return replace(
        source,
        video=source.video[..., :height, :width],
        depth=source.depth[..., :height, :width],
        known=source.known[..., :height, :width],
    )
