"""Plans: which items a stage has to provide, and under which content keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TypeVar

from recapture.datasets.store.keys import content_keys
from recapture.tasks.engine.model_revision import models_looked_at_once
from recapture.tasks.engine.stage import Item, Outcome, Params, PlannedStage

P = TypeVar("P", bound=Params)


@dataclass
class StagePlan:
    """One stage and the items that it has to provide.

    If the plan is awaited, whoever carries it out appends the outcomes, one per item in any order, before it
    asks for the next plan; otherwise it may do so at any later time.
    """

    stage: PlannedStage
    items: tuple[Item, ...]
    title: str  # names the plan in logs and in Prefect
    notes: tuple[str, ...] = ()  # logged as warnings before it runs
    outcomes: list[Outcome] = field(default_factory=list)
    warnings: tuple[str, ...] = ()  # logged too, and repeated in the summary
    awaited: bool = False  # whether the next plan depends on its outcomes

    def shards(self, size: int) -> Iterator[tuple[Item, ...]]:
        """Cut the items into shards of at most `size`; keys do not depend on it."""
        for start in range(0, len(self.items), size):
            yield self.items[start : start + size]

    @property
    def usable(self) -> list[Item]:
        """Return the items whose artifacts exist, or are expected to."""
        made = {outcome.item for outcome in self.outcomes if outcome.usable}
        return [item for item in self.items if item.name in made]


@dataclass
class Track:
    """Plans that depend on no other track's, such as those of one shard of a dataset's clips."""

    number: int
    plans: Iterator[StagePlan]
    clip_by_clip: bool = True  # whether each item depends on those of its own clip only
    close: Callable[[], None] = lambda: None  # called when all plans have their outcomes


class Planner:
    """A planner of stage after stage. Keys contain the parents' keys: a change redoes what depends on it."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], str] = {}  # (stage, item) -> key

    def plan(self, stage: PlannedStage[P], params: Iterable[P], title: str = "") -> StagePlan:
        """Return the plan of a stage whose items do not follow each other."""
        items = self._items(stage, params, {})
        return StagePlan(stage, items, title or stage.name, warnings=tuple(stage.notes))

    def waves(self, stage: PlannedStage[P], params: Sequence[P]) -> Iterator[StagePlan]:
        """Yield the plans of a stage: one, or several if its items follow each other.

        Each is planned after the previous one has its outcomes. An item that could not be made is left out of
        the inputs of those that follow it, whose keys then differ from those of the complete ones.
        """
        follows = stage.follows(params)
        if not follows:
            yield self.plan(stage, params)
            return
        ranks = _ranks([one.name for one in params], follows)
        lost: set[str] = set()
        for rank in sorted(set(ranks.values())):
            wave = [one for one in params if ranks[one.name] == rank]
            names = {one.name: follows.get(one.name, ()) for one in wave}
            before = {item: [name for name in earlier if name not in lost] for item, earlier in names.items()}
            notes = tuple(
                f"{item}: stage {stage.name!r} runs without {', '.join(gone)}, which could not be made"
                for item, earlier in names.items()
                if (gone := [name for name in earlier if name in lost])
            )
            warnings = tuple(stage.notes) if rank == min(ranks.values()) else ()
            items, last = self._items(stage, wave, before), rank == max(ranks.values())
            plan = StagePlan(stage, items, stage.name, notes, warnings=warnings, awaited=not last)
            yield plan
            lost |= {outcome.item for outcome in plan.outcomes if not outcome.usable}

    def _items(
        self, stage: PlannedStage[P], params: Iterable[P], before: Mapping[str, Sequence[str]]
    ) -> tuple[Item[P], ...]:
        """Return items with inputs and keys; before: item name -> items of the same stage that it follows."""
        items, settings, key_of = [], None, None
        parents = tuple(dict.fromkeys(stage.reads.get(name, name) for name in stage.parents))
        with models_looked_at_once():
            for one in params:
                inputs = {
                    parent: self._parent_key(parent, names)
                    for parent in parents
                    if (names := one.sources(parent))
                }
                inputs |= self._besides(stage, one)
                if before:
                    inputs |= self._followed(stage.name, parents, before[one.name])
                if (own := stage.settings(one, inputs)) is not settings or key_of is None:
                    settings, key_of = own, content_keys(stage.name, stage.version, own)
                key = self._keys[stage.name, one.name] = key_of(inputs, stage.identity(one, inputs))
                items.append(Item(one.clip_id, one.name, key, inputs, one, planned=True))
        return tuple(items)

    def _parent_key(self, parent: str, names: Sequence[str]) -> str:
        for name in names:
            if (key := self._keys.get((parent, name))) is not None:
                return key
        raise KeyError(f"stage {parent!r} has no item called {' or '.join(names)}; plan it first")

    def _besides(self, stage: PlannedStage[P], one: P) -> dict[str, str]:
        """Return the inputs from stages that are read where they have an item."""
        found = (
            (parent, self._keys.get((parent, name))) for parent in stage.also for name in one.sources(parent)
        )
        return {parent: key for parent, key in found if key is not None}

    def _followed(self, stage: str, parents: Sequence[str], before: Sequence[str]) -> dict[str, str]:
        """Return the inputs from the items that an item follows, and from their own parents."""
        keys = self._keys
        return {
            f"{source}/{number}": keys[source, name]
            for number, name in enumerate(before)
            for source in (stage, *parents)
            if (source, name) in keys
        }


def _ranks(names: Sequence[str], follows: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return item -> number of its wave: 0 if it follows none, else one more than the highest it follows."""
    ranks: dict[str, int] = {}
    order = TopologicalSorter({name: follows.get(name, ()) for name in names}).static_order()
    for name in order:
        ranks[name] = max((ranks[earlier] + 1 for earlier in follows.get(name, ())), default=0)
    return ranks


def supposed(plans: Iterable[StagePlan]) -> list[StagePlan]:
    """Return all plans of a job as they are if every item can be made."""
    found = []
    for plan in plans:
        plan.outcomes += [expected(plan.stage, item) for item in plan.items]
        found.append(plan)
    return found


def expected(stage: PlannedStage, item: Item) -> Outcome:
    """Return the outcome of an item that is assumed to succeed."""
    return Outcome(item.name, item.clip_id, item.key, stage.name, "expected", attempts=0)
