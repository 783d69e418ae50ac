"""What amounts of auto come to, before anything is rendered or filled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from recapture.conf.presets import AUTO
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.item_path import item_path
from recapture.tasks.engine.stage import Item
from recapture.tasks.engine.survey import Surveyed
from recapture.tasks.engine.worker import open_inputs
from recapture.tasks.jobs.render import RenderStage, surface_settings

MOST_FOUND = 24  # items whose amount is searched for a plan; each takes seconds


@dataclass(frozen=True)
class Amount:
    """The amount of one item; None where it is not known yet, with the reason."""

    item: str
    amount: float | None
    hole_share: float | None = None
    stretch: float | None = None
    why: str = ""


def amounts(plans: Iterable[Surveyed], store: ArtifactStore) -> Iterator[Amount]:
    """Yield the amounts of a job's items whose trajectory asks for auto.

    From the render where it exists, else from depth where that exists: the same number, found by the same
    search. Only the first MOST_FOUND are searched.
    """
    searched = 0
    for one in plans:
        stage = one.plan.stage
        if not isinstance(stage, RenderStage):
            continue
        for item in one.plan.items:
            if item.params.path.amount != AUTO:
                continue
            if (made := one.todo.committed.get(item.key)) is not None:
                yield _known(item, made.metrics)
            elif searched < MOST_FOUND:
                found = _found(item, stage, store)
                searched += found.amount is not None
                yield found
            else:
                yield Amount(item.name, None, why="not searched: preview the job to have all of them")


def _known(item: Item, metrics: Mapping[str, float]) -> Amount:
    return Amount(item.name, metrics["amount"], metrics["amount_hole_share"], metrics["amount_stretch"])


def _found(item: Item, stage: RenderStage, store: ArtifactStore) -> Amount:
    """Search an item's amount, if what it depends on exists."""
    try:
        inputs = open_inputs(stage, item, store)
    except ArtifactError:
        return Amount(item.name, None, why="known once the clip's depth is; preview the job")
    try:
        return _known(item, item_path(item.params, inputs, surface_settings(stage.config)).metrics)
    except ValueError as error:
        return Amount(item.name, None, why=str(error))
