"""When an item is retried, when it is given up, and when a whole stage is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from recapture.conf.errors import UserError
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.storage import StoreBusy
from recapture.tasks.engine.stage import PARENT_FAULTS, Outcome, Stage

TRANSIENT = frozenset(
    {
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
    """When to retry an item, and when to give up on it."""

    attempts: int = 3
    timeout_seconds: float = 600.0  # at least; a stage with long items raises it to 5 x their p95
    setup_seconds: float = 1800.0  # for a worker to be placed, import and load its models
    transient: frozenset[str] = TRANSIENT  # error types that a retry may fix

    def again(self, outcome: Outcome) -> bool:
        """Return whether a failed item is to be retried."""
        return outcome.error_type in self.transient and outcome.attempts < self.attempts


class StageSick(UserError):
    """A stage cannot work at all, whatever the item: its setup fails or every worker dies."""


def settle(stage: Stage, outcome: Outcome) -> Outcome:
    """Return the final outcome of an item that is not retried: an error quarantines it.

    An item without its parent is blocked instead, and the next run makes the parent again. Raises StageSick
    if the store refuses, StoreBusy if it does not answer: other items would fail likewise.
    """
    if outcome.error_type == "StoreFailed":
        raise StageSick(sick_message(stage, outcome.error))
    if outcome.error_type == "StoreBusy":
        raise StoreBusy(outcome.error)
    if outcome.status != "error":
        return outcome
    return replace(outcome, status="blocked" if outcome.error_type in PARENT_FAULTS else "quarantined")


def sick_message(stage: Stage, reason: str) -> str:
    """Return the message that a stage cannot work, with the way out."""
    reason = reason.strip().rstrip(".")
    return f"stage {stage.name!r} cannot work: {reason}. Fix this and rerun the job; completed items are kept"


def percentile_95(values: Iterable[float]) -> float:
    """Return the 95th percentile by nearest rank; 0 without values."""
    ordered = sorted(values)
    return ordered[(95 * len(ordered) + 99) // 100 - 1] if ordered else 0.0


def retry_policy(config: ExecutionConfig) -> RetryPolicy:
    """Return the configured policy."""
    return RetryPolicy(config.attempts, config.timeout_seconds)
