"""Explore: measure how well a base, or an adapter of it, recaptures a clip at one angle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.tune import ExploreConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.metrics.image import psnr
from recapture.models.tuning.cycle import RoundTrip
from recapture.models.tuning.pairs import Move, check_source, source_pairs
from recapture.tasks.clip.captions import caption_of
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video
from recapture.tasks.clip.sheets import spread
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.render import keyed_surface, surface_settings
from recapture.tasks.tune.params import ExploreParams
from recapture.tasks.tune.recapturer import Recapture, Recapturer, base_settings, sampling_settings
from recapture.tasks.tune.source import draw_seed, read_window

PICTURES = "pictures.npz"


@dataclass
class ExploreStage(PlannedStage[ExploreParams]):
    """Return PSNRs in dB of a clip's first window under a yaw of the item's angle.

    cycle_psnr: recaptured, filmed again from the source's cameras, against the source where it is visible.
    hole_psnr: degraded by double reprojection and filled, against the source in the holes; the move was not
    used in training. truth_hole_psnr: recaptured, against what the new cameras really see, in the holes;
    only if the dataset has it. A PSNR without pixels to compare is omitted.

    Writes pictures.npz: uint8 [n,h,w,3] of source, render, filled, degraded, restored and, if known, truth.
    """

    config: ExploreConfig
    recapture: Recapture
    window: int
    seed: int = 0
    name: ClassVar[str] = "explore"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "tune")

    def settings(self, params: ExploreParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        shown = {"caption": params.clip.caption, "seed": self.seed, "window": self.window}
        models = {**base_settings(self.recapture.fill), **keyed_surface(self.recapture.render)}
        return {**models, **sampling_settings(self.recapture, adapted="tune" in inputs), **shown}

    def identity(self, params: ExploreParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"angle": params.angle}

    def setup(self) -> None:
        self._device = stage_device(self.resources.gpus)
        self._recapturer = Recapturer(self.recapture, self._device)

    def run(
        self, item: Item[ExploreParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, caption = item.params.clip, caption_of(item.params.clip, inputs)
        self._recapturer.use(inputs.get("tune"))
        frames = min(self.window, inputs["ingest"].meta["frames"])
        source = read_window(inputs, 0, frames, self._device)
        check_source(source, clip.id, self.window)
        move = Move(item.params.angle, 0.0, 0.0)
        pivot_depth = inputs["depth"].meta["pivot_depth"]
        seed = draw_seed(self.seed, "explore")

        trip = self._recapturer.round_trip(source, pivot_depth, move, caption=caption, seed=seed)
        pair = next(source_pairs(source, pivot_depth, [move], surface_settings(self.recapture.render)))
        restored = self._recapturer.inpaint(pair.degraded, pair.visible, caption=caption, seed=seed)
        truth = self._truth(clip, inputs["ingest"], trip)

        height, width = inputs["ingest"].meta["content"]
        content = torch.from_numpy(content_known(inputs["ingest"])).to(self._device)
        shown = spread(frames, 4)[1:]
        pictures = {
            "source": source.video,
            "render": trip.view.video,
            "filled": trip.video,
            "degraded": pair.degraded,
            "restored": restored,
        }
        scores = {
            "cycle_psnr": trip.quality,
            "hole_psnr": psnr(restored, source.video, ~pair.visible & content),
        }
        if truth is not None:
            pictures["truth"] = truth
            hole = ~trip.view.visible[:, :height, :width]
            scores["truth_hole_psnr"] = psnr(trip.video[..., :height, :width], truth, hole)
        output.write_npz(
            PICTURES,
            **{name: to_frames(video[shown, :, :height, :width]) for name, video in pictures.items()},
        )
        output.meta.update(angle=item.params.angle, frames=shown.tolist())
        return {name: score for name, score in scores.items() if math.isfinite(score)}

    def _truth(self, clip: Clip, ingest: Artifact, trip: RoundTrip) -> Tensor | None:
        """Return what the cameras of the move really see [T,3,h,w], cut to the content; None if unknown."""
        height, width = ingest.meta["content"]
        frames = np.arange(len(trip.video)) + ingest.meta["first_frame"]
        cameras = trip.view.intrinsics.cpu().numpy(), trip.view.world_to_camera.cpu().numpy()
        truth = open_clip(clip).truth(*cameras, frames, height, width)
        return None if truth is None else to_video(truth["video"], self._device)
