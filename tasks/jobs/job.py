"""The plan of a job: which artifacts its clips and trajectories need, by content key."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig, TrajectoryConfig
from recapture.conf.section import Section
from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.readers.scan import scan
from recapture.datasets.store.keys import content_keys
from recapture.tasks.engine.model_revision import models_looked_at_once
from recapture.tasks.engine.redact import without_credentials
from recapture.tasks.engine.stage import ClipStage, Item, Resources
from recapture.tasks.jobs.behind_mask import StillCameraStage, behind_mask
from recapture.tasks.jobs.deliver import DeliverStage
from recapture.tasks.jobs.depth import DepthStage
from recapture.tasks.jobs.fill import FillStage
from recapture.tasks.jobs.ingest import IngestStage
from recapture.tasks.jobs.mask import MaskStage
from recapture.tasks.jobs.measure import MeasureStage
from recapture.tasks.jobs.packing import FILL, filling_order, pack_earlier
from recapture.tasks.jobs.preview import PreviewStage
from recapture.tasks.jobs.prompts import with_prompts
from recapture.tasks.jobs.render import RenderStage


@dataclass(frozen=True)
class StagePlan:
    """One stage and every item that it has to provide."""

    stage: ClipStage
    items: tuple[Item, ...]

    def shards(self, size: int) -> Iterator[tuple[Item, ...]]:
        """Cut the items into runs of at most `size`; keys do not depend on it.

        Where fills are packed, those that come first in their clips run before those that are shown them.
        """
        ranked = sorted(self.items, key=rank_of)
        for _, wave in groupby(ranked, key=rank_of):
            items = tuple(wave)
            for start in range(0, len(items), size):
                yield items[start : start + size]


@dataclass(frozen=True)
class Job:
    """A dataset's clips, what could not be read of it, and the stages in their order."""

    config: RecaptureConfig
    clips: tuple[Clip, ...]
    rejected: tuple[Rejected, ...]
    stages: tuple[StagePlan, ...]

    def stage(self, name: str) -> StagePlan:
        """Return the plan of the stage called `name`."""
        return next(plan for plan in self.stages if plan.stage.name == name)


def plan_job(config: RecaptureConfig, stages: Sequence[ClipStage]) -> Job:
    """Scan the dataset and derive every item and its key from it and from the configuration.

    Raises UserError when the dataset cannot be read or no clip is left to work on.
    """
    try:
        found, rejected = scan(config.dataset.uri, config.dataset.kind)
    except (OSError, ValueError) as error:
        message = f"dataset {config.dataset.uri!r} cannot be read: {error}; check dataset.uri"
        raise UserError(without_credentials(message)) from None
    rejected = [replace(item, error=without_credentials(item.error)) for item in rejected]
    wanted = [clip for clip in found if fnmatch.fnmatchcase(clip.id, config.dataset.where)]
    clips = wanted[: config.dataset.limit]
    if not clips:
        uri = without_credentials(config.dataset.uri)
        raise UserError(
            f"dataset {uri!r} has no clip to work on: {len(found)} could be read, of which "
            f"{len(wanted)} match dataset.where={config.dataset.where!r}; {len(rejected)} could not be read"
            + "".join(f"\n  {clip.id}: {clip.error}" for clip in rejected[:10])
        )
    ids = {clip.id for clip in found} | {clip.id for clip in rejected}
    clips = with_prompts(clips, config.mask, ids)
    return Job(config, tuple(clips), tuple(rejected), tuple(plan_stages(stages, clips, config)))


def recapture_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of a recapture job in their order; a mask, where one is given, is warped along."""
    render = RenderStage(config.render, _resources(config, "render"))
    return _masked(config, [*source_stages(config), render, *_fill_stages(config)])


def inpaint_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of an inpainting job in their order: the cameras stay, the mask makes the holes."""
    if not config.mask.given:
        raise UserError("nothing is to be redrawn; set mask.uri, mask.objects or mask.outpaint")
    render = StillCameraStage(_resources(config, "render"), config.render)
    return _masked(config, [*source_stages(config), render, *_fill_stages(config)])


def preview_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of a preview in their order: no model fills anything."""
    render = RenderStage(config.render, _resources(config, "render"))
    preview = PreviewStage(config.deliver, _resources(config, "preview"))
    return _masked(config, [*source_stages(config), render, preview])


def source_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages that every job begins with: frames and depth."""
    return [
        IngestStage(config.ingest, _resources(config, "ingest")),
        DepthStage(config.depth, _resources(config, "depth"), seed=config.seed),
    ]


def _fill_stages(config: RecaptureConfig) -> list[ClipStage]:
    return [
        FillStage(config.fill, config.seed, _resources(config, "fill"), config.render),
        MeasureStage(config.measure, _resources(config, "measure"), config.render),
        DeliverStage(config.deliver, _resources(config, "deliver")),
    ]


def _masked(config: RecaptureConfig, stages: list[ClipStage]) -> list[ClipStage]:
    if not config.mask.given:
        return stages
    return behind_mask(MaskStage(config.mask, _resources(config, "mask")), stages)


def _resources(config: RecaptureConfig, stage: str) -> Resources:
    wanted = config.execution.resources.get(stage)
    return Resources(wanted.cpus, wanted.gpus) if wanted else Resources()


def plan_stages(
    stages: Sequence[ClipStage],
    clips: Sequence[Clip],
    config: RecaptureConfig,
    lost: Collection[str] = (),
) -> Iterator[StagePlan]:
    """Chain the keys: a key holds its parents' keys, so a change redoes what follows it and no more.

    lost: names of fills that there are none of, which later ones are not shown (see `packing`).
    """
    keys: dict[tuple[str, str], str] = {}
    in_order = filling_order(config)
    described = {clip.id: dict(vars(clip)) for clip in clips}
    for stage in stages:
        along = in_order if stage.name == FILL else config.trajectories
        trajectories = along if stage.per_trajectory else (None,)
        dumped = [one.model_dump(mode="json") if one else None for one in trajectories]
        key_of = content_keys(stage.name, stage.version, keyed(stage.config))
        items = []
        with models_looked_at_once():
            for clip in clips:
                for place, trajectory in enumerate(trajectories):
                    name = item_name(clip, trajectory)
                    inputs = {
                        parent: keys.get((parent, name)) or keys[parent, clip.id] for parent in stage.parents
                    }
                    identity = stage.identity(clip, trajectory)
                    rank = {}
                    if stage.name == FILL:
                        earlier = [item_name(clip, before) for before in in_order[:place]]
                        packed = pack_earlier(config, earlier, keys, lost)
                        inputs, identity = {**inputs, **packed.inputs}, {**identity, **packed.identity}
                        rank = {"rank": packed.rank} if packed.rank else {}
                    params = {
                        "clip": described[clip.id],
                        "trajectory": dumped[place],
                        "label": trajectory.label if trajectory else "",
                        **rank,
                    }
                    key = keys[stage.name, name] = key_of(inputs, identity)
                    items.append(Item(clip.id, name, key, inputs, params))
        yield StagePlan(stage, tuple(items))


def keyed(config: BaseModel) -> dict[str, Any]:
    """Return a stage's settings as its content keys hold them."""
    return config.keyed() if isinstance(config, Section) else config.model_dump(mode="json")


def rank_of(item: Item) -> int:
    """Return how many items of its stage and clip are worked on before it."""
    rank: int = item.params.get("rank", 0)
    return rank


def item_name(clip: Clip, trajectory: TrajectoryConfig | None) -> str:
    """Return the unique label of a clip, or of a clip along a trajectory."""
    return f"{clip.id}@{trajectory.label}" if trajectory else clip.id
