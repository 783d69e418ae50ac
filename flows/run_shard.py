"""One Prefect task per stage and shard: bring the shard up to date."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed
from prefect.utilities.annotations import quote

from recapture.conf.errors import UserError
from recapture.conf.redact import clean_error
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.engine.batches import Batch
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.stage import Item, Stage

ENDED = "the job has ended before this shard was done"


class Stopped(RuntimeError):
    """The job ends before this shard is done, for a reason that is reported elsewhere."""


class Ending:
    """The error that ends a job, if several tasks fail at the same time: the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: Exception | None = None

    def is_first(self, error: Exception) -> bool:
        """Return whether no other error has come first."""
        with self._lock:
            first = self.error is None
            self.error = self.error or error
        return first


def without_cancelled(record: logging.LogRecord) -> bool:
    """Return whether a line of Prefect's log is kept: not an error for each task that a job's end stops."""
    return ENDED not in record.getMessage()


logging.getLogger("prefect.task_runs").addFilter(without_cancelled)


def task_of(plan: StagePlan, batch: Batch) -> Any:
    """Return the task of a batch, with a title of its own."""
    return run_shard.with_options(name=plan.stage.name, task_run_name=f"{plan.title} {batch.title}")


def parameters(stage: Stage, batch: Batch, context: RunContext, rank: int, ending: Ending) -> tuple[Any, ...]:
    """Return the parameters of `run_shard`, quoted: otherwise Prefect searches every clip for futures."""
    place = batch.number, rank
    return (quote(stage), quote(batch.items), quote(context), place, quote(batch.complete), quote(ending))


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
    place: tuple[int, int],
    complete: Mapping[str, Artifact] | None,
    ending: Ending,
) -> Any:
    """Bring one shard of a stage up to date, or several that are complete; return the outcomes.

    place: number of the shard, rank of the stage. complete: see run_stage. The state is called Reused if
    there was nothing to do, Cancelled if another task ended the job.
    """
    try:
        outcomes = run_stage(stage, items, context, shard=place[0], rank=place[1], complete=complete)
    except Stopped as stopped:
        return Cancelled(message=str(stopped))  # not logged, see `without_cancelled`
    except Exception as error:
        clean_error(error)  # Prefect stores its message
        if isinstance(error, StageSick) and not ending.is_first(error):
            return Cancelled(message=ENDED)
        raise
    if all(outcome.status == "reused" for outcome in outcomes):
        return Completed(name="Reused", message=f"{len(outcomes)} items exist already", data=outcomes)
    return outcomes


def _worth_retrying(state: Any) -> bool:
    """Return whether a retry may succeed: for storage and network, not for a stage that cannot work."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, UserError)
