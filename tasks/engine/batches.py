"""Merging of consecutive shards that are already complete, so that they are reported as one task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Item, Stage

TOGETHER = 16  # shards


@dataclass(frozen=True)
class Batch:
    """One shard with work to do, or up to TOGETHER consecutive shards that are complete."""

    number: int  # of its first shard
    shards: int
    items: tuple[Item, ...]
    complete: Mapping[str, Artifact] | None  # all artifacts by key; None: not all are known to exist

    @property
    def title(self) -> str:
        """Return the number or numbers of the shards, from 1, and the number of items."""
        last = self.number + self.shards
        numbers = f"{last}" if self.shards == 1 else f"{self.number + 1}-{last}"
        return f"{numbers}: {len(self.items)} items" + (", all complete" if self.complete is not None else "")


def batches(plan: StagePlan, size: int, store: ArtifactStore, first: int = 0) -> Iterator[Batch]:
    """Cut a plan into shards of `size` items, numbered from `first`, and merge those that are complete.

    A shard is looked up only after the shards before it are done. If the storage does not answer, the shard
    counts as one with work to do.
    """
    finished: list[Batch] = []
    for number, items in enumerate(plan.shards(size), first):
        complete = complete_artifacts(plan.stage, items, store)
        one = Batch(number, 1, items, complete)
        if complete is not None:
            finished.append(one)
        if finished and (complete is None or len(finished) == TOGETHER):
            yield _joined(finished)
            finished = []
        if complete is None:
            yield one
    if finished:
        yield _joined(finished)


def complete_artifacts(
    stage: Stage, items: Iterable[Item], store: ArtifactStore
) -> dict[str, Artifact] | None:
    """Return the artifacts of all items by key; None if one is missing, or the storage does not answer."""
    try:
        return store.all_whole(stage.name, (item.key for item in items))
    except OSError:
        return None


def _joined(finished: list[Batch]) -> Batch:
    items = tuple(item for batch in finished for item in batch.items)
    complete = {key: artifact for batch in finished for key, artifact in (batch.complete or {}).items()}
    return Batch(finished[0].number, len(finished), items, complete)
