"""`recapture plan`: what a job would do, and its expected time, estimated from past items."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recapture.conf.redact import without_credentials
from recapture.conf.schema import ExecutionConfig, RecaptureConfig
from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.memory import check_memory
from recapture.flows.eta import duration
from recapture.flows.jobs import AnyJob, surveyed
from recapture.tasks.engine.stage import Resources
from recapture.tasks.engine.survey import Surveyed
from recapture.tasks.jobs.amounts import amounts

SHOWN_REJECTED = 20


@dataclass(frozen=True)
class StageForecast:
    """What a run would do in one stage; times are None without past items to estimate them from."""

    stage: str
    new: int
    reused: int
    quarantined: int
    dropped: int
    blocked: int  # a parent is quarantined or dropped
    work_seconds: float | None
    seconds: float | None  # wall-clock; also None if the number of workers is unknown
    gpu_hours: float | None


def forecast(job: AnyJob, plans: Iterable[Surveyed]) -> list[StageForecast]:
    """Return per stage what is new, reused and held back, and how long the new items may take."""
    frames = {clip.id: clip.frames for clip in job.clips}
    by_stage: dict[str, list[Surveyed]] = {}
    for one in plans:
        by_stage.setdefault(one.plan.stage.name, []).append(one)
    return [_stage_forecast(job.config, parts, frames) for parts in by_stage.values()]


def _stage_forecast(
    config: RecaptureConfig, parts: Sequence[Surveyed], frames: Mapping[str, int]
) -> StageForecast:
    stage = parts[0].plan.stage
    new = [item for part in parts for item in part.new]
    held = [entry for part in parts for _, entry in part.todo.quarantined]
    rows = read_manifest(config.store, config.dataset.name, stage.name).values()
    work = _work_seconds(rows, [frames.get(item.clip_id) for item in new], frames)
    workers = _workers(config.execution, stage.resources)
    dropped = sum(entry.state == "dropped" for entry in held)
    return StageForecast(
        stage.name,
        new=len(new),
        reused=sum(len(part.todo.reused) for part in parts),
        quarantined=len(held) - dropped,
        dropped=dropped,
        blocked=sum(len(part.blocked) for part in parts),
        work_seconds=work,
        seconds=None if work is None or workers is None else work / max(1, min(workers, len(new))),
        gpu_hours=None if work is None else work * stage.resources.gpus / 3600,
    )


def print_plan(config: RecaptureConfig, as_json: bool = False, kind: str = "recapture") -> None:
    """Print what a job of this kind would do with these settings."""
    job, plans = surveyed(config, kind)
    trajectories = job.config.trajectories
    forecasts = forecast(job, plans)
    fills = any(stage.stage == "fill" and stage.new for stage in forecasts)
    memory = list(check_memory(job.config, job.clips)) if fills else []
    found = list(amounts(plans, ArtifactStore(config.store)))
    if as_json:
        record = {
            "dataset": config.dataset.name,
            "clips": len(job.clips),
            "trajectories": [trajectory.label for trajectory in trajectories],
            "unreadable": [{"clip": clip.id, "error": clip.error} for clip in job.rejected],
            "stages": [asdict(stage) for stage in forecasts],
            "amounts": [asdict(one) for one in found],
            "memory": [asdict(finding) for finding in memory],
        }
        print(json.dumps(record, indent=1))
        return
    console = Console()
    unfilmed = kind == "train" or (kind == "transfer" and config.transfer.camera != "two_passes")
    along = "" if unfilmed else f", {len(trajectories)} trajectories"
    uri = escape(without_credentials(config.dataset.uri))
    console.print(f"{config.dataset.name}: {len(job.clips)} clips{along} from {uri}", soft_wrap=True)
    table = Table("stage")
    for column in ("new", "reused", "quarantined", "blocked", "time"):
        table.add_column(column, justify="right")
    for row in forecasts:
        held = str(row.quarantined) + (f" + {row.dropped} dropped" if row.dropped else "")
        table.add_row(row.stage, str(row.new), str(row.reused), held, str(row.blocked), _time(row))
    console.print(table)
    for clip in job.rejected[:SHOWN_REJECTED]:
        console.print(f"[red]unreadable[/red] {escape(clip.error)}", soft_wrap=True)
    if len(job.rejected) > SHOWN_REJECTED:
        console.print(f"… and {len(job.rejected) - SHOWN_REJECTED} more")
    if any(row.quarantined or row.dropped for row in forecasts):
        console.print("quarantined items are skipped; see `recapture quarantine ls`")
    for one in found:
        known = (
            f"{one.amount:.3g}, holes up to {one.hole_share or 0:.0%}" if one.amount is not None else one.why
        )
        console.print(f"amount of {escape(one.item)}: {escape(known)}", soft_wrap=True)
    for finding in memory:
        way_out = f"; {finding.way_out}" if finding.way_out else ""
        console.print(f"memory: {escape(finding.message + way_out)}", soft_wrap=True)
    console.print(_total(forecasts), soft_wrap=True)


def _work_seconds(
    rows: Iterable[Mapping[str, Any]], todo: Sequence[int | None], frames: Mapping[str, int]
) -> float | None:
    """Estimate one worker's seconds for items of `todo` frames each from finished rows of the same stage.

    The estimate uses seconds per frame of clips of known length, else seconds per item; None without rows.
    """
    if not todo:
        return 0.0
    done = [(row["seconds"], frames.get(row["clip_id"])) for row in rows if row["status"] == "ok"]
    known = [(seconds, length) for seconds, length in done if length]
    lengths = [length for length in todo if length is not None]
    if known and len(lengths) == len(todo):
        return sum(lengths) * sum(seconds for seconds, _ in known) / sum(length for _, length in known)
    return len(todo) * sum(seconds for seconds, _ in done) / len(done) if done else None


def _workers(execution: ExecutionConfig, resources: Resources) -> int | None:
    if execution.executor == "inline":
        return 1
    if execution.workers is not None:
        return execution.workers
    if execution.ray_address is not None or "RAY_ADDRESS" in os.environ or resources.gpus > 0:
        return None  # as many as fit on the cluster, or on the GPUs
    return max(1, int((os.cpu_count() or 1) // resources.cpus))


def _time(row: StageForecast) -> str:
    if not row.new:
        return ""
    if row.work_seconds is None:
        return "unknown"
    clock = f"{duration(row.work_seconds)} of work" if row.seconds is None else duration(row.seconds)
    return clock + (f", {row.gpu_hours:.1f} GPU h" if row.gpu_hours else "")


def _total(forecasts: Sequence[StageForecast]) -> str:
    busy = [row for row in forecasts if row.new]
    if not busy:
        return "nothing to do: every artifact that can be made exists"
    unknown = [row.stage for row in busy if row.work_seconds is None]
    if len(unknown) == len(busy):
        return "expected time unknown: no past items"
    work = sum(row.work_seconds or 0.0 for row in busy)
    clock = [row.seconds for row in busy if row.work_seconds is not None]
    text = f"about {duration(work)} of work"
    if None not in clock:
        text += f", {duration(sum(seconds or 0.0 for seconds in clock))} wall-clock time"
    return text + (f", not counting {', '.join(unknown)} (never run)" if unknown else "")
