"""The result of a job: counts per stage, failures, and whether few enough results are missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import UserDict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field

from recapture.tasks.engine.stage import PARENT_FAULTS, Outcome


@dataclass(frozen=True)
class Failure:
    """An item that could not be made."""

    item: str
    stage: str
    error: str


@dataclass
class Summary(ABC):
    """Outcomes per stage and failures. Subclasses define which results were wanted and delivered."""

    dataset: str
    clips: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # stage -> status -> items
    stage_seconds: dict[str, float] = field(default_factory=dict)  # stage -> work on what it made
    failures: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # about results that exist, one sentence each
    dropped: set[str] = field(default_factory=set)
    seconds: float = 0.0
    max_failure_share: float = 0.0
    mlflow_run: str | None = None
    gpu_share: float | None = None  # of the job in which its GPUs were busy; None: it has none
    gpu_shares: MutableMapping[str, float] = field(default_factory=UserDict)  # the same per stage

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        """Count the outcomes of a shard of a stage."""
        counts = self.counts.setdefault(stage, {})
        for outcome in outcomes:
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + outcome.seconds
            if outcome.status == "dropped":
                self.dropped.add(outcome.item)
            elif outcome.status == "quarantined" or outcome.error_type in PARENT_FAULTS:
                self.failures.append(Failure(outcome.item, stage, outcome.error))

    @property
    @abstractmethod
    def wanted(self) -> int:
        """Return how many results there should be."""

    @property
    @abstractmethod
    def delivered(self) -> int:
        """Return how many of the wanted results exist."""

    @property
    def results(self) -> str:
        """Return the name of the results, in the plural."""
        return "results"

    @property
    def failure_share(self) -> float:
        """Return the share of the wanted results that are missing."""
        return 1.0 - self.delivered / self.wanted if self.wanted else 0.0

    @property
    def acceptable(self) -> bool:
        """Return whether few enough results are missing for the job to count as successful."""
        return self.failure_share <= self.max_failure_share

    @property
    def too_many_missing(self) -> str:
        """Return the message for a job that is not acceptable."""
        return (
            f"{self.failure_share:.0%} of {self.wanted} {self.results} are missing, more than "
            f"execution.max_failure_share={self.max_failure_share:.0%}; `recapture quarantine ls` shows why"
        )

    @property
    def reused_everything(self) -> bool:
        """Return whether every stage found all of its artifacts existing already."""
        statuses = {status for count in self.counts.values() for status, n in count.items() if n}
        return statuses == {"reused"}

    @property
    def line(self) -> str:
        """Return one line for the end of a log."""
        return f"{self.delivered} of {self.wanted} {self.results} in {self.seconds:.0f} s"

    @abstractmethod
    def markdown(self) -> str:
        """Return the summary as the Markdown that Prefect and MLflow show."""

    def gpu_lines(self) -> list[str]:
        """Return how busy the GPUs were as lines of Markdown; no lines without any GPU."""
        if self.gpu_share is None:
            return []
        stages = "".join(f", {share:.0%} of {stage}" for stage, share in self.gpu_shares.items())
        return ["", f"GPUs were busy for {self.gpu_share:.0%} of the job{stages}."]

    def missing_lines(self) -> list[str]:
        """Return the warnings and failures as lines of Markdown; no lines without any."""
        warned = ["", "## Warnings", "", *(f"- {one}" for one in self.warnings)] if self.warnings else []
        if not self.failures:
            return warned
        lines = [f"- `{one.item}` at {one.stage}: {one.error}" for one in self.failures]
        return [*warned, "", "## Missing", "", *lines]
