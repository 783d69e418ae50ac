"""One stage over one shard: plan what is to do, do it, write down what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recapture.datasets.manifest import read_manifest, write_part
from recapture.datasets.quarantine import Quarantine, Quarantined
from recapture.datasets.store import ArtifactStore
from recapture.tasks.pool import Executor, RetryPolicy
from recapture.tasks.stage import Item, Outcome, Stage, Status


@dataclass(frozen=True)
class Plan:
    """A stage's items by what is to be done with each."""

    todo: tuple[Item, ...]
    reused: tuple[Item, ...]
    blocked: tuple[tuple[Item, str], ...]  # with the parent stage whose artifact is missing
    quarantined: tuple[tuple[Item, Quarantined], ...]


def plan_stage(
    stage: Stage, items: Sequence[Item], store: ArtifactStore, dataset: str, *, expected: bool = False
) -> Plan:
    """Sort items: committed artifacts are reused, quarantined ones left, those without parents blocked.

    Only artifacts count, not manifests: deleting one makes it run again. Items of one key (two copies of a
    clip) are made once. expected: take missing parents for granted, to plan stages ahead of a run.
    """
    quarantined = {entry.key: entry for entry in Quarantine(store.root, dataset).entries(stage.name)}
    committed = store.keys(stage.name)
    parents = {parent: store.keys(parent) for parent in {name for item in items for name in item.inputs}}
    todo: dict[str, Item] = {}
    reused, blocked, held = [], [], []
    for item in items:
        if (item.key in committed and store.exists(stage.name, item.key)) or item.key in todo:
            reused.append(item)
        elif item.key in quarantined:
            held.append((item, quarantined[item.key]))
        elif not expected and (missing := [p for p, key in item.inputs.items() if key not in parents[p]]):
            blocked.append((item, missing[0]))
        else:
            todo[item.key] = item
    return Plan(tuple(todo.values()), tuple(reused), tuple(blocked), tuple(held))


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
) -> list[Outcome]:
    """Bring a shard of a stage up to date; return one outcome an item, in the order of the items.

    Writes a manifest part for what was worked on, and quarantines what failed. Raises StageSick when the
    stage itself cannot work; what was finished by then stays and is recorded.
    """
    plan = plan_stage(stage, items, store, dataset)
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

    try:
        executor.run(stage, plan.todo, finished, policy)
    finally:
        if made:
            by_name = {item.name: item for item in plan.todo}
            rows = [_row(stage, by_name[outcome.item], outcome, run_id) for outcome in made]
            write_part(store.root, dataset, stage.name, run_id, shard, rows)
    failed = {outcome.key: outcome for outcome in made if not outcome.usable}
    remembered = read_manifest(store.root, dataset, stage.name) if plan.reused else {}
    for item in plan.reused:
        if twin := failed.get(item.key):  # another item of the same key, tried in this very run
            settle(_outcome(stage, item, twin.status, twin.error_type, twin.error))
        else:
            metrics = remembered.get(item.key, {}).get("metrics") or {}
            settle(replace(_outcome(stage, item, "reused"), metrics=metrics))
    return [settled[item.name] for item in items]


def _outcome(stage: Stage, item: Item, status: Status, error_type: str = "", error: str = "") -> Outcome:
    return Outcome(item.name, item.clip_id, item.key, stage.name, status, error_type, error, attempts=0)


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
