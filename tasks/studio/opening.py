"""Open a clip as a job does: its frames, depth and cameras, made by the ordinary stages or reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.conf.trajectory import TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.worker import open_inputs
from recapture.tasks.jobs.chosen_clips import chosen_clips
from recapture.tasks.jobs.job import ClipJob, preview_stages
from recapture.tasks.jobs.render import RenderStage

SHOWN = 10  # clips that an error lists


@dataclass(frozen=True)
class Opened:
    """A clip, the stage that would render it, and the artifacts that this stage would read."""

    params: ClipParams  # of a static trajectory
    stage: RenderStage
    inputs: Mapping[str, Artifact]


def open_clip(config: RecaptureConfig, clip_id: str | None = None) -> Opened:
    """Make what a render of a clip reads, in this process, and open it; clip_id None: the first clip.

    Raises UserError for a dataset that cannot be read, an unknown clip, and a clip that a stage refuses.
    """
    clip = _chosen(config, clip_id)
    still = config.model_copy(update={"trajectories": (TrajectoryConfig(preset="static"),)})
    job = ClipJob(still, preview_stages(still), [clip])
    store = ArtifactStore(config.store)
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        context = RunContext(
            store, executor, config.dataset.name, uuid4().hex[:12], retry_policy(config.execution)
        )
        for plan in job.plans():
            if isinstance(plan.stage, RenderStage):
                break
            plan.outcomes += run_stage(plan.stage, plan.items, context)
            for outcome in plan.outcomes:
                if not outcome.usable:
                    why = outcome.error or "it has failed before; see `recapture quarantine ls`"
                    raise UserError(f"clip {clip.id!r} cannot be opened: {plan.stage.name}: {why}")
    item = plan.items[0]
    assert isinstance(plan.stage, RenderStage)
    try:
        return Opened(item.params, plan.stage, open_inputs(plan.stage, item, store))
    except ArtifactError as error:
        raise UserError(f"clip {clip.id!r} cannot be opened: {error}; start the studio again") from None


def _chosen(config: RecaptureConfig, clip_id: str | None) -> Clip:
    if clip_id is None:
        return chosen_clips(config)[0][0]
    every = config.dataset.model_copy(update={"limit": None, "where": "*"})
    clips, rejected = chosen_clips(config.model_copy(update={"dataset": every}))
    for clip in clips:
        if clip.id == clip_id:
            return clip
    for bad in rejected:
        if bad.id == clip_id:
            raise UserError(f"clip {clip_id!r} cannot be read: {bad.error}")
    known = ", ".join(clip.id for clip in clips[:SHOWN])
    raise UserError(f"no clip is called {clip_id!r}; choose one of {known}{', …' * (len(clips) > SHOWN)}")
