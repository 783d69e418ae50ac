"""The stages before a clip is rendered: frames, depth, cameras, caption, and what a mask hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.clip.captions import CAPTION
from recapture.tasks.clip.clip_stage import ClipStage
from recapture.tasks.jobs.baselines import CLASSICAL
from recapture.tasks.jobs.cameras import CamerasStage
from recapture.tasks.jobs.caption import CaptionStage
from recapture.tasks.jobs.depth import DepthStage
from recapture.tasks.jobs.ingest import IngestStage
from recapture.tasks.jobs.mask import MaskStage
from recapture.tasks.jobs.select import SELECT, SelectStage
from recapture.tasks.jobs.stage_resources import stage_resources

# Stages behind a mask read its artifact in place of these.
MASKED = {"ingest": "mask", "depth": "mask", "cameras": "mask"}
BEFORE_MASK = ("ingest", "depth", "cameras", CAPTION)


def source_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages that every job begins with: frames and depth."""
    return [
        IngestStage(config.ingest, resources=stage_resources(config, "ingest")),
        DepthStage(config.depth, seed=config.seed, resources=stage_resources(config, "depth")),
    ]


def filmed_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return frames, depth and cameras; jobs leave out cameras that nobody needs to estimate."""
    resources = stage_resources(config, "cameras")
    return [
        *source_stages(config),
        CamerasStage(config.cameras, config.ingest.fov_degrees, resources=resources),
    ]


def captioned(config: RecaptureConfig, stages: Sequence[ClipStage]) -> list[ClipStage]:
    """Return the stages, and after them the one that writes captions if they are wanted and read."""
    unread = config.fill.method == CLASSICAL and config.measure.learned.clip is None
    if config.caption.model is None or unread or config.mask.prompt is not None:
        return list(stages)
    return [*stages, CaptionStage(config.caption, resources=stage_resources(config, CAPTION))]


def masked(config: RecaptureConfig, stages: list[ClipStage]) -> list[ClipStage]:
    """Insert the mask stage, if a mask is given, after those of the source; later stages read it instead."""
    if not config.mask.given:
        return stages
    if config.deliver.size == "source":
        raise UserError(
            "deliver.size source: what a mask replaces is known at the working size alone; set deliver.size "
            "working, and ingest.short_side to the size that you need"
        )
    source = [stage for stage in stages if stage.name in BEFORE_MASK]
    later = stages[len(source) :]
    mask = MaskStage(config.mask, resources=stage_resources(config, "mask"), also=(SELECT,))
    return [*source, *select_stages(config), mask, *(replace(stage, reads=MASKED) for stage in later)]


def select_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stage that finds what is pointed at, if anything is; the embedded rule reads the depth."""
    select = config.mask.select
    if not select.wanted:
        return []
    also = () if select.of_model else ("depth",)
    return [SelectStage(select, resources=stage_resources(config, SELECT), also=also)]
