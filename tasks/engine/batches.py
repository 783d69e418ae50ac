"""Neighbouring shards whose artifacts are all there are taken together: nothing is left to do but say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.stage import Item, Stage

TOGETHER = 16  # shards


@dataclass(frozen=True)
class Batch:
    """One shard with something to do, or up to TOGETHER neighbours without."""

    number: int  # of its first shard
    shards: int
    items: tuple[Item, ...]
    there: Mapping[str, Artifact] | None  # all artifacts, checked; None: whoever works on it checks

    @property
    def title(self) -> str:
        """Return the number or numbers of the shards, from 1, and what there is of items."""
        last = self.number + self.shards
        numbers = f"{last}" if self.shards == 1 else f"{self.number + 1}-{last}"
        return f"{numbers}: {len(self.items)} items" + (", all there" if self.there is not None else "")


def batches(
    stage: Stage, shards: Iterable[tuple[int, tuple[Item, ...]]], store: ArtifactStore
) -> Iterator[Batch]:
    """Cut a stage's shards, each with its number, into batches in their order.

    A shard is asked for when what comes of those with work before it is known. Storage that does not answer
    is left to whoever works on the shard.
    """
    finished: list[Batch] = []
    for number, items in shards:
        there = _all_there(stage, items, store)
        one = Batch(number, 1, items, there)
        if there is not None:
            finished.append(one)
        if finished and (there is None or len(finished) == TOGETHER):
            yield _joined(finished)
            finished = []
        if there is None:
            yield one
    if finished:
        yield _joined(finished)


def _all_there(stage: Stage, items: Iterable[Item], store: ArtifactStore) -> dict[str, Artifact] | None:
    try:
        return store.all_whole(stage.name, (item.key for item in items))
    except OSError:
        return None


def _joined(finished: list[Batch]) -> Batch:
    items = tuple(item for batch in finished for item in batch.items)
    there = {key: artifact for batch in finished for key, artifact in (batch.there or {}).items()}
    return Batch(finished[0].number, len(finished), items, there)
