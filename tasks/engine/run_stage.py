"""One stage over one shard: plan what is to do, do it, write down what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.manifest import named_keys, write_part
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.storage import StoreBusy, StoreFailed
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import Executor
from recapture.tasks.engine.redact import without_credentials
from recapture.tasks.engine.retry import RetryPolicy, StageSick, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Stage, Status, parent_stage


@dataclass(frozen=True)
class Plan:
    """A stage's items by what is to be done with each."""

    todo: tuple[Item, ...]
    reused: tuple[Item, ...]
    blocked: tuple[tuple[Item, str], ...]  # with the parent stage whose artifact is missing
    quarantined: tuple[tuple[Item, Quarantined], ...]
    committed: Mapping[str, Artifact]  # key -> what is there already


def plan_stage(
    stage: Stage, items: Sequence[Item], store: ArtifactStore, dataset: str, *, expected: bool = False
) -> Plan:
    """Sort items: committed artifacts are reused, quarantined ones left, those without parents blocked.

    Only artifacts count, not manifests: deleting one makes it run again. Items of one key (two copies of a
    clip) are made once. expected: take missing parents for granted, to plan stages ahead of a run.
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
    return Plan(tuple(todo.values()), tuple(reused), tuple(blocked), tuple(held), committed)


def run_stage(
    stage: Stage,
    items: Sequence[Item],
    store: ArtifactStore,
    executor: Executor,
    *,
    dataset: str,
    run_id: str,
    shard: int = 0,
    policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    there: Mapping[str, Artifact] | None = None,
) -> list[Outcome]:
    """Bring a shard of a stage up to date; return one outcome an item, in the order of the items.

    Writes a manifest part for what was worked on, and for artifacts that no part names yet; quarantines what
    failed. Raises StageSick when the stage itself cannot work or the store refuses, StoreBusy when the store
    does not answer; what was finished by then stays and, where the store lets, is recorded.
    there: the artifacts of all items, by key, where they are known to be whole; they are not looked at again.
    """
    try:
        return _run_stage(stage, items, store, executor, dataset, run_id, shard, policy, on_outcome, there)
    except StoreBusy:
        raise
    except StoreFailed as error:
        raise StageSick(sick_message(stage, without_credentials(str(error)))) from None


def _run_stage(
    stage: Stage,
    items: Sequence[Item],
    store: ArtifactStore,
    executor: Executor,
    dataset: str,
    run_id: str,
    shard: int,
    policy: RetryPolicy,
    on_outcome: Callable[[Outcome], None],
    there: Mapping[str, Artifact] | None,
) -> list[Outcome]:
    plan = (
        plan_stage(stage, items, store, dataset) if there is None else Plan((), tuple(items), (), (), there)
    )
    settled: dict[str, Outcome] = {}

    def settle(outcome: Outcome) -> None:
        settled[outcome.item] = outcome
        on_outcome(outcome)

    for item, entry in plan.quarantined:
        settle(_outcome(stage, item, entry.state, entry.error_type, entry.error))
    for item, missing in plan.blocked:
        settle(_outcome(stage, item, "blocked", "Blocked", f"stage {missing!r} has made nothing for it"))
    made: list[Outcome] = []

    def finished(outcome: Outcome) -> None:
        made.append(outcome)
        if outcome.status == "quarantined":
            _quarantine(store, dataset, run_id, outcome)
        settle(outcome)

    def record() -> None:
        by_name = {item.name: item for item in plan.todo}
        rows = [_row(stage, by_name[outcome.item], outcome, run_id) for outcome in made]
        rows += _adopted(stage, plan, store, dataset, run_id)
        if rows:
            write_part(store.root, dataset, stage.name, run_id, shard, rows)

    try:
        executor.run(stage, plan.todo, finished, policy)
    except BaseException:
        with suppress(StoreFailed):  # the artifacts are there; the next run names them
            record()
        raise
    record()
    failed = {outcome.key: outcome for outcome in made if not outcome.usable}
    twins = {outcome.key: outcome.metrics for outcome in made}
    for item in plan.reused:
        if twin := failed.get(item.key):  # another item of the same key, tried in this very run
            settle(_outcome(stage, item, twin.status, twin.error_type, twin.error))
        else:
            found = plan.committed.get(item.key)
            metrics = twins[item.key] if found is None else found.metrics
            settle(_outcome(stage, item, "reused", metrics=metrics))
    return [settled[item.name] for item in items]


def _parents(items: Sequence[Item], store: ArtifactStore) -> dict[str, Collection[str]]:
    """Return parent stage -> the keys that are there, of all that the items need."""
    wanted: dict[str, set[str]] = {}
    for item in items:
        for parent, key in item.inputs.items():
            wanted.setdefault(parent_stage(parent), set()).add(key)
    return {parent: store.whole(parent, keys) for parent, keys in wanted.items()}


def _gone(item: Item, parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the stages of the inputs that are not there."""
    stages = ((parent_stage(name), key) for name, key in item.inputs.items())
    return [stage for stage, key in stages if key not in parents[stage]]


def _adopted(
    stage: Stage, plan: Plan, store: ArtifactStore, dataset: str, run_id: str
) -> list[dict[str, Any]]:
    """Return rows of reused artifacts that the dataset's manifest does not name.

    Another dataset has made them, or a run that was killed before it could say so.
    """
    unnamed_keys = plan.committed.keys() - named_keys(store.root, dataset, stage.name, plan.committed.keys())
    unnamed = {item.key: item for item in plan.reused if item.key in unnamed_keys}
    return [
        _row(
            stage,
            item,
            replace(
                _outcome(stage, item, "reused"),
                bytes=plan.committed[key].total_bytes,
                metrics=plan.committed[key].metrics,
            ),
            run_id,
        )
        for key, item in unnamed.items()
    ]


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


def _quarantine(store: ArtifactStore, dataset: str, run_id: str, outcome: Outcome) -> None:
    entry = Quarantined(
        outcome.item,
        outcome.clip_id,
        outcome.stage,
        outcome.key,
        outcome.error_type,
        outcome.error,
        outcome.traceback,
        outcome.attempts,
        run_id,
    )
    Quarantine(store.root, dataset).add(entry)


def _row(stage: Stage, item: Item, outcome: Outcome, run_id: str) -> dict[str, Any]:
    return {
        "clip_id": item.clip_id,
        "item": item.name,
        "key": item.key,
        "stage": stage.name,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "error_type": outcome.error_type,
        "error": outcome.error,
        "seconds": outcome.seconds,
        "bytes": outcome.bytes,
        "device": outcome.device,
        "vram_peak_mb": outcome.vram_peak_mb,
        "parent_keys": list(item.inputs.values()),
        "code_version": stage.version,
        "run_id": run_id,
        "metrics": dict(outcome.metrics),
    }
