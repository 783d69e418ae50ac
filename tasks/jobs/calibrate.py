"""Calibrate: fill first videos of a job exactly and with shortcuts, to choose the fastest within a loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.conf.inverse import REPEATING_SOLVERS
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.calibrate import (
    Shortcut,
    cheapest,
    enough_hidden,
    losses,
    moved_holes,
    shortcuts,
)
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.view import RenderedView, hide
from recapture.models.metrics.image import psnr
from recapture.models.wan.passes import counted_passes
from recapture.tasks.clip.captions import caption_of
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.model_revision import once
from recapture.tasks.engine.planner import Planner, StagePlan
from recapture.tasks.engine.stage import Item, Outcome
from recapture.tasks.jobs.calibration import Calibration
from recapture.tasks.jobs.fill import FillStage

MEASURED = ("psnr", "passes", "seconds")


@dataclass
class CalibrateStage(FillStage):
    """Return WAY/psnr, WAY/passes and WAY/seconds of one window, filled in each way that `tried` names.

    PSNR is that of hidden pixels whose truth is known; see `models.fill.calibrate`. It is the last window:
    a camera that moves gradually has its largest holes there. An edit is not redrawn, and nothing is packed.
    A window that has too few holes returns nothing but hidden_share.
    """

    name: ClassVar[str] = "calibrate"
    version: ClassVar[str] = "1"

    @property
    def tried(self) -> Sequence[Shortcut]:
        """Return the ways to sample that are compared, the exact one first."""
        config = self.config
        repeats = config.method == "inverse" and config.inverse.solver in REPEATING_SOLVERS
        return shortcuts(config.steps, guided=config.guidance_scale > 1, caches=not repeats)

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        fill = super().settings(params, inputs)
        tried = [one.name for one in self.tried]
        return once(("calibrate settings", id(fill), *tried), lambda: {**fill, "tried": tried})

    @property
    def notes(self) -> Sequence[str]:
        return ()

    def follows(self, params: Sequence[ClipParams]) -> Mapping[str, Sequence[str]]:
        return {}

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, caption, filler = item.params.clip, caption_of(item.params.clip, inputs), self._filler
        assert isinstance(filler, DiffusionFiller)
        windows = self._windows(inputs)
        read = windows.read(len(windows) - 1)
        known = torch.from_numpy(content_known(inputs["ingest"]))
        with turn():
            self._prepare(clip, caption, output)
            view = windows.given(read).view
            hidden = moved_holes(view.visible) & known.to(view.visible.device)
            metrics = {"hidden_share": float(hidden.float().mean())}
            if enough_hidden(hidden):
                metrics |= self._measure(filler, view, hidden, caption)
        output.write_json("calibration.json", {name: metrics[name] for name in _fixed(metrics)})
        output.meta.update(frames=[read.span.start, read.span.stop], ways=[one.name for one in self.tried])
        return metrics

    def parts(self, item: Item[ClipParams], inputs: Mapping[str, Artifact]) -> Sequence[str]:
        """Return nothing: it measures a single window."""
        return ()

    def _measure(
        self, filler: DiffusionFiller, view: RenderedView, hidden: Tensor, caption: str
    ) -> dict[str, float]:
        """Return what each way makes of the hidden pixels [T, H, W], and what it takes."""
        found: dict[str, float] = {}
        shown = hide(view, hidden)
        filler.fill_both(shown, caption=caption, seed=self.seed)  # compiles, and fills caches
        for one in beating(self.tried):
            way = replace(filler, steps=one.steps, saving=one.saving)
            begun = time.perf_counter()
            with counted_passes(filler.base) as passes:
                filled = way.fill_both(shown, caption=caption, seed=self.seed).unpasted.cpu()
            found[f"{one.name}/seconds"] = time.perf_counter() - begun
            found[f"{one.name}/passes"] = float(passes.count)
            found[f"{one.name}/psnr"] = psnr(filled, view.video.cpu(), hidden.cpu())
        return found


def _fixed(metrics: Mapping[str, float]) -> list[str]:
    """Return the names of what is the same whenever it is measured."""
    return [name for name in metrics if not name.endswith("/seconds")]


def first_videos(params: Iterable[ClipParams], count: int) -> list[ClipParams]:
    """Return the videos to calibrate on: one trajectory of each of the first clips, in turn; then others."""
    by_clip: dict[str, list[ClipParams]] = {}
    for one in params:
        by_clip.setdefault(one.clip_id, []).append(one)
    found: list[ClipParams] = []
    for lap in range(max(map(len, by_clip.values()), default=0)):
        for place, videos in enumerate(by_clip.values()):
            if lap < len(videos) and len(found) < count:
                found.append(videos[(place + lap) % len(videos)])
    return found


def calibration_plans(
    stages: Sequence[ClipStage], params: Callable[[ClipStage], list[ClipParams]]
) -> Generator[StagePlan, None, tuple[CalibrateStage, list[Outcome]] | None]:
    """Yield the plans of a job's first videos up to the calibration, and return its outcomes.

    params: stage -> the parameters of its items. None: the job has no calibration.
    """
    planner = Planner()
    for place, stage in enumerate(stages):
        if not isinstance(stage, CalibrateStage):
            continue
        videos = params(stage)
        clips = {video.clip_id for video in videos}
        for before in stages[:place]:
            wanted = [one for one in params(before) if one.clip_id in clips]
            yield planner.plan(before, wanted, f"{before.name}, to calibrate")
        plan = planner.plan(stage, videos)
        plan.awaited = True
        yield plan
        return stage, plan.outcomes
    return None


def calibration_of(stage: CalibrateStage, outcomes: Iterable[Outcome]) -> Calibration | None:
    """Return what the outcomes of a calibration say; None if no video could be measured."""
    tried = stage.tried
    names = [f"{way.name}/{what}" for what in MEASURED for way in tried]
    whole = [one.metrics for one in outcomes if one.usable and all(name in one.metrics for name in names)]
    if not whole:
        return None
    psnrs, passes, seconds = (
        np.array([[metrics[f"{way.name}/{what}"] for way in tried] for metrics in whole]) for what in MEASURED
    )
    found = losses(tried, psnrs, passes, seconds)
    max_loss = stage.config.speed.max_loss
    return Calibration(max_loss, len(whole), tuple(found), cheapest(found, max_loss))
