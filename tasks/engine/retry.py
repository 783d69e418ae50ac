"""When an item is retried, when it is given up, and when a whole stage is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recapture.conf.errors import UserError
from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.outage import InputsAway
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
        "InputsAway",
        "WorkerLost",
        "WorkerHung",
    }
)
AT_ONCE = frozenset({"OutOfMemoryError", "DeviceLost", "WorkerLost", "WorkerHung"})  # a pause does not help
LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """When to retry an item, and when to give up on it."""

    attempts: int = 3
    timeout_seconds: float = 1800.0  # without progress, see conf/heartbeat.py
    setup_seconds: float = 1800.0  # likewise, while a worker is placed, imports and loads its models
    transient: frozenset[str] = TRANSIENT  # error types that a retry may fix

    pause_seconds: float = (
        2.0  # before the second attempt, where storage or a network failed; then 4 x as long
    )

    def again(self, outcome: Outcome) -> bool:
        """Return whether a failed item is to be retried."""
        may_help = outcome.retriable or outcome.error_type in self.transient
        return may_help and outcome.attempts < self.attempts

    def pause(self, outcome: Outcome) -> float:
        """Return the seconds until a failed item is tried again."""
        if outcome.error_type in AT_ONCE:
            return 0.0
        return min(LONGEST_PAUSE, self.pause_seconds * 4.0 ** (outcome.attempts - 1))


class StageSick(UserError):
    """A stage cannot work at all, whatever the item: its setup fails or every worker dies."""


def settle(stage: Stage, outcome: Outcome) -> Outcome:
    """Return the final outcome of an item that is not retried: an error quarantines it.

    An item without its parent is blocked instead, and the next run makes the parent again. Raises StageSick
    if the store refuses, StoreBusy if it does not answer, InputsAway if the storage of the inputs does not:
    other items would fail likewise.
    """
    if outcome.error_type == "StoreFailed":
        raise StageSick(sick_message(stage, outcome.error))
    if outcome.error_type == "StoreBusy":
        raise StoreBusy(outcome.error)
    if outcome.error_type == "InputsAway":
        raise InputsAway(outcome.error)
    if outcome.status != "error":
        return outcome
    return replace(outcome, status="blocked" if outcome.error_type in PARENT_FAULTS else "quarantined")


def sick_message(stage: Stage, reason: str) -> str:
    """Return the message that a stage cannot work, with the way out."""
    reason = reason.strip().rstrip(".")
    return f"stage {stage.name!r} cannot work: {reason}. Fix this and rerun the job; completed items are kept"


def retry_policy(config: ExecutionConfig) -> RetryPolicy:
    """Return the configured policy."""
    return RetryPolicy(config.attempts, config.timeout_seconds)
