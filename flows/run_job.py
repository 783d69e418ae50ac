"""How every job goes: plan, run stage after stage on the workers, publish, report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from prefect.utilities.annotations import quote

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.progress import StageProgress
from recapture.flows.environment import tracking_destination
from recapture.flows.prefect_artifacts import JobArtifacts
from recapture.tasks.engine.batches import batches
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.executor import Executor, open_executor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import run_stage
from recapture.tasks.engine.stage import ClipStage, Item, Outcome, Stage
from recapture.tasks.jobs.job import Job, plan_job
from recapture.tasks.jobs.mlflow_record import JobMemory
from recapture.tasks.jobs.publish import publish
from recapture.tasks.jobs.shards import Shards
from recapture.tasks.jobs.summary import JobSummary, markdown

LOGGED_FAILURES = 100


def run_job(config: RecaptureConfig, stages: Sequence[ClipStage]) -> JobSummary:
    """Run the stages over the configured dataset; one bad clip never stops the others.

    Call it inside a Prefect flow. Raises UserError when there is nothing to work on, and StageSick when a
    stage cannot work at all; what was finished by then stays.
    """
    started = time.monotonic()
    deployed = deployment.id is not None  # asked now: at the end the server may be away
    for setting in ("store", "outputs"):
        check_writable(setting, getattr(config, setting))
    job = plan_job(config, stages)
    summary = JobSummary.of(job)
    store = ArtifactStore(config.store)
    run_id = uuid4().hex[:12]
    shards = Shards(job, config.execution.shard)
    logger = get_run_logger()
    shown = JobArtifacts(str(flow_run.flow_name), f"{config.dataset.name}: {len(job.clips)} clips")
    with (
        JobMemory(job, run_id, *tracking_destination(config), name=str(flow_run.flow_name)) as memory,
        open_executor(config.execution, config.store) as executor,
        StageProgress(job) as progress,
    ):
        done = 0
        for place, stage in enumerate(stages):
            memory.begin(stage)
            with progress.stage(stage.name):
                for batch in batches(stage, shards.of_stage(place), store):
                    outcomes = brought_up_to_date(
                        stage,
                        batch.items,
                        f"{stage.name} {batch.title}",
                        number=batch.number,
                        run_id=run_id,
                        config=config,
                        store=store,
                        executor=executor,
                        on_outcome=progress.advance,
                        there=batch.there,
                    )
                    summary.add(stage.name, outcomes)
                    memory.stage(stage, outcomes)
                    logger.info("%s %s: %s", stage.name, batch.title, counted(outcomes))
                    for sentence in shards.settle(batch.items, outcomes)[:LOGGED_FAILURES]:
                        logger.warning(sentence)
                    done += batch.shards
                    shown.progress(100.0 * done / len(shards))
        _publish(shards.job, summary, store)
        summary.seconds = time.monotonic() - started
        memory.replan(shards.job)
        memory.job(summary, store)
    for failure in summary.failures[:LOGGED_FAILURES]:
        logger.info("missing %s at %s: %s", failure.item, failure.stage, failure.error)
    logger.info("%d of %d videos in %.0f s", summary.delivered, summary.wanted, summary.seconds)
    shown.summary(markdown(summary))
    if deployed and not summary.acceptable:
        raise TooManyMissing(
            f"{summary.failure_share:.0%} of {summary.wanted} videos are missing, more than "
            f"execution.max_failure_share={summary.max_failure_share:.0%}; `recapture quarantine ls` says why"
        )
    return summary


class TooManyMissing(RuntimeError):
    """A deployment's run has no exit code to say this with, so its state is Failed."""


def brought_up_to_date(
    stage: Stage, items: Sequence[Item], title: str, *, number: int, run_id: str, **given: Any
) -> list[Outcome]:
    """Call run_shard as the Prefect task `title` and return its outcomes."""
    shard: Callable[..., Any] = run_shard.with_options(name=stage.name, task_run_name=title)
    # Quoted: Prefect would look for futures in every clip of every item.
    quoted = {name: quote(value) for name, value in {"stage": stage, "items": items, **given}.items()}
    outcomes: list[Outcome] = shard(number=number, run_id=run_id, **quoted, return_state=True).result()
    return outcomes


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=lambda task, run, state: _worth_retrying(state),
)
def run_shard(
    stage: Stage,
    items: Sequence[Item],
    number: int,
    run_id: str,
    config: RecaptureConfig,
    store: ArtifactStore,
    executor: Executor,
    on_outcome: Callable[[Outcome], None],
    there: Mapping[str, Artifact] | None = None,
) -> Any:
    """Bring one shard of one stage up to date, or several that are.

    there: as run_stage has it. The state is called Reused when there was nothing to do.
    """
    outcomes = run_stage(
        stage,
        items,
        store,
        executor,
        dataset=config.dataset.name,
        run_id=run_id,
        shard=number,
        policy=retry_policy(config.execution),
        on_outcome=on_outcome,
        there=there,
    )
    if all(outcome.status == "reused" for outcome in outcomes):
        return Completed(name="Reused", message=f"{len(outcomes)} items were there already", data=outcomes)
    return outcomes


def counted(outcomes: Sequence[Outcome]) -> str:
    """Write how many outcomes there are of each status."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))


def _worth_retrying(state: Any) -> bool:
    """Storage and network come back; a stage that cannot work, or a wrong setting, does not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, UserError)


def _publish(job: Job, summary: JobSummary, store: ArtifactStore) -> None:
    last = job.stages[-1]
    ready = [item for item in last.items if item.name in summary.ready]
    outputs = f"{job.config.outputs.rstrip('/')}/{job.config.dataset.name}"
    publish(last.stage.name, ready, summary.metrics, store, outputs)
