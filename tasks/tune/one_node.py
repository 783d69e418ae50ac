"""One training shared by several processes of one node: each takes its rows of every batch.

One node would be a special case of the gang in many_nodes.py, but works without Ray.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed

from recapture.conf.heartbeat import beat, seconds_since_beat
from recapture.models.training.parallel import mean_over_workers
from recapture.tasks.engine.stage import Item
from recapture.tasks.engine.threads import set_threads, thread_count
from recapture.tasks.tune.train_adapter import Trained, TrainsAdapters

RELAY_SECONDS = 2.0  # between two looks at the progress of the processes


def train_together(stage: TrainsAdapters, item: Item, workers: int) -> Trained:
    """Train an item's adapter in `workers` processes, each with its own GPU if the stage has GPUs.

    The result is that of one process, up to rounding. Raises the error of any process; ValueError for fewer
    GPUs than processes.
    """
    gpus = torch.cuda.device_count() if stage.resources.gpus > 0 else workers
    if gpus < workers:
        raise ValueError(
            f"tuning: tune.workers is {workers}, but the stage has {gpus} GPUs; "
            f"set execution.resources.tune.gpus to {workers}, or fewer workers"
        )
    light = replace(stage)  # without the models that a setup has loaded
    with (
        tempfile.TemporaryDirectory(prefix="recapture-") as folder,
        ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        shares = [pool.submit(_share, light, item, rank, workers, folder) for rank in range(workers)]
        _pass_on_progress(shares, Path(folder))
        errors = [error for share in shares if (error := share.exception()) is not None]
        if errors:
            raise min(errors, key=is_consequence)
        return shares[0].result()


def _pass_on_progress(shares: Sequence[Future[Trained]], folder: Path) -> None:
    """Wait for the processes; beat when one of them has."""
    waiting, seen = set(shares), 0.0
    while waiting:
        waiting = wait(waiting, timeout=RELAY_SECONDS).not_done
        latest = max((file.stat().st_mtime for file in folder.glob("beat-*")), default=0.0)
        if latest > seen:
            seen = latest
            beat()


def _tell_progress(file: Path) -> None:
    """Touch a file whenever this process has made progress since the last time."""
    while True:
        if seconds_since_beat() < RELAY_SECONDS:
            with suppress(OSError):  # the folder is gone: the training has ended
                file.touch()
        time.sleep(RELAY_SECONDS / 2)


def _share(stage: TrainsAdapters, item: Item, rank: int, workers: int, folder: str) -> Trained:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    progress = Path(folder) / f"beat-{rank}"
    threading.Thread(target=_tell_progress, args=(progress,), daemon=True).start()
    set_threads(max(1, thread_count(stage.resources) // workers))
    on_gpu = stage.resources.gpus > 0
    if on_gpu:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers
    )
    try:
        stage.load()
        return stage.train(item, (rank, workers), mean_over_workers)
    finally:
        torch.distributed.destroy_process_group()  # the processes that wait for this one then fail at once


def is_consequence(error: BaseException) -> bool:
    """Return whether an error may only be the consequence of another process's failure."""
    return type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)


def _end_with_parent() -> None:
    """End this process when the worker is killed: no orphan trains on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
