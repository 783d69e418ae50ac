"""The inpainting job: redraw what a mask covers in every clip, under the clip's own cameras."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from recapture.conf.schema import RecaptureConfig
from recapture.flows.run_job import run_job
from recapture.flows.secrets import keeping_secrets
from recapture.tasks.jobs.job import ClipJob, inpaint_stages
from recapture.tasks.jobs.still_camera import with_still_camera
from recapture.tasks.jobs.summary import JobSummary


@keeping_secrets
@flow(name="inpaint", flow_run_name="{config.dataset.name}", persist_result=False)
def inpaint(config: RecaptureConfig) -> JobSummary:
    """Ingest, lift, mask, fill, measure and deliver a dataset; its trajectories are not used."""
    still = with_still_camera(config)
    summary = run_job(ClipJob.of(still, inpaint_stages(still)))
    for item in nothing_redrawn(summary):
        get_run_logger().warning("%s: the mask is empty, so the clip is delivered unchanged", item)
    return summary


def nothing_redrawn(summary: JobSummary) -> list[str]:
    """Return the finished items whose masks cover no pixel."""
    return [
        item
        for item in sorted(summary.ready)
        if any(
            name.endswith("/hole_share") and share == 0.0
            for name, share in summary.metrics.get(item, {}).items()
        )
    ]
