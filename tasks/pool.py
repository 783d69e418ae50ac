"""Executors: where items are worked on. They know nothing of video; stages know nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from recapture.conf.load import UserError
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store import ArtifactStore
from recapture.tasks.stage import Item, Outcome, Stage
from recapture.tasks.worker import limited_threads, reason, work

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
            raise StageSick(sick_message(stage, reason(error))) from error
        outcomes = []
        for item in items:
            outcome = work(stage, item, self._store, 1)
            while outcome.status == "error" and policy.again(outcome):
                outcome = work(stage, item, self._store, outcome.attempts + 1)
            outcomes.append(settle(outcome))
            on_outcome(outcomes[-1])
        return outcomes


def settle(outcome: Outcome) -> Outcome:
    """Turn an error that is not tried again into a quarantined item."""
    return replace(outcome, status="quarantined") if outcome.status == "error" else outcome


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
    from recapture.tasks.ray_pool import RayExecutor

    return RayExecutor(store_root, workers=config.workers, address=config.ray_address)


def retry_policy(config: ExecutionConfig) -> RetryPolicy:
    """Return the configured policy."""
    return RetryPolicy(config.attempts, config.timeout_seconds)
