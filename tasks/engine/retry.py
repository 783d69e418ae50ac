"""When an item is tried again, when it is given up, and when a whole stage is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from recapture.conf.errors import UserError
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.storage import StoreBusy
from recapture.tasks.engine.stage import PARENT_FAULTS, Outcome, Stage

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


def retry_policy(config: ExecutionConfig) -> RetryPolicy:
    """Return the configured policy."""
    return RetryPolicy(config.attempts, config.timeout_seconds)
