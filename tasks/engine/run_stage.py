"""One shard of a stage: sort out what is to be done, have it done, and record the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from recapture.conf.redact import without_credentials
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.manifest import named_keys, write_part
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.storage import StoreBusy, StoreFailed
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import Executor
from recapture.tasks.engine.retry import RetryPolicy, StageSick, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Stage, Status, parent_stage


@dataclass(frozen=True)
class RunContext:
    """What all shards of a job share."""

    store: ArtifactStore
    executor: Executor
    dataset: str  # names the manifests and the quarantine
    run_id: str
    policy: RetryPolicy = RetryPolicy()  # noqa: RUF009 - frozen
    on_outcome: Callable[[Outcome], None] = lambda outcome: None


@dataclass(frozen=True)
class Todo:
    """A stage's items, by what is to be done with each."""

    todo: tuple[Item, ...]
    reused: tuple[Item, ...]
    blocked: tuple[tuple[Item, str], ...]  # with the parent stage whose artifact is missing
    quarantined: tuple[tuple[Item, Quarantined], ...]
    committed: Mapping[str, Artifact]  # key -> the artifact that exists already

    @classmethod
    def nothing(cls, items: Sequence[Item], committed: Mapping[str, Artifact]) -> Todo:
        """Return the Todo of items that are all complete."""
        return cls((), tuple(items), (), (), committed)


def sort_items(
    stage: Stage, items: Sequence[Item], store: ArtifactStore, dataset: str, *, expected: bool = False
) -> Todo:
    """Sort items: existing artifacts are reused, quarantined items skipped, items without parents blocked.

    Only artifacts count, not manifests: an artifact that was deleted is made again. Items of one key (two
    copies of a clip) are made once. expected: assume that missing parents will exist, to plan ahead of a run.
    """
    committed = store.whole(stage.name, (item.key for item in items))
    missing = [item for item in items if item.key not in committed]
    quarantined = Quarantine(store.root, dataset).held(stage.name, {item.key for item in missing})
    parents = {} if expected else _parents(missing, store)
    todo: dict[str, Item] = {}
    reused, blocked, held = [], [], []
    for item in items:
        if item.key in committed or item.key in todo:
            reused.append(item)
        elif item.key in quarantined:
            held.append((item, quarantined[item.key]))
        elif not expected and (gone := _gone(item, parents)):
            blocked.append((item, gone[0]))
        else:
            todo[item.key] = item
    return Todo(tuple(todo.values()), tuple(reused), tuple(blocked), tuple(held), committed)


def run_stage(
    stage: Stage,
    items: Sequence[Item],
    context: RunContext,
    *,
    shard: int = 0,
    complete: Mapping[str, Artifact] | None = None,
) -> list[Outcome]:
    """Bring a shard of a stage up to date; return one outcome per item, in the order of the items.

    Writes a manifest part for the items worked on and for artifacts that no part names yet; quarantines
    failed items. Raises StageSick if the stage itself cannot work or the store refuses, StoreBusy if the
    store does not answer; finished artifacts are kept and, if the store allows it, recorded.
    complete: the artifacts of all items, by key, if all are known to exist; they are not looked up again.
    """
    with _naming_the_stage(stage):
        if complete is None:
            todo = sort_items(stage, items, context.store, context.dataset)
        else:
            todo = Todo.nothing(items, complete)
        return _Shard(stage, todo, context, shard).bring_up_to_date(items)


@contextmanager
def _naming_the_stage(stage: Stage) -> Iterator[None]:
    try:
        yield
    except StoreBusy:
        raise
    except StoreFailed as error:
        raise StageSick(sick_message(stage, without_credentials(str(error)))) from None


class _Shard:
    """One shard while its items are worked on."""

    def __init__(self, stage: Stage, todo: Todo, context: RunContext, number: int) -> None:
        self._stage, self._todo, self._context, self._number = stage, todo, context, number
        self._settled: dict[str, Outcome] = {}  # by item
        self._made: list[Outcome] = []

    def bring_up_to_date(self, items: Sequence[Item]) -> list[Outcome]:
        self._settle_held_back()
        self._record(self._adopted())  # first, or garbage collection could delete what others are made from
        try:
            self._context.executor.run(self._stage, self._todo.todo, self._finished, self._context.policy)
        except BaseException:
            with suppress(StoreFailed):  # the artifacts exist; the next run names them
                self._record(self._made_rows())
            raise
        self._record(self._made_rows())
        self._settle_reused()
        return [self._settled[item.name] for item in items]

    def _settle(self, outcome: Outcome) -> None:
        self._settled[outcome.item] = outcome
        self._context.on_outcome(outcome)

    def _settle_held_back(self) -> None:
        for item, entry in self._todo.quarantined:
            self._settle(_outcome(self._stage, item, entry.state, entry.error_type, entry.error))
        for item, parent in self._todo.blocked:
            reason = f"stage {parent!r} has no artifact for it"
            self._settle(_outcome(self._stage, item, "blocked", "Blocked", reason))

    def _settle_reused(self) -> None:
        failed = {outcome.key: outcome for outcome in self._made if not outcome.usable}
        twins = {outcome.key: outcome.metrics for outcome in self._made}
        for item in self._todo.reused:
            if twin := failed.get(item.key):  # another item of the same key, tried in this run
                self._settle(_outcome(self._stage, item, twin.status, twin.error_type, twin.error))
            else:
                found = self._todo.committed.get(item.key)
                metrics = twins[item.key] if found is None else found.metrics
                self._settle(_outcome(self._stage, item, "reused", metrics=metrics))

    def _finished(self, outcome: Outcome) -> None:
        self._made.append(outcome)
        if outcome.status == "quarantined":
            self._quarantine(outcome)
        self._settle(outcome)

    def _made_rows(self) -> list[dict[str, Any]]:
        by_name = {item.name: item for item in self._todo.todo}
        return [self._row(by_name[outcome.item], outcome) for outcome in self._made]

    def _record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            given = self._context
            write_part(given.store.root, given.dataset, self._stage.name, given.run_id, self._number, rows)

    def _adopted(self) -> list[dict[str, Any]]:
        """Return rows of reused artifacts that the dataset's manifest does not name.

        They were made for another dataset, or by a run that was killed before it could record them.
        """
        committed, given = self._todo.committed, self._context
        named = named_keys(given.store.root, given.dataset, self._stage.name, committed.keys())
        unknown = committed.keys() - named
        unnamed = {item.key: item for item in self._todo.reused if item.key in unknown}
        rows = []
        for key, item in unnamed.items():
            outcome = _outcome(self._stage, item, "reused", metrics=committed[key].metrics)
            rows.append(self._row(item, replace(outcome, bytes=committed[key].total_bytes)))
        return rows

    def _quarantine(self, outcome: Outcome) -> None:
        entry = Quarantined(
            outcome.item,
            outcome.clip_id,
            outcome.stage,
            outcome.key,
            outcome.error_type,
            outcome.error,
            outcome.traceback,
            outcome.attempts,
            self._context.run_id,
        )
        Quarantine(self._context.store.root, self._context.dataset).add(entry)

    def _row(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        return {
            "clip_id": item.clip_id,
            "item": item.name,
            "key": item.key,
            "stage": self._stage.name,
            "status": outcome.status,
            "attempts": outcome.attempts,
            "error_type": outcome.error_type,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "gpu_seconds": outcome.gpu_seconds,
            "bytes": outcome.bytes,
            "device": outcome.device,
            "vram_peak_mb": outcome.vram_peak_mb,
            "parent_keys": list(item.inputs.values()),
            "code_version": self._stage.version,
            "run_id": self._context.run_id,
            "metrics": dict(outcome.metrics),
        }


def _parents(items: Sequence[Item], store: ArtifactStore) -> dict[str, Collection[str]]:
    """Return parent stage -> those of the keys that the items need that exist."""
    wanted: dict[str, set[str]] = {}
    for item in items:
        for parent, key in item.inputs.items():
            wanted.setdefault(parent_stage(parent), set()).add(key)
    return {parent: store.whole(parent, keys) for parent, keys in wanted.items()}


def _gone(item: Item, parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the stages of the inputs that do not exist."""
    stages = ((parent_stage(name), key) for name, key in item.inputs.items())
    return [stage for stage, key in stages if key not in parents[stage]]


def _outcome(
    stage: Stage,
    item: Item,
    status: Status,
    error_type: str = "",
    error: str = "",
    metrics: Mapping[str, float] | None = None,
) -> Outcome:
    name, clip, key = item.name, item.clip_id, item.key
    return Outcome(name, clip, key, stage.name, status, error_type, error, attempts=0, metrics=metrics or {})
