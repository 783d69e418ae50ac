"""Fill: complete the holes of a rendered video, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch

from recapture.conf.schema import FillConfig, RenderConfig
from recapture.conf.turn import turn
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.compositing import Compositing
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.edited import fill_edited
from recapture.models.fill.packed import Packing
from recapture.models.fill.view import Filler
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.wan.footprint import ClipSize
from recapture.models.wan.load import Base
from recapture.models.wan.speed import speed_up_base
from recapture.models.wan.step_cache import Saving
from recapture.models.wan.text import surplus_tokens
from recapture.tasks.clip.adapter_files import AdapterFiles, adapter_files, revision
from recapture.tasks.clip.adapters import Adapters, adapter_identity, remarks_on
from recapture.tasks.clip.base_files import base_revision
from recapture.tasks.clip.base_memory import load_base_placed, usual_size
from recapture.tasks.clip.captions import caption_of
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.filled_frames import seamed
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.engine.model_revision import once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.fill_windows import (
    ClipWindows,
    FilledWindow,
    KeepsParts,
    KeptWindow,
    ReadWindow,
    part_name,
    window_count,
    write_kept,
)
from recapture.tasks.jobs.packing import filling_order
from recapture.tasks.jobs.reference import Reference, reference_identity
from recapture.tasks.jobs.render import surface_settings


@dataclass
class FillStage(ClipStage):
    """Write the completed video as rgb uint8 [T,H,W,3], or if known pixels were put back, as it was before.

    `unpasted` is the video before, `seam` what rgb has beside it and the render (see filled_frames.py).
    An item with earlier fills of its clip among its inputs is filled beside frames of them (see `packing`).
    """

    config: FillConfig
    seed: int = 0
    render: RenderConfig = RenderConfig()  # how surfaces seen by other frames and cameras are rendered
    short_side: int | None = None  # of clips, as ingest scales them: what the base must have room for
    name: ClassVar[str] = "fill"
    version: ClassVar[str] = "4"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras", "render")
    per_trajectory: ClassVar[bool] = True
    _planned: dict[str, str] = field(default_factory=dict, init=False, repr=False)  # adapter -> revision

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        whole = params.clip.frames <= self.config.window and not params.timed
        frames = self.config.window if whole else self.config.window + 1
        return once(("fill settings", self.config, whole), lambda: self.config.keyed_for(frames))

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        identity: dict[str, Any] = {}
        if self.config.method != "classical":
            identity |= {"caption": params.clip.caption, "seed": self.seed}
            identity["base"] = base_revision(self.config)
            identity |= reference_identity(self.config)
            identity |= adapter_identity(self.config, params.clip_id)
            sources = adapter_files(self.config).of(params.clip_id)
            self._planned |= {source.path: revision(source.path) for source in sources}
        if f"{self.name}/0" in inputs:
            identity["packing"] = self.config.packing.model_dump(mode="json")
        return identity

    @property
    def places(self) -> Sequence[str]:
        return tuple(adapter.path for adapter in self.config.chosen_adapters)

    @property
    def notes(self) -> Sequence[str]:
        return remarks_on(self.config, adapter_files(self.config).shared)

    def follows(self, params: Sequence[ClipParams]) -> Mapping[str, Sequence[str]]:
        """Return, with packing, a clip's trajectories in the order from the smallest move to the largest."""
        if not self.config.packing.frames:
            return {}
        return filling_order(params)

    def setup(self) -> None:
        device, surface = stage_device(self.resources.gpus), surface_settings(self.render)
        size = usual_size(self.config, self.short_side)
        self._filler = open_filler(self.config, surface, device, self.seed, size=size)
        self._reference = Reference(self.config, device)
        if isinstance(self._filler, DiffusionFiller):
            self._adapters = Adapters(self._filler.base)
            self._files = AdapterFiles(self.config)
            self._adapters.use(self._files.shared, self._planned)

    @property
    def slots(self) -> int:
        """Return 2 with a GPU: while one clip has its turn on it, another is read or written."""
        return 2 if self.resources.gpus > 0 else 1

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, caption = item.params.clip, caption_of(item.params.clip, inputs)
        windows = self._windows(inputs)
        parts = output.parts if len(windows) > 1 and self.config.method != "classical" else None
        joined, packed = windows.join(), list[list[int]]()  # per window: frames that are packed beside it
        written = 0
        with (
            closing(windows.ahead(parts)) as ahead,
            KeepsParts(windows, parts) as kept,
            output.frames() as writer,
        ):
            every = chain([next(ahead)], ahead)  # the first is read before the turn
            with turn():
                left_out = self._prepare(clip, caption, output)
                for number, window in enumerate(every):
                    if isinstance(window, ReadWindow):  # another worker may have filled it since
                        window = windows.kept(number, parts) or window
                    if isinstance(window, KeptWindow):
                        filled = windows.restored(number, window)
                    else:
                        filled = self._fill(windows, window, caption)
                        kept.keep(number, filled)
                    packed.append(filled.moments)
                    frames = joined.add(filled)
                    if number + 1 < len(windows):
                        writer.append(**self._stored(frames, inputs["render"], written))
                        written += len(next(iter(frames.values())))
            writer.append(**self._stored(frames, inputs["render"], written))  # the last ones after the turn
        output.meta.update(frames=windows.frames, windows=len(windows), method=self.config.method)
        if isinstance(self._filler, DiffusionFiller) and self._filler.base.memory is not None:
            output.meta.update(memory=self._filler.base.memory.record)
        if shortcuts := self.config.speed.shortcuts:
            output.meta["sampling"] = {"steps": self.config.steps, **shortcuts}
        metrics = {"windows": float(len(windows)), **left_out}
        if not windows.earlier:
            return metrics
        output.meta.update(packed=packed)
        return {**metrics, "packed_frames": float(sum(map(len, packed)))}

    def _stored(
        self, frames: Mapping[str, np.ndarray], render: Artifact, start: int
    ) -> dict[str, np.ndarray]:
        """Return frames as they are stored; start: the number of the first of them."""
        return seamed(frames, render, start)

    def most_parts(self, item: Item[ClipParams]) -> int:
        """Return the number of windows of the clip, if its frames are kept as they are."""
        if self.config.method == "classical":
            return 1
        return window_count(item.params.clip.frames, self.config)

    def parts(self, item: Item[ClipParams], inputs: Mapping[str, Artifact]) -> Sequence[str]:
        """Return the names of the parts that `run_part` can make, each alone; none for a single window."""
        if self.config.method == "classical":
            return ()
        windows = self._windows(inputs)
        return [part_name(number) for number in range(len(windows))] if len(windows) > 1 else ()

    def run_part(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], name: str, output: ArtifactWriter
    ) -> None:
        """Fill one window, and keep it as a part from which `run` goes on."""
        clip, caption = item.params.clip, caption_of(item.params.clip, inputs)
        windows = self._windows(inputs)
        number = [part_name(one) for one in range(len(windows))].index(name)
        read = windows.read(number)
        with turn():
            self._prepare(clip, caption, output)
            kept = windows.keep(number, self._fill(windows, read, caption))
        write_kept(kept, output)

    def _windows(self, inputs: Mapping[str, Artifact]) -> ClipWindows:
        device = stage_device(self.resources.gpus)
        return ClipWindows(inputs, device, self.config, surface_settings(self.render))

    def _prepare(self, clip: Clip, caption: str, output: ArtifactWriter) -> dict[str, float]:
        """Load the clip's adapters; return metrics of what the base does not take of its caption."""
        if not isinstance(self._filler, DiffusionFiller):
            return {}
        self._adapters.use(self._files.of(clip.id), self._planned)
        if self._adapters.report:
            output.meta["adapters"] = self._adapters.report
        count = surplus_tokens(self._filler.base, caption)
        return {"caption_tokens_left_out": float(count)} if count else {}

    def _fill(self, windows: ClipWindows, window: ReadWindow, caption: str) -> FilledWindow:
        given = windows.given(window)
        view, source = given.view, given.source
        if not isinstance(self._filler, DiffusionFiller):
            video = self._filler.fill(view, source, caption=caption, seed=self.seed)
            return FilledWindow({"rgb": video}, [])
        beside: dict[str, Any] = {"caption": caption, "seed": self.seed, "packed": given.earlier}
        beside |= {"kept": given.kept, "reference": self._reference.of(source)}
        if given.edit is None:
            filled = self._filler.fill_both(view, **beside)
        else:
            filled = fill_edited(self._filler, view, given.edit, **beside)
        moments = [window.span.start + one.time for packed in filled.packed for one in packed]
        if self.config.compositing == "none":
            return FilledWindow({"rgb": filled.unpasted}, moments)
        return FilledWindow({"rgb": filled.video, "unpasted": filled.unpasted}, moments)


def open_filler(
    config: FillConfig,
    surface: SurfaceSettings,
    device: torch.device,
    seed: int = 0,
    *,
    size: ClipSize | None = None,
) -> Filler:
    """Return the filler that the configuration names, ready to use.

    seed: of a solver's own noise; size: of the largest clips, see `load_base_placed`.
    """
    if config.method == "classical":
        return ClassicalFiller(surface, config.propagate, config.propagate_by, config.inpaint_radius)
    return diffusion_filler(config, open_base(config, device, size=size), surface, seed)


def diffusion_filler(config: FillConfig, base: Base, surface: SurfaceSettings, seed: int = 0) -> Filler:
    """Return the filler that the configuration names, on a base that is loaded."""
    make_solver = None
    if config.method == "inverse":
        given = config.inverse.model_dump(exclude={"mask"}, exclude_none=True)
        make_solver = inverse_solver(kind=config.inverse.mask, seed=seed, **given)
    return DiffusionFiller(
        base,
        surface,
        make_solver=make_solver,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        guidance_scale_2=config.guidance_scale_2,
        negative_prompt=config.negative_prompt,
        scheduler=config.scheduler,
        shift=config.shift,
        noise_scale=config.noise_scale,
        compositing=Compositing(config.compositing, config.feathered),
        packing=Packing(**config.packing.model_dump()),
        saving=Saving(config.speed.step_cache, config.speed.guidance_interval),
    )


def open_base(
    config: FillConfig,
    device: torch.device,
    *,
    size: ClipSize | None = None,
    resident: bool = False,
    activation_budget: float = 1.0,
) -> Base:
    """Return the base that the configuration names, without an adapter.

    activation_budget: see `speed_up`. size: of the largest clips that are to be filled, see
    `load_base_placed`; resident: on the device whatever fill.memory says.
    """
    base = load_base_placed(config, device, size=size, resident=resident)
    return speed_up_base(base, config.speed, activation_budget=activation_budget)
