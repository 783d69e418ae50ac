"""The tables of real_job.md, made from the figures that runs have stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.job_report import efficiency
from bench.tables import Cell, Column, Table, publish
from bench.tables import Run as Origin


def write_tables(paths: Sequence[Path], write: str | None) -> None:
    """Print the tables of some runs, sorted by the number of GPUs; `write`: the beginning of their names."""
    runs = sorted((json.loads(path.read_text()) for path in paths), key=lambda run: run["gpus"])
    name = write or "real_job"
    publish([jobs_table(f"{name}-gpus", runs), stages_table(f"{name}-stages", runs)], write=write is not None)


def jobs_table(name: str, runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row per run: how long it took, and how busy its GPUs were."""
    columns = [Column("GPUs", "d"), Column("clips delivered"), Column("whole job, s", ".0f")]
    columns += [Column("first video after, s", ".0f"), Column("cold start, s", ".0f")]
    columns += [Column("bare fill, s", ".1f"), Column("GPU seconds per clip", ".1f")]
    columns += [Column("added", "+.1%"), Column("efficiency", ".3f"), Column("busy, turns", ".3f")]
    columns += [Column("busy, nvidia-smi", ".3f"), Column("busy, whole job", ".3f")]
    columns += [Column("peak, GiB", ".1f")]
    rows: list[list[Cell]] = []
    for run, share in zip(runs, efficiency(runs)):
        peak, bare = run["memory_peak_mib"], run.get("bare")
        rows.append(
            [
                run["gpus"],
                f"{run['delivered']} of {run['clips']}",
                run["wall"],
                run["first_delivered"],
                run["cold_start"],
                bare,
                run["per_clip"],
                run["per_clip"] / bare - 1 if bare and run["per_clip"] else None,
                share,
                run["busy_events"],
                run["busy_smi"],
                run["busy_smi_all"],
                None if peak is None else peak / 1024,
            ]
        )
    return Table(name, _title(runs), columns, rows, _origin(runs))


def stages_table(name: str, runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row per run and stage."""
    columns = [Column("GPUs", "d"), Column("stage"), Column("items", "d"), Column("s, median", ".1f")]
    columns += [Column("s, mean", ".1f"), Column("s, largest", ".1f"), Column("of which GPU work", ".1f")]
    columns += [Column("MB", ".1f"), Column("peak, MB of GPU memory", ".0f"), Column("failed", "d")]
    names: tuple[str, ...] = ("items", "seconds_median", "seconds_mean", "seconds_max", "gpu_seconds")
    names += ("megabytes", "gpu_peak_mb", "failed")
    rows: list[list[Cell]] = [
        [run["gpus"], stage, *(figures[one] for one in names)]
        for run in runs
        for stage, figures in run["stages"].items()
    ]
    return Table(name, f"Per item. {_title(runs)}", columns, rows, _origin(runs))


def _title(runs: Sequence[Mapping[str, Any]]) -> str:
    one = runs[0]
    size = f"{one['frames']}x{one['height']}x{one['width']}"
    clips = "/".join(dict.fromkeys(str(run["clips"]) for run in runs))
    steps = "/".join(dict.fromkeys(str(run["steps"]) for run in runs))
    return f"{clips} clips of {size}, {one['size']}, {steps} steps"


def _origin(runs: Sequence[Mapping[str, Any]]) -> Origin:
    commands = " ; ".join(dict.fromkeys(run["command"] for run in runs))
    machines = "; ".join(dict.fromkeys(run["machine"] for run in runs))
    dates = ", ".join(dict.fromkeys(run["date"] for run in runs))
    commit = ", ".join(dict.fromkeys(str(run["commit"]) for run in runs if run["commit"]))
    return Origin(commands, machines, dates, commit or None)
