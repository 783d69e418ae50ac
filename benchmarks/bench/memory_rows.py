"""Rows of the benchmark of memory: measured under a limit, within a time, stored as they come."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.tables import Cell
from recapture.models.wan.footprint import GIB, ClipSize

CONTEXT = GIB // 2  # of CUDA, beside what torch reserves


@dataclass
class Bench:
    """Where rows are measured, and those that were."""

    device: torch.device
    clip: ClipSize
    passes: int
    seconds: float
    out: Path | None
    begun: float = field(default_factory=time.monotonic)
    rows: list[list[Cell]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def has_time(self, row: str, seconds: float) -> bool:
        """Return whether a row of so many seconds can still be measured; else name it as left out."""
        if time.monotonic() - self.begun + seconds <= self.seconds:
            return True
        self.left_out.append(row)
        return False

    def add(self, *cells: Cell) -> None:
        """Print and store a row."""
        self.rows.append(list(cells))
        print(f"{time.monotonic() - self.begun:5.0f} s", *cells, sep=" | ", flush=True)
        if self.out is not None:
            self.out.write_text(json.dumps({"rows": self.rows, "left_out": self.left_out}, indent=1))

    @contextmanager
    def limited(self, gib: float | None) -> Iterator[None]:
        """Limit this process to so many GiB with the context; None: the whole GPU."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(self.device).total_memory
            share = 1.0 if gib is None else (gib * GIB - CONTEXT) / total
            torch.cuda.set_per_process_memory_fraction(min(1.0, share))
            torch.cuda.reset_peak_memory_stats()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.set_per_process_memory_fraction(1.0)

    def peak(self) -> float:
        """Return the peak of reserved memory in GiB since the limit was set."""
        return torch.cuda.max_memory_reserved() / GIB if self.device.type == "cuda" else 0.0

    def timed(self, work: Callable[[], Any], *, first: int = 2) -> tuple[float, Any]:
        """Return the median seconds of a call after `first` calls, and its last result."""
        times, result = [], None
        for _ in range(first + self.passes):
            self.wait()
            begun = time.perf_counter()
            result = work()
            self.wait()
            times.append(time.perf_counter() - begun)
        return median(times[first:]), result

    def wait(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
