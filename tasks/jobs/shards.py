"""A job's shards in their order, and its plan once it is known which fills could not be made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.run_stage import plan_stage
from recapture.tasks.engine.stage import ClipStage, Item, Outcome
from recapture.tasks.jobs.job import Job, plan_stages, rank_of
from recapture.tasks.jobs.packing import FILL


class Shards:
    """A job's shards, one after the other; a fill that failed is left out of the fills that come after it.

    Those have other keys then, so that a fill that was shown less never counts as the whole one.
    """

    def __init__(self, job: Job, size: int) -> None:
        self._size, self._lost = size, dict[str, list[Item]]()  # by clip
        self._plan(job)

    def __len__(self) -> int:
        return sum(len(shards) for shards in self._cut)

    def __iter__(self) -> Iterator[tuple[ClipStage, int, tuple[Item, ...]]]:
        for place, plan in enumerate(self.job.stages):
            for number, items in self.of_stage(place):
                yield plan.stage, number, items

    def of_stage(self, place: int) -> Iterator[tuple[int, tuple[Item, ...]]]:
        """Give the shards of the stage at a place, each with its number, as they are planned by then."""
        for number in range(len(self._cut[place])):
            yield number, self._cut[place][number]

    def settle(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[str]:
        """Take note of what came of a shard; return one sentence for each fill that was shown less."""
        if not self.job.config.fill.packing.frames or not outcomes or outcomes[0].stage != FILL:
            return []
        said, lost = [], False
        for item, outcome in zip(items, outcomes):
            gone = self._lost.setdefault(item.clip_id, [])
            earlier = [other.name for other in gone if rank_of(other) < rank_of(item)]
            if outcome.usable and earlier:
                said.append(f"{item.name} is filled without {', '.join(earlier)}, of which there is no fill")
            elif not outcome.usable:
                gone.append(item)
                lost = True
        if lost:
            self._plan(without(self.job, {item.name for gone in self._lost.values() for item in gone}))
        return said

    def _plan(self, job: Job) -> None:
        self.job = job  # as it is planned by now
        self._cut = [list(plan.shards(self._size)) for plan in job.stages]


def without(job: Job, lost: Collection[str]) -> Job:
    """Return the job with the keys that it has when the fills named `lost` are not there to be packed."""
    stages = [plan.stage for plan in job.stages]
    return replace(job, stages=tuple(plan_stages(stages, job.clips, job.config, lost)))


def as_it_stands(job: Job, store: ArtifactStore) -> Job:
    """Return the job as it will go: without the fills that quarantine holds back, or what they hang on."""
    if not job.config.fill.packing.frames or all(plan.stage.name != FILL for plan in job.stages):
        return job
    never: set[str] = set()  # keys that will not be made
    lost: set[str] = set()  # items
    before = next(place for place, plan in enumerate(job.stages) if plan.stage.name == FILL)
    for plan in job.stages[:before]:
        never |= {item.key for item in _held_back(plan.stage, plan.items, store, job, never)}
    for rank in sorted({rank_of(item) for item in job.stages[before].items}):
        wave = [item for item in job.stages[before].items if rank_of(item) == rank]
        held = {item.name for item in _held_back(job.stages[before].stage, wave, store, job, never)}
        if held:
            lost |= held
            job = without(job, lost)
    return job


def _held_back(
    stage: ClipStage, items: Collection[Item], store: ArtifactStore, job: Job, never: Collection[str]
) -> list[Item]:
    plan = plan_stage(stage, tuple(items), store, job.config.dataset.name, expected=True)
    blocked = [item for item in plan.todo if not set(item.inputs.values()).isdisjoint(never)]
    return [*blocked, *(item for item, _ in plan.quarantined)]
