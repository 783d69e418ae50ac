"""Fill: complete the holes of a rendered video, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import FillConfig, RenderConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.edited import fill_edited
from recapture.models.fill.packed import Candidate, FinishedView, Packing
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import Filler, RenderedView, SourceView
from recapture.models.fill.windows import WindowJoin, windows
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.speed import speed_up
from recapture.models.wan.text import surplus_tokens
from recapture.tasks.clip.adapter_files import AdapterFiles, adapter_files, revision
from recapture.tasks.clip.adapters import Adapters, adapter_identity, remarks_on
from recapture.tasks.clip.base_files import base_revision, named_base
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device, to_frames
from recapture.tasks.clip.scene_reader import SceneReader
from recapture.tasks.engine.model_revision import once
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.earlier_fills import EarlierFills
from recapture.tasks.jobs.packing import filling_order
from recapture.tasks.jobs.render import surface_settings


@dataclass
class FillStage(ClipStage):
    """Write the completed video as rgb uint8 [T,H,W,3], and as `unpasted` before known pixels were put back.

    An item with earlier fills of its clip among its inputs is filled beside frames of them (see `packing`).
    """

    config: FillConfig
    seed: int = 0
    render: RenderConfig = RenderConfig()  # how surfaces seen by other frames and cameras are rendered
    name: ClassVar[str] = "fill"
    version: ClassVar[str] = "3"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "render")
    per_trajectory: ClassVar[bool] = True
    _planned: dict[str, str] = field(default_factory=dict, init=False, repr=False)  # adapter -> revision

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        whole = params.clip.frames <= self.config.window
        frames = self.config.window if whole else self.config.window + 1
        return once(("fill settings", self.config, whole), lambda: self.config.keyed_for(frames))

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        identity: dict[str, Any] = {}
        if self.config.method != "classical":
            identity |= {"caption": params.clip.caption, "seed": self.seed}
            identity["base"] = base_revision(self.config)
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
        device, self._surface = stage_device(self.resources.gpus), surface_settings(self.render)
        self._filler = open_filler(self.config, self._surface, device, self.seed)
        if isinstance(self._filler, DiffusionFiller):
            self._adapters = Adapters(self._filler.base)
            self._files = AdapterFiles(self.config)
            self._adapters.use(self._files.shared, self._planned)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        if isinstance(self._filler, DiffusionFiller):
            self._adapters.use(self._files.of(clip.id), self._planned)
            if self._adapters.report:
                output.meta["adapters"] = self._adapters.report
        scene = SceneReader(inputs, stage_device(self.resources.gpus))
        earlier = EarlierFills(inputs, stage_device(self.resources.gpus))
        overlap = self.config.overlap
        spans = windows(scene.frames, self.config.window, overlap)
        packed: list[list[int]] = []  # per window: the frames whose moments are packed beside it
        joins: dict[str, WindowJoin] = {}
        with output.frames() as writer:
            for span in spans:
                frames = np.array(span.indices())
                view, source = scene.read(frames)
                filled = self._fill(view, source, scene.edit(frames), clip.caption, earlier.read(span))
                packed.append([span.start + candidate.time for candidate in filled.packed])
                writer.append(
                    **{
                        name: to_frames(joins.setdefault(name, WindowJoin(spans, overlap)).add(video))
                        for name, video in filled.videos.items()
                    }
                )
        output.meta.update(frames=scene.frames, windows=len(spans), method=self.config.method)
        metrics = {"windows": float(len(spans)), **self._left_out(clip.caption)}
        if not earlier:
            return metrics
        output.meta.update(packed=packed)
        return {**metrics, "packed_frames": float(sum(map(len, packed)))}

    def _left_out(self, caption: str) -> dict[str, float]:
        """Return how many tokens of the caption the base's text encoder does not take; {} for none."""
        if not isinstance(self._filler, DiffusionFiller):
            return {}
        count = surplus_tokens(self._filler.base, caption)
        return {"caption_tokens_left_out": float(count)} if count else {}

    def _fill(
        self,
        view: RenderedView,
        source: SourceView,
        edit: Tensor | None,
        caption: str,
        earlier: Sequence[FinishedView],
    ) -> _FilledWindow:
        if not isinstance(self._filler, DiffusionFiller):
            return _FilledWindow({"rgb": self._filler.fill(view, source, caption=caption, seed=self.seed)})
        if self.config.propagate:
            view = propagate_static(view, source, surface=self._surface)
        given: dict[str, Any] = {"caption": caption, "seed": self.seed, "packed": earlier}
        if edit is None:
            filled = self._filler.fill_both(view, **given)
        else:
            filled = fill_edited(self._filler, view, edit, **given)
        packed = tuple(candidate for window in filled.packed for candidate in window)
        if not self.config.feather:
            return _FilledWindow({"rgb": filled.unpasted}, packed)
        return _FilledWindow({"rgb": filled.video, "unpasted": filled.unpasted}, packed)


@dataclass(frozen=True)
class _FilledWindow:
    videos: dict[str, Tensor]  # name in the artifact -> [T, 3, H, W]
    packed: tuple[Candidate, ...] = ()  # frames that were packed beside it


def open_filler(config: FillConfig, surface: SurfaceSettings, device: torch.device, seed: int = 0) -> Filler:
    """Return the filler that the configuration names, ready to use; seed: of a solver's own noise."""
    if config.method == "classical":
        return ClassicalFiller(surface, propagate=config.propagate, inpaint_radius=config.inpaint_radius)
    make_solver = None
    if config.method == "inverse":
        given = config.inverse.model_dump(exclude={"mask"}, exclude_none=True)
        make_solver = inverse_solver(kind=config.inverse.mask, seed=seed, **given)
    return DiffusionFiller(
        open_base(config, device),
        surface,
        make_solver=make_solver,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        guidance_scale_2=config.guidance_scale_2,
        negative_prompt=config.negative_prompt,
        scheduler=config.scheduler,
        shift=config.shift,
        noise_scale=config.noise_scale,
        feather=max(1, config.feather),
        packing=Packing(**config.packing.model_dump()),
    )


def open_base(config: FillConfig, device: torch.device, *, activation_budget: float = 1.0) -> Base:
    """Return the base that the configuration names, without an adapter; activation_budget: see `speed_up`."""
    base = load_base(
        named_base(config),
        dtype=getattr(torch, config.precision),
        vae_dtype=getattr(torch, config.vae_precision),
        device=device,
    )
    for transformer in filter(None, (base.transformer, base.transformer_2)):
        speed_up(
            transformer,
            attention=config.speed.attention,
            compile_blocks=config.speed.compile_blocks,
            activation_budget=activation_budget,
        )
    return base
