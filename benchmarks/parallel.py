"""Jobs of a benchmark shared by processes, which share the GPUs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

Job, Result = TypeVar("Job"), TypeVar("Result")


def share(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, device: str = "cpu"
) -> Iterator[Result]:
    """Yield work(job) as they are finished; `device()` says where a job is to compute.

    work: a function at a module's top level. workers: 1 does the jobs here, in order. device: 'cpu', or
    'cuda' for all GPUs in turn.
    """
    if workers == 1:
        _start(device, multiprocessing.get_context("spawn").Value("i", 0))
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (device, context.Value("i", 0))) as pool:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()


def device() -> torch.device:
    """Return the device of this process."""
    return torch.device(os.environ.get("BENCHMARK_DEVICE", "cpu"))


def _start(device: str, counter: object) -> None:
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if device == "cuda":
        device = f"cuda:{number % torch.cuda.device_count()}"
    os.environ["BENCHMARK_DEVICE"] = device
    torch.set_num_threads(1)
