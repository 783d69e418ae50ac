"""Jobs in Python: settings, what a job would do, and the job itself. See docs/python.md."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.conf.redact import remember_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.flows.commands.plan import StageForecast, forecast
from recapture.flows.environment import prepare_environment, without_database_password
from recapture.flows.jobs import KINDS, surveyed
from recapture.tasks.engine.summary import Summary

Settings = RecaptureConfig | Mapping[str, Any]


def configure(
    settings: Mapping[str, Any] | None = None, *, profile: str | None = None, dataset: str | None = None
) -> RecaptureConfig:
    """Return the settings of a job, merged as on the command line: settings are the last layer.

    settings: sections as mappings, or names as keys: {"dataset.uri": "videos", "fill": {"method": "base"}}.
    profile: a name such as demo, or a YAML file; dataset: a YAML file. RECAPTURE_... variables count too.

    Raises ConfigError (a UserError and ValueError) that names each bad setting and the nearest known one.
    """
    remember_credentials(*os.environ.values())
    config = load_config(profile, dataset, environment=os.environ, settings=settings)
    remember_credentials(repr(config))
    return config


def run(config: Settings, *, job: str = "recapture") -> Summary:
    """Run a job to its end and return its summary; finished items are reused.

    config: from `configure`, or the settings that it takes. job: recapture, inpaint, preview, train or
    transfer.
    The summary has `wanted`, `delivered` and `acceptable`, `failures` (item, stage and error of what is
    missing), `warnings`, `counts` per stage and status, `seconds`, and `markdown()`.

    Raises UserError for settings that cannot be used and for a dataset without clips. One bad clip never
    raises: it is among the failures. Prefect's and MLflow's databases are stored in `config.state`.
    """
    chosen = _chosen(config)
    if job not in KINDS:
        raise UserError(f"no job is called {job!r}; choose one of {', '.join(KINDS)}")
    if job not in ("train", "transfer"):
        from recapture.tasks.jobs.check import check_named_files

        check_named_files(chosen, job)
    prepare_environment(chosen)  # before Prefect is imported, which reads it then
    return _flow(job)(without_database_password(chosen))


def plan(config: Settings, *, job: str = "recapture") -> pd.DataFrame:
    """Return what a run would do, one row per stage in their order; nothing is made.

    Columns: stage; how many items are new, reused, quarantined, dropped and blocked; work_seconds (of one
    worker), seconds (by the clock) and gpu_hours, estimated from past items, NaN where there are none.
    config, job and errors: as for `run`.
    """
    found, plans = surveyed(_chosen(config), job)
    columns = [field.name for field in fields(StageForecast)]
    table = pd.DataFrame([asdict(row) for row in forecast(found, plans)], columns=columns)
    times = ["work_seconds", "seconds", "gpu_hours"]
    return table.astype(dict.fromkeys(times, float))


def _chosen(config: Settings) -> RecaptureConfig:
    if isinstance(config, RecaptureConfig):
        return config
    if isinstance(config, Mapping):
        return configure(config)
    raise UserError(f"a job needs its settings, not {config!r}; give what recapture.configure returns")


def _flow(job: str) -> Any:
    from recapture.flows.inpaint import inpaint
    from recapture.flows.preview import preview
    from recapture.flows.recapture_dataset import recapture
    from recapture.flows.train_iterative import train_iterative
    from recapture.flows.transfer import transfer

    flows = {"recapture": recapture, "inpaint": inpaint, "preview": preview}
    return (flows | {"train": train_iterative, "transfer": transfer})[job]
