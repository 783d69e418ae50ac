"""The preview job: render the trajectories of a dataset without filling, as a check before a long run."""

from __future__ import annotations

from prefect import flow

from recapture.conf.schema import RecaptureConfig
from recapture.flows.run_job import run_job
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.jobs.job import ClipJob, preview_stages
from recapture.tasks.jobs.summary import JobSummary


@keeping_secrets
@flow(name="preview", flow_run_name="{config.dataset.name}", persist_result=False)
def preview(config: RecaptureConfig) -> JobSummary:
    """Ingest, lift and render a dataset; write the warped videos, their visibility and the camera paths."""
    return run_job(ClipJob.of(config, preview_stages(config)))
