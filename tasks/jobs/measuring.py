"""What measure and baselines share: a clip's results measured part by part, and what their keys hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.measure import MeasureConfig
from recapture.conf.schema import RenderConfig
from recapture.conf.turn import turn
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.metrics.learned import LearnedMetrics, LearnedScores
from recapture.models.metrics.suite import Suite
from recapture.tasks.clip.captions import caption_of
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.clip.scene_reader import Scene, SceneReader, read_truth
from recapture.tasks.engine.model_revision import model_path, model_revision
from recapture.tasks.jobs.render import surface_settings

UNPASTED = "_unpasted"  # ends the name of a result before known pixels were pasted back over it
PART = 16  # frames measured at once: bounds memory, and no value depends on it


def learned_identity(config: MeasureConfig, params: ClipParams) -> dict[str, Any]:
    """Return what learned metrics depend on besides the videos: the models, and the caption for CLIP."""
    folders = config.learned.model_dump()
    learned = {
        name: model_revision(f"measure.learned.{name}", folder)
        for name, folder in folders.items()
        if folder is not None
    }
    captioned = {"caption": params.clip.caption} if "clip" in learned else {}
    return captioned | {"learned": learned}


class ClipMeasurement:
    """The measurement of results of one clip along one trajectory.

    inputs: the artifacts of ingest, depth and render. Results are cut to the clip's picture.
    """

    def __init__(
        self,
        clip: Clip,
        inputs: Mapping[str, Artifact],
        device: torch.device,
        *,
        surface: SurfaceSettings,
        seam_pixels: int,
        learned: LearnedMetrics,
    ) -> None:
        self._clip, self._inputs, self._device = clip, inputs, device
        self._scene = SceneReader(inputs, device, rolling=True)
        self._path = inputs["render"].read_npz("cameras.npz")
        shows = torch.from_numpy(self._path["source_frame"])
        self._lowest = int(shows.min())
        self._suite = Suite(
            shows - self._lowest,
            int(shows.max()) - self._lowest + 1,
            surface=surface,
            pivot_depth=inputs["render"].meta["pivot_depth"],
            seam_pixels=seam_pixels,
        )
        self._learned = LearnedScores(learned, learned.available(), caption_of(clip, inputs))

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return self._scene.frames

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield the frames start...stop-1, by default all, in parts to be measured one after the other."""
        stop = self.frames if stop is None else stop
        for first in range(start, stop, PART):
            yield np.arange(first, min(first + PART, stop))

    def load(self, frames: np.ndarray) -> Scene:
        """Read what the frames [t] of a part are measured with into host memory; parts in their order."""
        first, last = self._suite.sources(int(frames[0]), int(frames[-1]) + 1)
        return self._scene.load(frames, (self._lowest + first, self._lowest + last))

    def add(self, scene: Scene, results: Mapping[str, Tensor], copy_source: str | None = None) -> None:
        """Measure the next frames, those of the scene, of results [t, 3, H, W] in [-1, 1], padded or not.

        copy_source: a name under which the source, as it is, is measured as a result too.
        """
        height, width = self._inputs["ingest"].meta["content"]
        view = crop_view(self._scene.view(scene), height, width)
        source = crop_source(self._scene.source(scene), height, width)
        shown = source.video[source.source_frame]
        cut = {name: video[..., :height, :width] for name, video in results.items()}
        if copy_source is not None:
            cut[copy_source] = shown
        truth, truth_depth = self._truth(scene.picked.numpy())
        with turn():
            beside = [name for name in cut if name.endswith(UNPASTED)]
            self._learned.add(cut, shown, truth=truth, beside=beside)
        given = {"truth": truth, "truth_depth": truth_depth}
        self._suite.add(cut, source, view, first=scene.first - self._lowest, copied=copy_source, **given)

    def metrics(self) -> dict[str, float]:
        """Return RESULT/METRIC -> value, once all frames were added."""
        found: dict[str, float] = {}
        for scores in (self._suite.scores(), self._learned.scores()):
            for name, of_result in scores.items():
                found |= {f"{name}/{metric}": value for metric, value in of_result.items()}
        return found

    def sets(self) -> dict[str, np.ndarray]:
        """Return the features of results and reference that a job's Fréchet distances compare."""
        return self._learned.sets()

    def _truth(self, frames: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
        truth = read_truth(self._clip, self._inputs, self._path, frames)
        if truth is None:
            return None, None
        return to_video(truth["video"], self._device), torch.as_tensor(truth["depth"]).float().to(
            self._device
        )


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


@dataclass
class MeasuringStage(ClipStage):
    """A stage that measures results of a clip along a trajectory."""

    config: MeasureConfig
    render: RenderConfig = RenderConfig()
    per_trajectory: ClassVar[bool] = True

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return learned_identity(self.config, params)

    def setup(self) -> None:
        device = str(stage_device(self.resources.gpus))
        folders = {
            name: None if folder is None else model_path(f"measure.learned.{name}", folder)
            for name, folder in self.config.learned.model_dump().items()
        }
        self._learned = LearnedMetrics(**folders, device=device)

    def _measurement(self, clip: Clip, inputs: Mapping[str, Artifact]) -> ClipMeasurement:
        return ClipMeasurement(
            *(clip, inputs, stage_device(self.resources.gpus)),
            surface=surface_settings(self.render),
            seam_pixels=self.config.seam_pixels,
            learned=self._learned,
        )
