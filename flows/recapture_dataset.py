"""The main job: film every clip of a dataset again along every configured trajectory."""

from __future__ import annotations

from prefect import flow

from recapture.conf.schema import RecaptureConfig
from recapture.flows.run_job import run_job
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.jobs.job import ClipJob, recapture_stages
from recapture.tasks.jobs.summary import JobSummary


@keeping_secrets
@flow(name="recapture", flow_run_name="{config.dataset.name}", persist_result=False)
def recapture(config: RecaptureConfig) -> JobSummary:
    """Ingest, lift, render, fill, measure and deliver a dataset; finished items are reused."""
    return run_job(ClipJob.of(config, recapture_stages(config)))
