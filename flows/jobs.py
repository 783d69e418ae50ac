"""The kinds of jobs, planned from settings as their flows plan them."""

from __future__ import annotations

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.survey import Surveyed, survey
from recapture.tasks.jobs.job import ClipJob, inpaint_stages, preview_stages, recapture_stages
from recapture.tasks.jobs.still_camera import with_still_camera
from recapture.tasks.transfer.transferring import Transfer
from recapture.tasks.tune.tuning import Tuning

STAGES = {"recapture": recapture_stages, "inpaint": inpaint_stages, "preview": preview_stages}
KINDS = (*STAGES, "train", "transfer")
AnyJob = ClipJob | Tuning | Transfer


def planned(config: RecaptureConfig, kind: str = "recapture") -> AnyJob:
    """Return the job that `recapture run`, `inpaint`, `preview`, `train` or `transfer` would run.

    Raises UserError for an unknown kind, for inpainting without a mask, and as the jobs do.
    """
    if kind not in KINDS:
        raise UserError(f"no job is called {kind!r}; choose one of {', '.join(KINDS)}")
    if kind == "train":
        return Tuning(config)
    if kind == "transfer":
        return Transfer(config)
    settings = with_still_camera(config) if kind == "inpaint" else config
    return ClipJob.of(settings, STAGES[kind](settings))


def surveyed(config: RecaptureConfig, kind: str = "recapture") -> tuple[AnyJob, list[Surveyed]]:
    """Return the job as `planned` does, with what a run of each of its plans would do today."""
    job = planned(config, kind)
    return job, list(survey(job.plans(), ArtifactStore(config.store), config.dataset.name))


def kinds_of(config: RecaptureConfig) -> list[str]:
    """Return the kinds of jobs that these settings can run."""
    needed = {"inpaint": config.mask.given, "transfer": config.transfer.reference is not None}
    return [kind for kind in KINDS if needed.get(kind, True)]
