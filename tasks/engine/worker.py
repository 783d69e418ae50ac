"""The work on one item, wherever it runs: open the parents, run the stage, commit, return the outcome."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Collection
from typing import Any

from recapture.conf.errors import UserError
from recapture.conf.heartbeat import call, seconds_since_beat
from recapture.conf.redact import clean_logs, remember_credentials, without_credentials
from recapture.conf.turn import Turns, Withdrawn, counted_turns, withdraw
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactDamaged, ArtifactError
from recapture.datasets.store.outage import InputsAway, blame
from recapture.datasets.store.storage import UNREACHABLE, StoreFailed
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.faults import DEVICE_LOST, OUT_OF_MEMORY, WITHDRAWN, error_type
from recapture.tasks.engine.gpu_share import hint, limit_memory
from recapture.tasks.engine.part import work_on_part
from recapture.tasks.engine.room import Room
from recapture.tasks.engine.stage import (
    InParts,
    InputChanged,
    Item,
    Outcome,
    PlannedStage,
    Resources,
    Stage,
    parent_stage,
)
from recapture.tasks.engine.threads import announce_threads, limit_threads, thread_count

TRACEBACK_CHARACTERS = 4000


def work(stage: Stage, item: Item, store: ArtifactStore, attempt: int, inputs_root: str = "") -> Outcome:
    """Make one item's artifact; return any error as an outcome, never raise it.

    inputs_root: the dataset's URI, to tell an outage of its storage from a bad clip; "": unknown.
    """
    started = time.monotonic()
    with counted_turns() as turns:
        found = _worked(stage, item, store, inputs_root, turns)
        return Outcome(
            item=item.name,
            clip_id=item.clip_id,
            key=item.key,
            stage=stage.name,
            attempts=attempt,
            seconds=time.monotonic() - started,
            gpu_seconds=turns.seconds if stage.resources.gpus > 0 else 0.0,
            **found,
        )


def _worked(stage: Stage, item: Item, store: ArtifactStore, inputs_root: str, turns: Turns) -> dict[str, Any]:
    """Return what became of an item, as fields of its outcome."""
    try:
        inputs = open_inputs(stage, item, store)
        with store.create(stage.name, item.key) as output:
            metrics = stage.run(item, inputs, output)
            check_unchanged(stage, item)
            output.metrics = dict(metrics)
        made = {"bytes": output.total_bytes, "metrics": dict(metrics)}
        return {"status": "ok", **made, **_device_use(turns)}
    except Withdrawn:
        return {"status": "error", "error_type": WITHDRAWN}
    except Exception as raised:
        error = _changed(stage, item, raised)
        remember_credentials(repr(item.params), repr(stage), inputs_root, store.root)
        kind, message = error_type(error), str(error) or type(error).__name__
        trace = traceback.format_exc()
        if isinstance(error, ArtifactDamaged):
            message = _remove_damaged(store, error)
        if kind == OUT_OF_MEMORY:
            message = message.rstrip(".") + hint(stage.name, stage.resources.gpus)
            _free_memory(error)
        to_blame, uri = blame(error, getattr(item.params, "files", ()), (inputs_root, *stage.places))
        if to_blame == "storage":
            kind, message = InputsAway.__name__, f"{uri} cannot be read, and nothing beside it can: {message}"
            message = f"{message.rstrip('.')}; {UNREACHABLE}"
        return {
            "status": "error",
            "error_type": kind,
            "error": without_credentials(message),
            "traceback": without_credentials(trace)[-TRACEBACK_CHARACTERS:],
            "retriable": to_blame == "passing",
            **({} if kind == DEVICE_LOST else _device_use(turns)),
        }


def check_unchanged(stage: Stage, item: Item) -> None:
    """Raise InputChanged if a file that an item is made from is not what the plan has hashed.

    Called before the commit: what was made from a file that was replaced meanwhile must not get the key of
    the other one.
    """
    stage.check_inputs(item.params)
    if not (item.planned and isinstance(stage, PlannedStage)):
        return
    if stage.key_of(item.params, item.inputs) != item.key:
        named = ", ".join([*stage.places, *getattr(item.params, "files", ())[1:]])
        raise InputChanged(
            f"{item.name}: a model or file that stage {stage.name!r} reads{f' ({named})' if named else ''}"
        )


def _changed(stage: Stage, item: Item, error: Exception) -> Exception:
    """Return InputChanged in place of an error that a replaced file may have caused, else the error."""
    if isinstance(error, InputChanged | ArtifactError | StoreFailed | MemoryError):
        return error
    try:
        stage.check_inputs(item.params)
    except InputChanged as changed:
        return changed
    except Exception:
        return error  # the file is gone: the error says so
    return error


def open_inputs(stage: Stage, item: Item, store: ArtifactStore) -> dict[str, Artifact]:
    """Return the artifacts that an item is made from, under the names that its stage reads.

    Raises ArtifactError if one is missing or damaged.
    """
    inputs = {name: store.open(parent_stage(name), key) for name, key in item.inputs.items()}
    return inputs | {name: inputs[parent] for name, parent in stage.reads.items() if parent in inputs}


class Worker:
    """A process that hosts stages and keeps what their `setup` has loaded.

    Its methods are called from several threads: two items of a stage with two `slots` are worked on at once.
    """

    def __init__(self, store_root: str, resources: Resources, inputs_root: str = "") -> None:
        clean_logs()
        remember_credentials(store_root, inputs_root)
        self._inputs_root = inputs_root
        self._threads = thread_count(resources)
        announce_threads(self._threads)
        if resources.gpus <= 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a CPU stage must not open a context on GPU 0
        self._store = ArtifactStore(store_root)
        self._stages: dict[str, Stage] = {}
        self._room = Room()

    def load(self, stage: Stage, keep: Collection[str] = ()) -> str:
        """Set a stage up; return the reason if that fails, else an empty string.

        keep: names of the loaded stages that stay; others are forgotten first, and with them their models.
        """
        limit_threads(self._threads)
        self._stages = {name: one for name, one in self._stages.items() if name in keep}
        limit_memory(stage.resources.gpus)
        with call(loading(stage.name)):
            try:
                stage.setup()
            except Exception as error:
                return reason(error)
        self._stages[stage.name] = stage
        return ""

    def still_has(self, stage_name: str) -> str:
        """Return an empty string if a stage is loaded, as `load` does."""
        return "" if stage_name in self._stages else f"stage {stage_name!r} is not loaded"

    def run(self, stage_name: str, item: Item, attempt: int) -> Outcome:
        """Work on one item with a loaded stage.

        If memory does not suffice for it and another item beside it, it is worked on once more, alone: this
        is part of the same attempt.
        """
        stage = self._stages[stage_name]
        limit_threads(self._threads)  # torch counts per thread
        with call(working(stage_name, item.name)):
            with self._room.shared() as others:
                outcome = work(stage, item, self._store, attempt, self._inputs_root)
            if outcome.error_type != OUT_OF_MEMORY or not others.came:
                return outcome
            with self._room.alone():
                return work(stage, item, self._store, attempt, self._inputs_root)

    def help(self, stage_name: str, item: Item, skip: int) -> Outcome | None:
        """Make one part of an item that another worker works on, from the last one on backwards.

        skip: how many parts others were asked for before. Return what became of the part, None if there is
        none left: the item has no parts, or all others are made or being made.
        """
        stage = self._stages[stage_name]
        if not isinstance(stage, InParts):
            return None
        limit_threads(self._threads)
        with call(helping(stage_name, item.name)), self._room.shared():
            return work_on_part(stage, item, lambda: open_inputs(stage, item, self._store), self._store, skip)

    def withdraw(self, stage_name: str, item_name: str) -> bool:
        """Give an item up before its first turn on the device; return False if it has had one."""
        return withdraw(working(stage_name, item_name))

    def silence(self, name: str | None = None) -> float:
        """Return the seconds since a call's last progress, see `loading`, `working`, `helping`; None: any."""
        return seconds_since_beat(name)


def loading(stage: str) -> str:
    """Return the name of the call that loads a stage."""
    return f"load {stage}"


def working(stage: str, item: str) -> str:
    """Return the name of the call that works on an item."""
    return f"run {stage} {item}"


def helping(stage: str, item: str) -> str:
    """Return the name of the call that helps with an item."""
    return f"help {stage} {item}"


def reason(error: BaseException) -> str:
    """Return the failure reason: user errors verbatim, other exceptions prefixed with their type."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return without_credentials(text)


def _device_use(turns: Turns) -> dict[str, Any]:
    """Return the device and its peak memory: in the item's turns, or since the last item if it took none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"device": platform.machine()}
    device = torch.cuda.get_device_name()
    if turns.taken:
        return {"device": device, "vram_peak_mb": turns.peak_mb}
    peak = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return {"device": device, "vram_peak_mb": peak}


def _free_memory(error: Exception) -> None:
    import torch

    traceback.clear_frames(error.__traceback__)  # they hold the tensors
    torch.cuda.empty_cache()


def _remove_damaged(store: ArtifactStore, damaged: ArtifactDamaged) -> str:
    """Remove a damaged parent, unless a second read finds it whole; return the error message."""
    try:
        if _is_whole(store, damaged.stage, damaged.key):
            return f"{damaged}; it was whole when read again"
        store.delete(damaged.stage, damaged.key)
    except OSError as error:
        return f"{damaged}; it cannot be removed here: {error}"
    return f"{str(damaged).partition('; delete')[0]}; it was removed: rerun the job to make it again"


def _is_whole(store: ArtifactStore, stage: str, key: str) -> bool:
    try:
        artifact = store.open(stage, key)
        for name in artifact.names():
            artifact.read_bytes(name)
    except ArtifactError:
        return False
    return True
