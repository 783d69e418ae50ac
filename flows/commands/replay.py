"""`recapture replay`: run one item's stage again in this process, with its full traceback if it fails."""

from __future__ import annotations

import sys
import tempfile
import traceback
from uuid import uuid4

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.jobs import surveyed
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.engine.worker import open_inputs


def replay(config: RecaptureConfig, clip: str, stage: str, kind: str = "recapture") -> int:
    """Run a stage on the one item that `clip` names (CLIP or CLIP@TRAJECTORY); return the exit code.

    If it fails, the full traceback is printed and the store is not changed. If it succeeds, the artifact is
    stored and the item leaves quarantine; an artifact that exists already is kept, and compared with it.
    Raises UserError if no item matches, or several, or a parent is missing.
    """
    chosen, item = _find(config, clip, stage, kind)
    store = ArtifactStore(config.store)
    try:
        inputs = open_inputs(chosen, item, store)
    except ArtifactError as error:
        raise UserError(f"{item.name} cannot be replayed: {error}") from None
    with tempfile.TemporaryDirectory(prefix="recapture-replay-") as scratch:
        attempt = ArtifactStore(scratch)
        try:
            with limited_threads(chosen.resources), attempt.create(stage, item.key) as output:
                chosen.setup()
                output.metrics = dict(chosen.run(item, inputs, output))
        except Exception:
            print(without_credentials(traceback.format_exc()), file=sys.stderr)
            return 1
        made = attempt.open(stage, item.key)
        print(f"{item.name} at {stage}: made {', '.join(made.names())}, {made.total_bytes} bytes")
        for name, value in made.metrics.items():
            print(f"    {name}: {value:g}")
        if store.exists(stage, item.key):
            print(_compared(store.open(stage, item.key), made))
        else:
            _commit(config, chosen, item, store, made)
    return 0


def _find(config: RecaptureConfig, clip: str, stage: str, kind: str) -> tuple[PlannedStage, Item]:
    plans = [one.plan for one in surveyed(config, kind)[1]]
    items = [(plan.stage, item) for plan in plans for item in plan.items if plan.stage.name == stage]
    if not items:
        known = dict.fromkeys(plan.stage.name for plan in plans)
        raise UserError(f"no stage is called {stage!r}; choose one of {', '.join(known)}")
    meant = [(its, item) for its, item in items if clip in (item.name, item.clip_id)]
    if len(meant) != 1:
        names = [item.name for _, item in meant or items]
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        problem = f"{clip!r} matches {len(meant)} items" if meant else f"no item is called {clip!r}"
        raise UserError(f"{problem} in stage {stage!r}; choose one of {shown}")
    return meant[0]


def _compared(committed: Artifact, made: Artifact) -> str:
    names = sorted({*committed.names(), *made.names()})
    differ = [name for name in names if not _same(committed, made, name)]
    if not differ:
        return "the committed artifact has the same bytes"
    return (
        f"the committed artifact differs in {', '.join(differ)} and is kept; if a change of the code "
        "made the difference, increment the stage's version"
    )


def _same(committed: Artifact, made: Artifact, name: str) -> bool:
    try:
        return committed.read_bytes(name) == made.read_bytes(name)
    except ArtifactError:
        return False


def _commit(
    config: RecaptureConfig, stage: PlannedStage, item: Item, store: ArtifactStore, made: Artifact
) -> None:
    with store.create(stage.name, item.key) as output:
        for name in made.names():
            output.write_bytes(name, made.read_bytes(name))
        output.meta.update(made.meta)
        output.metrics.update(made.metrics)
    quarantine = Quarantine(config.store, config.dataset.name)
    for entry in quarantine.held(stage.name, [item.key]).values():
        quarantine.retry(entry)
    with InlineExecutor(config.store) as executor:  # finds the artifact, and adds it to the manifest
        run_stage(stage, [item], RunContext(store, executor, config.dataset.name, uuid4().hex[:12]))
    print("it is stored and out of quarantine; `recapture run` continues from here")
