"""A small whole job with its results published and its page written, in one process, without Prefect."""

from __future__ import annotations

from uuid import uuid4

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.jobs.job import ClipJob, recapture_stages


def run_whole(config, stages=None, destination=(None, None)):
    """Run a job to its end as `run_job` does; return its summary and the id of its run.

    destination: MLflow's tracking URI and root of artifacts; by default nothing is logged.
    """
    job, run_id = ClipJob.of(config, stages or recapture_stages(config)), uuid4().hex[:12]
    store = ArtifactStore(config.store)
    with (
        job.open_record(run_id, destination, "recapture") as record,
        InlineExecutor(config.store, config.dataset.uri) as executor,
    ):
        context = RunContext(store, executor, config.dataset.name, run_id, retry_policy(config.execution))
        for track in job.tracks(config.execution.shard):
            for plan in track.plans:
                record.begin(plan)
                plan.outcomes += run_stage(plan.stage, plan.items, context)
                job.summary.add(plan.stage.name, plan.outcomes)
                record.end(plan)
            track.close()
        job.deliver(store)
    return job.summary, run_id
