"""The runner of every job: carry out its plans on the workers; publish; deliver; report."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, UserDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from prefect.logging import get_run_logger
from prefect.runtime import deployment, flow_run

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.share import Share
from recapture.datasets.readers.scan import located
from recapture.datasets.store.lease import lease
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.carry_out import Carrier
from recapture.flows.environment import tracking_destination
from recapture.flows.eta import past_seconds
from recapture.flows.prefect_artifacts import JobArtifacts
from recapture.flows.progress import StageProgress
from recapture.tasks.engine.busy import Busy
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.executor import open_executor
from recapture.tasks.engine.intake import open_intake
from recapture.tasks.engine.mlflow_record import MlflowRecord
from recapture.tasks.engine.planner import StagePlan, Track
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Summary
from recapture.tasks.engine.system_metrics import SystemMetrics
from recapture.tasks.jobs.own_folders import mark_own_folders

LOGGED_FAILURES = 100
S = TypeVar("S", bound=Summary, covariant=True)


class Publisher(Protocol):
    """What publishes results while a job runs."""

    def __enter__(self) -> Publisher: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...

    def expect(self, plan: StagePlan) -> None:
        """Announce the items of a plan."""
        ...

    def forget(self, plan: StagePlan) -> None:
        """Forget the items of a plan that are all settled."""
        ...

    def heard(self, outcome: Outcome) -> None:
        """Take note of an outcome, from any thread."""
        ...


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

    def tracks(self, size: int) -> Iterator[Track]:
        """Yield the plans in tracks that do not depend on each other, if possible of `size` clips each."""
        ...

    def publisher(self, store: ArtifactStore) -> Publisher | None:
        """Return what publishes results while the job runs, if anything does."""
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
    early = job.publisher(store)
    publishing: AbstractContextManager[Publisher | None] = nullcontext() if early is None else early
    with (
        lease(config.store, run_id, config.dataset.name),
        job.open_record(run_id, tracking_destination(config), flow) as record,
        open_executor(config.execution, config.store, located(config.dataset.uri)) as executor,
        StageProgress(
            job.expected,
            at_work=lambda: executor.at_work,
            past=past_seconds(config.store, config.dataset.name),
        ) as progress,
        SystemMetrics(record.run, executor.node_samples),
    ):
        with publishing:
            busy = Busy(started)
            watcher = JobWatcher(job, record, progress, shown, early, logger, busy)
            intake = open_intake(config.execution, config.store, lambda: executor.clips)
            context = RunContext(
                store,
                executor,
                config.dataset.name,
                run_id,
                retry_policy(config.execution),
                watcher.advance,
                intake=intake if executor.concurrent else None,
                share=None if config.dataset.share is None else Share.parse(config.dataset.share).folder,
            )
            size = config.execution.shard
            Carrier(context, watcher, size).carry_out(job.tracks(size))
        summary.seconds = time.monotonic() - started
        summary.gpu_share = busy.share(executor.gpus)
        summary.gpu_shares = UserDict(busy.shares(executor.gpus))
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


class JobWatcher:
    """Follows a job's plans: its summary, logs, progress bars, MLflow and what is published meanwhile."""

    def __init__(
        self,
        job: Job[Any],
        record: MlflowRecord,
        progress: StageProgress,
        shown: JobArtifacts,
        early: Publisher | None,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        busy: Busy,
    ) -> None:
        self._busy = busy
        self._summary, self._total = job.summary, max(1, sum(job.expected.values()))
        self._record, self._progress, self._shown, self._early = record, progress, shown, early
        self._logger = logger
        self._warned: set[str] = set()
        self._thread = threading.current_thread()

    def advance(self, outcome: Outcome) -> None:
        """Count one finished item; called from any thread."""
        self._progress.advance(outcome)
        self._busy.add(outcome)
        if self._early is not None:
            self._early.heard(outcome)
        if threading.current_thread() is self._thread:  # nobody else ticks while it works on items itself
            self.tick()

    def expect(self, plan: StagePlan) -> None:
        """Announce the items of a plan to who publishes them."""
        if self._early is not None:
            self._early.expect(plan)

    def forget(self, plan: StagePlan) -> None:
        """Forget the items of a plan whose track is closed."""
        if self._early is not None:
            self._early.forget(plan)

    def begin(self, plan: StagePlan) -> None:
        """Log what a plan has to say, each warning once."""
        self._record.begin(plan)
        warnings = tuple(one for one in plan.warnings if one not in self._warned)
        self._warned.update(warnings)
        for note in (*warnings, *plan.notes)[:LOGGED_FAILURES]:
            self._logger.warning(note)
        self._summary.warnings += warnings
        self._progress.begin(plan)

    def end(self, plan: StagePlan) -> None:
        """Note that a plan has all its outcomes."""
        self._progress.end(plan)
        self._record.end(plan)

    def report(self, plan: StagePlan, title: str, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes of a batch to the summary and to MLflow."""
        self._summary.add(plan.stage.name, outcomes)
        self._record.add(plan, outcomes)
        self._logger.info("%s %s: %s", plan.title, title, counted(outcomes))
        self.tick()

    def tick(self) -> None:
        """Move the bar in Prefect, and say there what is worked on."""
        percent = min(100.0, 100.0 * self._progress.done / self._total)
        self._shown.progress(percent, lambda: self._progress.now)


def counted(outcomes: Sequence[Outcome]) -> str:
    """Return the number of outcomes per status, as text."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
