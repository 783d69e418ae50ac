"""What a run of a job's plans would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import StagePlan, expected
from recapture.tasks.engine.run_stage import Todo, sort_items
from recapture.tasks.engine.stage import Item


@dataclass(frozen=True)
class Surveyed:
    """One plan of a job as a run would find it."""

    plan: StagePlan
    todo: Todo
    new: tuple[Item, ...]  # would be made
    blocked: tuple[Item, ...]  # would not be made: a parent is held back


def survey(plans: Iterable[StagePlan], store: ArtifactStore, dataset: str) -> Iterator[Surveyed]:
    """Yield each plan with what a run would do if everything succeeds that is not held back today.

    The plans get outcomes accordingly, so that later plans are those of such a run: with the metrics of
    existing artifacts, and without what is quarantined or depends on it.
    """
    never: set[str] = set()  # keys that a run would not make
    for plan in plans:
        todo = sort_items(plan.stage, plan.items, store, dataset, expected=True)
        new = tuple(item for item in todo.todo if never.isdisjoint(item.inputs.values()))
        blocked = tuple(item for item in todo.todo if not never.isdisjoint(item.inputs.values()))
        never.update(item.key for item in blocked)
        never.update(item.key for item, _ in todo.quarantined)
        for item in plan.items:
            outcome = expected(plan.stage, item)
            if item.key in todo.committed:
                outcome = replace(outcome, status="reused", metrics=todo.committed[item.key].metrics)
            elif item.key in never:
                outcome = replace(outcome, status="blocked")
            plan.outcomes.append(outcome)
        yield Surveyed(plan, todo, new, blocked)
