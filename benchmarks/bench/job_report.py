"""Figures of a finished or interrupted job: from its manifests, its commits, and samples of nvidia-smi."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

from recapture.datasets.store.manifest import read_manifest, stages

MIB = 2**20
ORDER = ("ingest", "depth", "mask", "render", "fill", "baselines", "measure", "deliver")


@dataclass(frozen=True)
class Sample:
    """One line of nvidia-smi."""

    moment: float  # seconds since 1970
    gpu: int
    busy: float  # share of the time since the previous sample with a kernel on the GPU
    memory: float  # MiB


def read_samples(paths: Iterable[Path]) -> list[Sample]:
    """Return the samples of all files that `real_job.sampled` has written.

    A line that was cut off when its writer was stopped is left out. GPUs of several files (one for each
    machine) are numbered on.
    """
    samples: list[Sample] = []
    first = 0
    for path in sorted(paths):
        found = [
            sample
            for line in csv.reader(path.read_text().splitlines(), skipinitialspace=True)
            if (sample := _sample(line, first))
        ]
        samples += found
        first = max((sample.gpu + 1 for sample in found), default=first)
    return samples


def _sample(line: Sequence[str], first: int) -> Sample | None:
    try:
        moment, gpu, busy, memory = line
        then = datetime.strptime(moment, "%Y/%m/%d %H:%M:%S.%f").timestamp()
        return Sample(then, first + int(gpu), float(busy) / 100, float(memory))
    except ValueError:
        return None


def busy_share(samples: Iterable[Sample], start: float, end: float) -> float | None:
    """Return the mean share of the time from start to end that the GPUs were busy; None without samples."""
    inside = [sample.busy for sample in samples if start <= sample.moment <= end]
    return mean(inside) if inside else None


def commits(store: Path, stage: str) -> dict[str, float]:
    """Return key -> the moment at which an artifact was committed, in seconds since 1970."""
    found = (store / "objects" / stage).glob("*/*/meta.json")
    return {path.parent.name: path.stat().st_mtime for path in found}


def stage_figures(store: Path, dataset: str) -> dict[str, dict[str, float | None]]:
    """Return stage -> figures of the items that were made: count, seconds, bytes, memory, GPU seconds."""
    figures = {}
    present = stages(str(store), dataset)
    for stage in (name for name in ORDER if name in present):
        every = read_manifest(str(store), dataset, stage).values()
        rows = [row for row in every if row["status"] == "ok"]
        if not rows:
            continue
        spent = [float(row["gpu_seconds"]) for row in rows if row.get("gpu_seconds") is not None]
        seconds = [row["seconds"] for row in rows]
        figures[stage] = {
            "items": len(rows),
            "seconds_mean": mean(seconds),
            "seconds_median": median(seconds),
            "seconds_max": max(seconds),
            "megabytes": mean(row["bytes"] for row in rows) / 1e6,
            "gpu_peak_mb": max(row["vram_peak_mb"] or 0.0 for row in rows),
            "gpu_seconds": mean(spent) if spent else None,
            "failed": sum(
                row["status"] != "ok" for row in read_manifest(str(store), dataset, stage).values()
            ),
        }
    return figures


@dataclass(frozen=True)
class Filling:
    """The fills of a job in time; moments are seconds since 1970, sorted."""

    moments: Sequence[float]
    seconds: Sequence[float]  # of each item, in the same order
    gpu_seconds: Sequence[float] | None

    @classmethod
    def of(cls, store: Path, dataset: str) -> Filling:
        """Read it from a store; items without a manifest row (an interrupted job's last) have no seconds."""
        ended = commits(store, "fill")
        rows = read_manifest(str(store), dataset, "fill") if "fill" in stages(str(store), dataset) else {}
        ordered = sorted(ended, key=lambda key: ended[key])
        named = [rows[key] for key in ordered if key in rows]
        spent = [float(row["gpu_seconds"]) for row in named if row.get("gpu_seconds") is not None]
        return cls(
            [ended[key] for key in ordered],
            [row["seconds"] for row in named],
            spent if named and len(spent) == len(named) else None,
        )

    def warm(self, gpus: int) -> tuple[float, float] | None:
        """Return start and end of the time in which every GPU works: from the `gpus`-th fill to the last.

        None if there are too few fills to tell.
        """
        return (self.moments[gpus - 1], self.moments[-1]) if len(self.moments) > gpus else None


def job_figures(
    store: Path, dataset: str, samples: Sequence[Sample], *, gpus: int, started: float, ended: float
) -> dict[str, Any]:
    """Return the figures of a whole job; None where something was not measured.

    per_clip: seconds between two fills while all GPUs work, times the GPUs. cold_start: seconds from the
    job's start to its first fill, less per_clip: processes, loading, compilation, the first clip's other
    stages. busy: shares of the time in which all GPUs work, from nvidia-smi, and from the items' turns.
    """
    filling, delivered = Filling.of(store, dataset), sorted(commits(store, "deliver").values())
    warm = filling.warm(gpus)
    figures: dict[str, Any] = {
        "gpus": gpus,
        "wall": ended - started,
        "filled": len(filling.moments),
        "delivered": len(delivered),
        "first_delivered": delivered[0] - started if delivered else None,
        "busy_smi_all": busy_share(samples, started, ended),
        "memory_peak_mib": max((sample.memory for sample in samples), default=None),
        "cold_start": None,
        "per_clip": None,
        "busy_smi": None,
        "busy_events": None,
        "stages": stage_figures(store, dataset),
    }
    if warm:
        span, count = warm[1] - warm[0], len(filling.moments) - gpus
        figures["per_clip"] = span * gpus / count
        figures["cold_start"] = filling.moments[0] - started - figures["per_clip"]
        figures["busy_smi"] = busy_share(samples, *warm)
        if filling.gpu_seconds:
            figures["busy_events"] = sum(filling.gpu_seconds[gpus:]) / (span * gpus)
    return figures


def efficiency(runs: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Return for each run the GPU seconds per clip of the run on the fewest GPUs over its own."""
    known = [run for run in runs if run["per_clip"]]
    fewest = min(known, key=lambda run: run["gpus"], default=None)
    return [fewest["per_clip"] / run["per_clip"] if fewest and run["per_clip"] else None for run in runs]
