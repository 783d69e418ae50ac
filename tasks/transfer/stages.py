"""The stages of a motion transfer, made from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig, RecaptureConfig
from recapture.tasks.clip.adapter_files import adapter_files
from recapture.tasks.clip.adapters import remarks_on
from recapture.tasks.clip.clip_stage import ClipStage
from recapture.tasks.jobs.deliver import DeliverStage
from recapture.tasks.jobs.depth import DepthStage
from recapture.tasks.jobs.fill import FillStage
from recapture.tasks.jobs.ingest import IngestStage
from recapture.tasks.jobs.mask import MaskStage
from recapture.tasks.jobs.render import RenderStage
from recapture.tasks.jobs.select import SELECT
from recapture.tasks.jobs.source_stages import select_stages
from recapture.tasks.jobs.stage_resources import stage_resources
from recapture.tasks.transfer.deliver_stage import MotionDeliverStage
from recapture.tasks.transfer.examples_stage import MotionExamplesStage
from recapture.tasks.transfer.heads_stage import HeadsStage
from recapture.tasks.transfer.measure_stage import MotionMeasureStage
from recapture.tasks.transfer.transfer_stage import TransferBaseStage, TransferStage
from recapture.tasks.transfer.tune_stage import MotionTuneStage
from recapture.tasks.tune.recapturer import base_settings
from recapture.tasks.tune.tunable import check_tunable
from recapture.tasks.tune.tune_stage import Live

NO_ADAPTER = {"adapter": None, "adapter_scale": None, "adapters": ()}
RESULT = {"ingest": "transfer"}  # a recapture reads results in place of clips


@dataclass(frozen=True)
class TransferStages:
    """A maker of the stages of a motion transfer."""

    config: RecaptureConfig

    def check(self) -> None:
        """Raise UserError for settings with which nothing can be transferred, before any work is done."""
        transfer, mask = self.config.transfer, self.config.mask
        if self.config.fill.method == "classical":
            raise UserError("a transfer needs a base, and fill.method classical has none; set it to base")
        check_tunable(self.config.fill)
        base_settings(self.config.fill)
        remarks_on(self.config.fill, adapter_files(self.config.fill).shared)
        if transfer.start == "swept" and not mask.given:
            raise UserError(
                "transfer.start swept needs to know what moves, in references and targets; set mask.objects, "
                "mask.uri or mask.select"
            )
        if transfer.camera == "two_passes" and self.config.deliver.size == "source":
            raise UserError(
                "deliver.size source: a result is made at the working size alone; set deliver.size "
                "working, and ingest.short_side to the size that you need"
            )
        if transfer.start == "swept" and mask.outpaint.any:
            raise UserError("mask.outpaint changes the canvas, which transfer.start swept keeps; unset it")

    def of_clips(self) -> list[ClipStage]:
        """Return the stages of references and targets: frames, and where it is read, what moves."""
        config = self.config
        ingest = IngestStage(config.ingest, resources=stage_resources(config, "ingest"))
        if config.transfer.start != "swept":
            return [ingest]
        depth = DepthStage(config.depth, seed=config.seed, resources=stage_resources(config, "depth"))
        resources = stage_resources(config, "mask")
        mask = MaskStage(config.mask, resources=resources, also=(SELECT,))
        return [ingest, depth, *select_stages(config), mask]

    def heads(self) -> HeadsStage:
        """Return the stage that looks at the base's heads."""
        config = self.config
        resources = stage_resources(config, "heads")
        return HeadsStage(config.transfer.heads, self._fill, config.seed, resources=resources)

    def examples(self) -> MotionExamplesStage:
        """Return the stage that encodes references."""
        config = self.config
        resources = stage_resources(config, "motion_examples")
        return MotionExamplesStage(
            config.transfer, self._fill, config.seed, resources=resources, also=("mask",)
        )

    def tune(self, live: Live | None) -> MotionTuneStage:
        """Return the stage that tunes; live: the MLflow run that it logs to."""
        config = self.config
        resources = stage_resources(config, "motion_tune")
        return MotionTuneStage(
            config.transfer, self._fill, config.store, config.seed, live or Live(), resources=resources
        )

    def transfer(self, *, alone: bool) -> TransferStage:
        """Return the stage that samples results, or, alone, what the base makes without the motion."""
        config = self.config
        kind = TransferBaseStage if alone else TransferStage
        fill = config.fill.model_copy(
            update={
                "method": "base",
                "noise_scale": config.transfer.noise_scale,
                "speed": config.fill.speed.exact(),
            }
        )
        also = ("mask", "depth") if config.transfer.start == "swept" else ()
        resources = stage_resources(config, kind.name)
        return kind(config.transfer, fill, config.seed, config.render, resources=resources, also=also)

    def measure(self) -> MotionMeasureStage:
        """Return the stage that measures results."""
        return MotionMeasureStage(resources=stage_resources(self.config, "motion_measure"))

    def deliver(self) -> MotionDeliverStage:
        """Return the stage that makes the files of results."""
        return MotionDeliverStage(
            self.config.deliver, resources=stage_resources(self.config, "motion_deliver")
        )

    def filmed(self) -> list[ClipStage]:
        """Return the stages that film results along the trajectories, as a recapture films clips."""
        config = self.config
        depth = config.depth.model_copy(update={"source": "model"})  # nobody has given that of a result
        fill = (config.fill, config.seed, config.render, config.ingest.short_side)
        stages: Sequence[ClipStage] = (
            DepthStage(depth, seed=config.seed, resources=stage_resources(config, "depth")),
            RenderStage(config.render, resources=stage_resources(config, "render")),
            FillStage(*fill, resources=stage_resources(config, "fill")),
            DeliverStage(config.deliver, resources=stage_resources(config, "deliver")),
        )
        return [replace(stage, reads=RESULT) for stage in stages]

    @property
    def _fill(self) -> FillConfig:
        fill = self.config.fill
        plain = {"method": "base", "speed": fill.speed.exact(), **NO_ADAPTER}
        return fill.model_copy(update=plain)
