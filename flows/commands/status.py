"""`recapture status`: the last jobs of a dataset, how they ended and where their results are stored."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.manifest import read_manifest, stages
from recapture.datasets.store.quarantine import Quarantine
from recapture.flows.commands.recaptured import print_measurements
from recapture.flows.environment import tracking_uri
from recapture.tasks.engine.mlflow_link import PATIENCE
from recapture.tasks.jobs.job import recapture_stages
from recapture.tasks.jobs.summary import method_table

SHOWN_JOBS = 5
STATES = {
    "RUNNING": "running or killed",
    "FINISHED": "finished",
    "FAILED": "stopped by an error",
    "KILLED": "killed",
}
Manifests = Mapping[str, Mapping[str, Mapping[str, Any]]]  # stage -> key -> its newest row


@dataclass
class PastJob:
    """One job: its results according to the manifests, its end according to MLflow."""

    run: str
    ended: datetime | None = None
    state: str = "unknown"
    mlflow_run: str | None = None
    delivered: int | None = None
    wanted: int | None = None
    stages: dict[str, dict[str, int]] = field(default_factory=dict)  # stage -> status -> items


def past_jobs(config: RecaptureConfig, manifests: Manifests) -> list[PastJob]:
    """Return the most recent jobs in the manifests and in MLflow, the newest first."""
    jobs: dict[str, PastJob] = {}
    order = [stage.name for stage in recapture_stages(config)]
    for stage in sorted(manifests, key=lambda name: order.index(name) if name in order else len(order)):
        for row in manifests[stage].values():
            job = jobs.setdefault(row["run_id"], PastJob(row["run_id"]))
            counts = job.stages.setdefault(stage, {})
            counts[row["status"]] = counts.get(row["status"], 0) + 1
            job.ended = max(job.ended or row["created_at"], row["created_at"])
    if config.tracking.enabled:
        for known in _in_mlflow(tracking_uri(config), config.dataset.name):
            known.stages = jobs[known.run].stages if known.run in jobs else {}
            jobs[known.run] = known
    newest = sorted(jobs.values(), key=lambda job: job.ended.timestamp() if job.ended else 0.0, reverse=True)
    return newest[:SHOWN_JOBS]


def print_status(config: RecaptureConfig, as_json: bool = False, explain: bool = False) -> None:
    """Print the most recent jobs of a dataset, the last measurements, and where results are stored.

    explain: also define the metrics.
    """
    dataset = config.dataset.name
    manifests = {
        stage: read_manifest(config.store, dataset, stage) for stage in stages(config.store, dataset)
    }
    jobs = past_jobs(config, manifests)
    held = Quarantine(config.store, dataset).entries()
    measured = _last_measurements(manifests.get("measure", {}).values())
    places = {
        "videos": without_credentials(f"{config.outputs.rstrip('/')}/{dataset}"),
        "tables": without_credentials(f"{config.store.rstrip('/')}/manifests/{dataset}"),
    }
    if as_json:
        record = {
            "dataset": dataset,
            "jobs": [asdict(job) for job in jobs],
            "quarantined": sum(entry.state == "quarantined" for entry in held),
            "dropped": sum(entry.state == "dropped" for entry in held),
            "measurements": method_table(measured),
            **places,
        }
        print(json.dumps(record, indent=1, default=str))
        return
    console = Console()
    if not jobs:
        console.print(f"{dataset}: no job has run yet; start one with `recapture run`")
        return
    for job in jobs:
        when = f"{job.ended.astimezone():%Y-%m-%d %H:%M}" if job.ended else ""
        videos = "" if job.wanted is None else f", {job.delivered} of {job.wanted} videos"
        console.print(f"[bold]{job.run}[/bold]  {when}  {job.state}{videos}", highlight=False)
        made = ", ".join(f"{stage} {_counts(counts)}" for stage, counts in job.stages.items())
        console.print(f"    {made or 'nothing new'}", highlight=False, soft_wrap=True)
    print_measurements(measured, console, explain)
    if held:
        console.print(f"{len(held)} quarantined or dropped; see `recapture quarantine ls`")
    for what, where in places.items():
        console.print(f"{what}: {escape(where)}", soft_wrap=True, highlight=False)


def _in_mlflow(uri: str, experiment: str) -> list[PastJob]:
    """Return the jobs of an experiment; none, with a line on standard error, if MLflow is unreachable."""
    if uri.startswith("sqlite:///") and not os.path.exists(uri.removeprefix("sqlite:///")):  # noqa: PTH110
        return []  # a query would create an empty database
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        runs = client.search_runs([known.experiment_id], "attributes.run_name LIKE '%-%'") if known else []
    except Exception as error:
        where, what = without_credentials(uri), type(error).__name__
        Console(stderr=True).print(f"MLflow at {where} is unreachable ({what}); how jobs ended is not known")
        return []
    return [
        _past_job(run)
        for run in runs
        if "recapture_run" in run.data.tags and "mlflow.parentRunId" not in run.data.tags
    ]


def _past_job(run: Any) -> PastJob:
    milliseconds = run.info.end_time or run.info.start_time
    numbers = run.data.metrics
    return PastJob(
        run.data.tags["recapture_run"],
        datetime.fromtimestamp(milliseconds / 1000, UTC),
        STATES.get(run.info.status, run.info.status.lower()),
        run.info.run_id,
        delivered=int(numbers["videos_delivered"]) if "videos_delivered" in numbers else None,
        wanted=int(numbers["videos_wanted"]) if "videos_wanted" in numbers else None,
    )


def _last_measurements(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return item -> its newest measurements."""
    made = (row for row in rows if row["status"] in ("ok", "reused"))
    in_time = sorted(made, key=lambda row: row["created_at"])
    return {row["item"]: dict(row["metrics"] or {}) for row in in_time}


def _counts(counts: Mapping[str, int]) -> str:
    return " + ".join(str(n) if status == "ok" else f"{n} {status}" for status, n in sorted(counts.items()))
