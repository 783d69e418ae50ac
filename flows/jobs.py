"""The jobs that the settings of a dataset can mean, planned as their flows plan them."""

from __future__ import annotations

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.tasks.jobs.behind_mask import with_still_camera
from recapture.tasks.jobs.job import Job, inpaint_stages, plan_job, preview_stages, recapture_stages

STAGES = {"recapture": recapture_stages, "inpaint": inpaint_stages, "preview": preview_stages}


def planned(config: RecaptureConfig, kind: str = "recapture") -> Job:
    """Plan what `recapture run`, `inpaint` or `preview` would do with these settings.

    Raises UserError for another kind, for inpainting without a mask, and as plan_job does.
    """
    if kind not in STAGES:
        raise UserError(f"no job is called {kind!r}; choose one of {', '.join(STAGES)}")
    settings = with_still_camera(config) if kind == "inpaint" else config
    return plan_job(settings, STAGES[kind](settings))


def jobs_of(config: RecaptureConfig) -> list[Job]:
    """Plan all of them, over the whole dataset: dataset.where and dataset.limit only narrow a single run."""
    dataset = config.dataset.model_copy(update={"where": "*", "limit": None})
    whole = config.model_copy(update={"dataset": dataset})
    return [planned(whole, kind) for kind in STAGES if kind != "inpaint" or config.mask.given]
