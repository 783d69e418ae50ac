"""Seeds: one view filled several times, and the fill that is delivered chosen among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import RecaptureConfig
from recapture.conf.section import Section
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.diffusion import DiffusionFiller, Filled
from recapture.models.fill.edited import fill_edited
from recapture.models.fill.several import batch_size, in_batches
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.metrics.seed_scores import SeedScores
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.filled_frames import RGB, SEAM, SHOWN, UNPASTED, joined, seamed
from recapture.tasks.clip.frames_to_video import stage_device, to_video
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.fill import FillStage
from recapture.tasks.jobs.fill_windows import ClipWindows, FilledWindow, GivenWindow, ReadWindow

SPREAD = "spread"
CHUNK = 8  # frames of every fill that are compared at once
LARGEST = 2**31 - 1  # seed


def array_name(name: str, number: int) -> str:
    """Return the name in the artifact of an array of the number-th fill."""
    return f"{name}_{number}"


@dataclass
class SeedsStage(FillStage):
    """Write what FillStage writes once per seed: rgb_0, or unpasted_0 and seam_0, and so on.

    The first fill is that of a job with one seed but for rounding: fills are made in batches where there is
    room, each from noise of its own.
    """

    count: int = 2
    name: ClassVar[str] = "seeds"
    version: ClassVar[str] = "1"

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {**super().identity(params, inputs), "seeds": self.count}

    @property
    def seeds(self) -> list[int]:
        """Return the seeds: the job's and those after it."""
        return [(self.seed + number) % (LARGEST + 1) for number in range(self.count)]

    def _fill(self, windows: ClipWindows, window: ReadWindow, caption: str) -> FilledWindow:
        given = windows.given(window)
        videos: dict[str, Tensor] = {}
        for number, filled in enumerate(self._fills(given, caption)):
            if self.config.compositing == "none":
                videos[array_name(RGB, number)] = filled.unpasted
            else:
                videos[array_name(RGB, number)] = filled.video
                videos[array_name(UNPASTED, number)] = filled.unpasted
        return FilledWindow(videos, [])

    def _fills(self, given: GivenWindow, caption: str) -> Iterator[Filled]:
        view, edit = given.view, given.edit
        beside: dict[str, Any] = {"caption": caption, "kept": given.kept}
        beside["reference"] = self._reference.of(given.source)
        cached = self.config.speed.step_cache > 0 or edit is not None
        at_once = batch_size(self.count, view.visible.numel(), view.video.device, cached=cached)

        def fill(seeds: Sequence[int]) -> Sequence[Filled]:
            filler = self._with_noise(seeds)
            if edit is not None:
                return [fill_edited(filler, view, edit, seed=seeds[0], **beside)]
            if len(seeds) == 1:
                return [filler.fill_both(view, seed=seeds[0], **beside)]
            return filler.fill_seeds(view, seeds=seeds, **beside)

        yield from in_batches(self.seeds, fill, at_once)

    def _with_noise(self, seeds: Sequence[int]) -> DiffusionFiller:
        """Return the filler whose solver draws the noise of these seeds, one per sample."""
        assert isinstance(self._filler, DiffusionFiller)
        if self.config.method != "inverse":
            return self._filler
        settings = self.config.inverse.model_dump(exclude={"mask"}, exclude_none=True)
        make = partial(inverse_solver, kind=self.config.inverse.mask, seed=self.seed, **settings)
        return replace(self._filler, make_solver=make(noise_seeds=list(seeds)))

    def _stored(
        self, frames: Mapping[str, np.ndarray], render: Artifact, start: int
    ) -> dict[str, np.ndarray]:
        stored = {}
        for number in range(self.count):
            for name, array in seamed(one_of(frames, number), render, start).items():
                stored[array_name(name, number)] = array
        return stored


def one_of(arrays: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Return the arrays of one fill, by their names in a fill's artifact."""
    names = {array_name(name, number): name for name in (RGB, UNPASTED, SEAM)}
    return {names[name]: array for name, array in arrays.items() if name in names}


class ChoiceConfig(Section):
    """By what a fill is chosen; the settings of the stage."""

    by: str


@dataclass
class ChooseStage(ClipStage):
    """Write the best of several fills as FillStage does, and `spread`: how far all of them are apart.

    spread: uint8 [T,H,W], 255 for a deviation of half the range of values, the largest there is.
    seeds.json: the seeds' scores, smaller being better. Metrics: the mean spread in holes, as a share of the
    range, and which seed was chosen.
    """

    config: ChoiceConfig
    count: int = 2
    name: ClassVar[str] = "fill"
    version: ClassVar[str] = "seeds-1"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "render", "seeds")
    per_trajectory: ClassVar[bool] = True

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        fills, render = inputs["seeds"], inputs["render"]
        content, device = content_known(inputs["ingest"]), stage_device(self.resources.gpus)
        scores, spread = SeedScores(self.count), list[np.ndarray]()
        for start, stop in self._chunks(fills):
            shown = render.frames().read(start, stop, SHOWN)
            read = fills.frames().read(start, stop)
            each = [joined(one_of(read, number), shown) for number in range(self.count)]
            visible = torch.from_numpy(shown["visible"] | ~content).to(device)
            with turn():
                found = scores.add(
                    torch.stack([to_video(one[RGB], device) for one in each]),
                    torch.stack([to_video(one.get(UNPASTED, one[RGB]), device) for one in each]),
                    to_video(shown[RGB], device),
                    visible,
                )
            spread.append((found * 2 * 255).round().clamp(0, 255).byte().cpu().numpy())
        best = scores.best(self.config.by)
        with output.frames() as writer:
            for (start, stop), apart in zip(self._chunks(fills), spread):
                chosen = one_of(fills.frames().read(start, stop), best)
                writer.append(**chosen, spread=apart)
        output.write_json("seeds.json", {"chosen": best, "by": self.config.by, "scores": scores.scores()})
        output.meta.update(fills.meta | {"seeds": self.count, "chosen": best})
        return {"spread_hole": scores.spread, "chosen_seed": float(best)}

    def _chunks(self, fills: Artifact) -> Iterator[tuple[int, int]]:
        frames = fills.meta["frames"]
        for start in range(0, frames, CHUNK):
            yield start, min(start + CHUNK, frames)


def seeded(fill: FillStage, config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages that fill: `fill` itself for one seed, else several fills and the choice."""
    if config.seeds == 1:
        return [fill]
    given = (fill.config, fill.seed, fill.render, fill.short_side)
    return [
        SeedsStage(*given, count=config.seeds, resources=fill.resources, also=fill.also),
        ChooseStage(ChoiceConfig(by=config.seeds_chosen_by), count=config.seeds),
    ]
