"""The runner of every job: carry out its plans on the workers, one after the other; deliver; report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from prefect.utilities.annotations import quote

from recapture.conf.errors import UserError
from recapture.conf.redact import clean_error
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.readers.scan import located
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.lease import lease
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.environment import tracking_destination
from recapture.flows.prefect_artifacts import JobArtifacts
from recapture.flows.progress import StageProgress
from recapture.tasks.engine.batches import Batch, batches
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.executor import open_executor
from recapture.tasks.engine.mlflow_record import MlflowRecord
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.stage import Item, Outcome, Stage
from recapture.tasks.engine.summary import Summary
from recapture.tasks.jobs.own_folders import mark_own_folders

LOGGED_FAILURES = 100
S = TypeVar("S", bound=Summary, covariant=True)


class Job(Protocol[S]):
    """What the runner needs of a job: its settings, plans and summary, and how it ends."""

    config: RecaptureConfig
    title: str

    @property
    def summary(self) -> S: ...

    @property
    def expected(self) -> Mapping[str, int]:
        """Return stage -> the largest number of items that it may have."""
        ...

    def plans(self) -> Iterator[StagePlan]:
        """Yield one plan after the other; later plans may depend on the outcomes of earlier ones."""
        ...

    def open_record(self, run_id: str, destination: tuple[str | None, str | None], flow: str) -> MlflowRecord:
        """Open the job's runs in MLflow."""
        ...

    def deliver(self, store: ArtifactStore) -> None:
        """Write the results to the outputs, and log the end of the job."""
        ...


class TooManyMissing(RuntimeError):
    """More results are missing than the settings allow.

    Raised in deployments only: their runs have no exit code, so the state of the run is Failed.
    """


def run_job(job: Job[S]) -> S:
    """Carry out a job's plans and return its summary; one bad clip never stops the others.

    Call it inside a Prefect flow. Raises UserError if there is nothing to work on, and StageSick if a stage
    cannot work at all; finished artifacts are kept.
    """
    started, config, summary, logger = time.monotonic(), job.config, job.summary, get_run_logger()
    deployed = deployment.id is not None  # read now: at the end the server may be unreachable
    for setting in ("store", "outputs"):
        check_writable(setting, getattr(config, setting))
    mark_own_folders(config)
    store, flow, run_id = ArtifactStore(config.store), str(flow_run.flow_name), uuid4().hex[:12]
    shown = JobArtifacts(flow, job.title)
    with (
        lease(config.store, run_id, config.dataset.name),
        job.open_record(run_id, tracking_destination(config), flow) as record,
        open_executor(config.execution, config.store, located(config.dataset.uri)) as executor,
        StageProgress(job.expected) as progress,
    ):
        policy = retry_policy(config.execution)
        context = RunContext(store, executor, config.dataset.name, run_id, policy, progress.advance)
        total, done, shards = max(1, sum(job.expected.values())), 0, Counter[str]()
        for plan in job.plans():
            record.begin(plan)
            for note in (*plan.warnings, *plan.notes)[:LOGGED_FAILURES]:
                logger.warning(note)
            summary.warnings += plan.warnings
            with progress.plan(plan):
                for batch in batches(plan, config.execution.shard, store, first=shards[plan.stage.name]):
                    outcomes = bring_up_to_date(plan, batch, context)
                    plan.outcomes += outcomes
                    summary.add(plan.stage.name, outcomes)
                    record.add(plan, outcomes)
                    logger.info("%s %s: %s", plan.title, batch.title, counted(outcomes))
                    shards[plan.stage.name] += batch.shards
                    done += len(outcomes)
                    shown.progress(min(100.0, 100.0 * done / total))
        summary.seconds = time.monotonic() - started
        job.deliver(store)
    summary.seconds = time.monotonic() - started
    for warning in summary.warnings[:LOGGED_FAILURES]:
        logger.warning(warning)
    for failure in summary.failures[:LOGGED_FAILURES]:
        logger.info("missing %s at %s: %s", failure.item, failure.stage, failure.error)
    logger.info(summary.line)
    shown.progress(100.0)
    shown.summary(summary.markdown())
    if deployed and not summary.acceptable:
        raise TooManyMissing(summary.too_many_missing)
    return summary


def bring_up_to_date(plan: StagePlan, batch: Batch, context: RunContext) -> list[Outcome]:
    """Run a batch as a Prefect task with a title of its own, and return the outcomes."""
    stage, limit = plan.stage, plan.stage.timeout_seconds
    if limit is not None:
        context = replace(context, policy=replace(context.policy, timeout_seconds=limit))
    shard: Callable[..., Any] = run_shard.with_options(
        name=stage.name, task_run_name=f"{plan.title} {batch.title}"
    )
    # Quoted: otherwise Prefect searches every clip of every item for futures.
    given = (quote(stage), quote(batch.items), quote(context), batch.number, quote(batch.complete))
    outcomes: list[Outcome] = shard(*given, return_state=True).result()
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
    context: RunContext,
    number: int,
    complete: Mapping[str, Artifact] | None = None,
) -> Any:
    """Bring one shard of a stage up to date, or several that are complete; return the outcomes.

    complete: see run_stage. The state is called Reused if there was nothing to do.
    """
    try:
        outcomes = run_stage(stage, items, context, shard=number, complete=complete)
    except Exception as error:
        clean_error(error)  # Prefect stores its message
        raise
    if all(outcome.status == "reused" for outcome in outcomes):
        return Completed(name="Reused", message=f"{len(outcomes)} items exist already", data=outcomes)
    return outcomes


def counted(outcomes: Sequence[Outcome]) -> str:
    """Return the number of outcomes per status, as text."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))


def _worth_retrying(state: Any) -> bool:
    """Return whether a retry may succeed: for storage and network, not for a stage that cannot work."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, UserError)
