"""Share the jobs of a benchmark among processes, and these among the GPUs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import torch

Job = TypeVar("Job")
Result = TypeVar("Result")


def share(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, device: str = "cpu"
) -> Iterator[Result]:
    """Yield work(job) in the order of completion; `device()` tells a job where to compute.

    work: a function at the top level of a module. workers: 1 runs the jobs in this process, in order.
    device: 'cpu', or 'cuda' for all GPUs in turn.
    """
    context = multiprocessing.get_context("spawn")
    if workers == 1:
        _start(device, context.Value("i", 0))
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, context, _start, (device, context.Value("i", 0))) as pool:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()


def device() -> torch.device:
    """Return the device of this process."""
    return torch.device(os.environ.get("BENCHMARK_DEVICE", "cpu"))


def _start(device: str, counter: Any) -> None:
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if device == "cuda":
        device = f"cuda:{number % torch.cuda.device_count()}"
    os.environ["BENCHMARK_DEVICE"] = device
    torch.set_num_threads(1)
