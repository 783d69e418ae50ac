"""The work on one part of an item, as a help for the worker that works on the item."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from recapture.conf.redact import without_credentials
from recapture.conf.turn import counted_turns
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.parts import Parts
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.faults import error_type
from recapture.tasks.engine.stage import InParts, Item, Outcome, Stage


def work_on_part(
    stage: Stage, item: Item, inputs: Callable[[], Mapping[str, Artifact]], store: ArtifactStore, skip: int
) -> Outcome | None:
    """Make the part of an item before the last `skip` ones; return None if there is nothing left to do.

    inputs: opens the item's parents. Errors are returned as an outcome: the worker of the item meets them
    itself, if they are the item's.
    """
    assert isinstance(stage, InParts)
    started = time.monotonic()
    found: dict[str, Any] = {"status": "ok"}
    with counted_turns() as turns:
        try:
            if not _make(stage, item, inputs(), store, skip):
                return None
        except Exception as error:
            kind, message = error_type(error), without_credentials(str(error))
            found = {"status": "error", "error_type": kind, "error": message}
        return Outcome(
            item=item.name,
            clip_id=item.clip_id,
            key=item.key,
            stage=stage.name,
            seconds=time.monotonic() - started,
            gpu_seconds=turns.seconds if stage.resources.gpus > 0 else 0.0,
            **found,
        )


def _make(
    stage: InParts[Any], item: Item, inputs: Mapping[str, Artifact], store: ArtifactStore, skip: int
) -> bool:
    """Make the part, unless it is made already; return whether another one may be left."""
    names = list(stage.parts(item, inputs))
    parts = Parts(store, stage.name, item.key)
    missing = parts.missing(names[: len(names) - skip])
    if len(missing) < 2:  # the item's own worker goes forwards, and is at the first of them
        return False
    name = names[-1 - skip]
    if name in missing:
        with parts.create(name) as output:
            stage.run_part(item, inputs, name, output)
        if store.exists(stage.name, item.key):  # the item's worker was faster
            parts.discard(name)
    return True
