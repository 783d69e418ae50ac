"""Transfer: a target performs the motion of a reference; or, for comparison, what the base makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from recapture.conf.schema import FillConfig, RenderConfig
from recapture.conf.transfer import TransferConfig
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.view import RenderedView
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.tasks.clip.adapter_files import AdapterFiles, adapter_files, revision
from recapture.tasks.clip.adapters import Adapters, Made, adapter_identity, remarks_on
from recapture.tasks.clip.clip_stage import check_clip
from recapture.tasks.clip.frames_to_video import stage_device, to_frames
from recapture.tasks.clip.source_cameras import CAMERAS
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.fill import open_filler
from recapture.tasks.jobs.render import surface_settings
from recapture.tasks.transfer.guided import reference_solver
from recapture.tasks.transfer.params import TransferParams
from recapture.tasks.transfer.reference import result_rate
from recapture.tasks.transfer.start import as_view, cameras_of, first_frame, nothing
from recapture.tasks.transfer.swept import explicit, swept
from recapture.tasks.transfer.tune_stage import SPATIAL_FILE
from recapture.tasks.tune.recapturer import COMPOSITING, SAMPLING, base_settings

UNUSED = {"propagate", "propagate_by", "noise_scale"}  # of the settings of a fill


@dataclass
class TransferStage(PlannedStage[TransferParams]):
    """Write the result as ingest writes a clip: rgb uint8 [T,H,W,3], and cameras.npz.

    So a recapture can read it in place of a filmed clip. Its cameras are the target's: those of the first
    frame alone, unless the start is swept. meta.estimated says that no other view of it is known.
    """

    config: TransferConfig
    fill: FillConfig
    seed: int = 0
    render: RenderConfig = RenderConfig()
    name: ClassVar[str] = "transfer"
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "motion_examples", "motion_tune")
    _planned: dict[str, str] = field(default_factory=dict, init=False, repr=False)  # adapter -> revision

    def settings(self, params: TransferParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        config, used = self.config, self.fill.keyed()
        names = [name for name in (*SAMPLING, *COMPOSITING) if name in used and name not in UNUSED]
        settings = {name: used[name] for name in names} | base_settings(self.fill)
        settings |= {"start": config.start, "noise_scale": config.noise_scale}
        if config.start == "swept":
            settings |= {"dilate": config.dilate, "frame_rates": config.frame_rates}
        if params.alone:
            return settings
        settings["method"] = config.method
        if config.method == "adapter":
            settings["scale"] = config.scale
            if config.spatial.steps:
                settings["spatial_scale"] = config.spatial.scale
        if config.method == "guided":
            settings["guided"] = config.guided.keyed()
        return settings

    def identity(self, params: TransferParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        sources = adapter_files(self.fill).of(params.clip_id)
        self._planned |= {source.path: revision(source.path) for source in sources}
        own = {"caption": params.caption, "seed": self.seed + params.seed, "frames": params.frames}
        return own | adapter_identity(self.fill, params.clip_id)

    @property
    def places(self) -> Sequence[str]:
        return tuple(adapter.path for adapter in self.fill.chosen_adapters)

    @property
    def notes(self) -> Sequence[str]:
        return remarks_on(self.fill, adapter_files(self.fill).shared)

    def check_inputs(self, params: TransferParams) -> None:
        check_clip(params.clip)

    def setup(self) -> None:
        self._device, self._surface = stage_device(self.resources.gpus), surface_settings(self.render)
        filler = open_filler(self.fill, self._surface, self._device)
        assert isinstance(filler, DiffusionFiller)
        self._filler, self._adapters = filler, Adapters(filler.base)
        self._files = AdapterFiles(self.fill)
        self._adapters.use(self._files.shared, self._planned)  # one that does not fit stops the stage

    def run(
        self, item: Item[TransferParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        params, ingest = item.params, inputs["ingest"]
        fps = self._frame_rate(params, inputs)
        rigid = self.config.method == "explicit" and not params.alone  # of the first frame alone
        moving = self.config.start == "swept" and not rigid
        cameras = cameras_of(inputs, params.frames, moving=moving)
        with turn():
            view = self._view(params, inputs, cameras)
            self._use(params, inputs, output)
            filler = self._filler
            if self.config.method == "guided" and not params.alone:
                solver = reference_solver(
                    self.config.guided, inputs["motion_examples"], ingest.meta["size"], self._device
                )
                filler = replace(filler, make_solver=solver)
            filled = filler.fill_both(view, caption=params.caption, seed=self.seed + params.seed)
        self._write(output, filled.video, cameras)
        output.meta.update(
            frames=params.frames,
            first_frame=ingest.meta["first_frame"],
            fps=fps,
            content=ingest.meta["content"],
            size=ingest.meta["size"],
            cameras_known=ingest.meta["cameras_known"],
            cameras=ingest.meta["cameras"] if moving else "still",
            estimated=True,
        )
        known = float(view.visible[1:].float().mean()) if params.frames > 1 else 1.0
        return {"frames": float(params.frames), "known_share": known}

    def _view(
        self,
        params: TransferParams,
        inputs: Mapping[str, Artifact],
        cameras: Mapping[str, np.ndarray],
    ) -> RenderedView:
        config, device = self.config, self._device
        if config.start == "swept":
            if config.method == "explicit" and not params.alone:
                return explicit(params, inputs, cameras, self._surface, device)
            return as_view(*swept(params, inputs, config, device), cameras)
        start = first_frame if config.start == "first_frame" else nothing
        return as_view(*start(inputs["ingest"], params.frames, device), cameras)

    def _use(self, params: TransferParams, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> None:
        """Load the target's adapters, and the motion adapter of the reference beside them."""
        made = []
        if "motion_tune" in inputs:
            tuned = inputs["motion_tune"]
            made.append(Made(tuned, FILE_NAME, self.config.scale))
            if SPATIAL_FILE in tuned.names() and self.config.spatial.scale:
                made.append(Made(tuned, SPATIAL_FILE, self.config.spatial.scale))
        self._adapters.use(self._files.of(params.clip_id), self._planned, made)
        if self._adapters.report:
            output.meta["adapters"] = self._adapters.report

    def _frame_rate(self, params: TransferParams, inputs: Mapping[str, Artifact]) -> str:
        """Return the frame rate of the result."""
        if params.reference is None:
            return str(inputs["ingest"].meta["fps"])
        return result_rate(params.reference, params.clip, self.config)

    @staticmethod
    def _write(output: ArtifactWriter, video: Tensor, cameras: Mapping[str, np.ndarray]) -> None:
        with output.frames() as writer:
            writer.append(rgb=to_frames(video))
        output.write_npz(CAMERAS, **cameras)


@dataclass
class TransferBaseStage(TransferStage):
    """What the base makes of a target without the motion, from the same noise: for comparison."""

    name: ClassVar[str] = "transfer_base"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "motion_examples")
