"""The work on one item, the same wherever it runs: open the parents, run the stage, commit, report."""

from __future__ import annotations

import os
import platform
import time
import traceback
from typing import Any

from recapture.datasets.store import Artifact, ArtifactStore
from recapture.tasks.stage import Item, Outcome, Stage

TRACEBACK_CHARACTERS = 4000


def work(stage: Stage, item: Item, store: ArtifactStore, attempt: int) -> Outcome:
    """Make one item's artifact; whatever goes wrong comes back as an outcome, never as an exception."""
    started = time.monotonic()
    common: dict[str, Any] = {
        "item": item.name,
        "clip_id": item.clip_id,
        "key": item.key,
        "stage": stage.name,
        "attempts": attempt,
    }
    try:
        inputs: dict[str, Artifact] = {parent: store.open(parent, key) for parent, key in item.inputs.items()}
        with store.create(stage.name, item.key) as output:
            metrics = stage.run(item, inputs, output)
        return Outcome(
            **common,
            status="ok",
            seconds=time.monotonic() - started,
            bytes=output.total_bytes,
            metrics=dict(metrics),
            **_device_use(),
        )
    except Exception as error:
        _free_memory(error)
        return Outcome(
            **common,
            status="error",
            error_type=type(error).__name__,
            error=str(error) or type(error).__name__,
            traceback=traceback.format_exc()[-TRACEBACK_CHARACTERS:],
            seconds=time.monotonic() - started,
            **_device_use(),
        )


class Worker:
    """A process that hosts one stage at a time and keeps what its `setup` has loaded."""

    def __init__(self, store_root: str, cpus: float, gpus: float) -> None:
        threads = str(max(1, int(cpus)))
        os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        if gpus <= 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a CPU stage must not open a context on GPU 0
        self._threads = int(threads)
        self._store = ArtifactStore(store_root)
        self._stage: Stage | None = None

    def load(self, stage: Stage) -> str:
        """Set the stage up; return what went wrong, or nothing."""
        import cv2
        import torch

        torch.set_num_threads(self._threads)
        cv2.setNumThreads(self._threads)
        self._stage = None
        try:
            stage.setup()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        self._stage = stage
        return ""

    def run(self, item: Item, attempt: int) -> Outcome:
        """Work on one item with the loaded stage."""
        assert self._stage is not None
        return work(self._stage, item, self._store, attempt)


def _device_use() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"device": platform.machine()}
    peak = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return {"device": torch.cuda.get_device_name(), "vram_peak_mb": peak}


def _free_memory(error: Exception) -> None:
    if type(error).__name__ == "OutOfMemoryError":
        import torch

        torch.cuda.empty_cache()
