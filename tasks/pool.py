"""Executors: where items are worked on. They know nothing of video; stages know nothing of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from recapture.conf.load import UserError
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.storage import StoreBusy
from recapture.datasets.store import ArtifactStore
from recapture.tasks.credentials import without_credentials
from recapture.tasks.stage import PARENT_FAULTS, Item, Outcome, Stage
from recapture.tasks.worker import DEVICE_LOST, limited_threads, reason, work

TRANSIENT = frozenset(
    {
        "TransientError",
        "ConnectionError",
        "ConnectionResetError",
        "ConnectionRefusedError",
        "BrokenPipeError",
        "TimeoutError",
        "EndpointConnectionError",
        "ReadTimeoutError",
        "OutOfMemoryError",
        "DeviceLost",
        "StoreBusy",
        "WorkerLost",
        "WorkerHung",
    }
)


@dataclass(frozen=True)
class RetryPolicy:
    """When to try an item again, and when to give up on it."""

    attempts: int = 3
    timeout_seconds: float = 600.0  # the floor; a stage whose items take long raises it to 5 x their p95
    setup_seconds: float = 1800.0  # for a worker to be placed, to import and to load its models
    transient: frozenset[str] = TRANSIENT  # error types that trying again may mend

    def again(self, outcome: Outcome) -> bool:
        """Return whether a failed item is to be tried once more."""
        return outcome.error_type in self.transient and outcome.attempts < self.attempts


class StageSick(UserError):
    """A stage cannot work at all, whatever the item: its set-up fails or every worker dies."""


class Executor(Protocol):
    """Runs a stage over items; every item comes back as exactly one outcome."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        """Work on all items; raises StageSick when the stage itself cannot work."""
        ...


class InlineExecutor:
    """Works on one item after the other in this process: for tests, debugging and small jobs."""

    def __init__(self, store_root: str) -> None:
        self.store_root = store_root
        self._store = ArtifactStore(store_root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""

    def run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        if not items:
            return []
        with limited_threads(stage.resources):
            return self._run(stage, items, on_outcome, policy)

    def _run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        try:
            stage.setup()
        except Exception as error:
            sick = StageSick(sick_message(stage, reason(error)))
            sick.add_note(without_credentials(traceback.format_exc()))
            raise sick from None
        outcomes = []
        for item in items:
            outcome = self._work(stage, item, 1)
            while outcome.status == "error" and policy.again(outcome):
                outcome = self._work(stage, item, outcome.attempts + 1)
            outcomes.append(settle(stage, outcome))
            on_outcome(outcomes[-1])
        return outcomes

    def _work(self, stage: Stage, item: Item, attempt: int) -> Outcome:
        outcome = work(stage, item, self._store, attempt)
        if outcome.error_type == DEVICE_LOST:  # no other item would fare better here
            raise StageSick(sick_message(stage, f"this process has lost its GPU: {outcome.error}"))
        return outcome


def settle(stage: Stage, outcome: Outcome) -> Outcome:
    """Decide on an error that is not tried again: the item is quarantined, unless it is not to blame.

    Without its parent it is blocked, and the next run makes the parent again. Raises StageSick when the
    store refuses, StoreBusy when it does not answer: no other item would fare better.
    """
    if outcome.error_type == "StoreFailed":
        raise StageSick(sick_message(stage, outcome.error))
    if outcome.error_type == "StoreBusy":
        raise StoreBusy(outcome.error)
    if outcome.status != "error":
        return outcome
    return replace(outcome, status="blocked" if outcome.error_type in PARENT_FAULTS else "quarantined")


def sick_message(stage: Stage, reason: str) -> str:
    """Say that a stage cannot start, and what to do."""
    reason = reason.strip().rstrip(".")
    return f"stage {stage.name!r} cannot work: {reason}. Mend that and run the job again; finished items stay"


def percentile_95(values: Iterable[float]) -> float:
    """Return the 95th percentile by nearest rank; 0 without values."""
    ordered = sorted(values)
    return ordered[(95 * len(ordered) + 99) // 100 - 1] if ordered else 0.0


def open_executor(config: ExecutionConfig, store_root: str) -> Executor:
    """Return the configured executor, to be used as a context manager."""
    if config.executor == "inline":
        return InlineExecutor(store_root)
    if config.ray_address is None and "RAY_ADDRESS" not in os.environ:
        # Read when Ray is imported: a Ray of this job alone then listens on loopback only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from recapture.tasks.ray_pool import RayExecutor

    return RayExecutor(store_root, workers=config.workers, address=config.ray_address)


def retry_policy(config: ExecutionConfig) -> RetryPolicy:
    """Return the configured policy."""
    return RetryPolicy(config.attempts, config.timeout_seconds)
