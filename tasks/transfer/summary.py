"""The result of a motion transfer: its videos, adapters, and the table of measurements."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field

from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Summary
from recapture.tasks.jobs.summary import format_value

MEASURED_BY, DELIVERED_BY, FILMED_BY = "motion_measure", "motion_deliver", "deliver"


@dataclass
class TransferSummary(Summary):
    """Which of the wanted videos exist, and their measurements.

    Mappings with an entry per item are UserDicts: Prefect searches the dicts of a flow's result for futures.
    """

    references: int = 0
    videos: Mapping[str, tuple[str, ...]] = field(default_factory=UserDict)  # wanted item -> its clips
    unreadable: int = 0  # videos of clips that could not be read
    metrics: MutableMapping[str, dict[str, float]] = field(default_factory=UserDict)
    tuned: MutableMapping[str, Mapping[str, float]] = field(default_factory=UserDict)  # reference -> metrics
    ready: set[str] = field(default_factory=set)
    adapters: MutableMapping[str, str] = field(default_factory=UserDict)  # reference -> folder

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        super().add(stage, outcomes)
        for outcome in outcomes:
            if not outcome.usable:
                continue
            if stage in (DELIVERED_BY, FILMED_BY):
                self.ready.add(outcome.item)
            if stage == MEASURED_BY:
                self.metrics[outcome.item] = dict(outcome.metrics)
            if stage == "motion_tune":
                self.tuned[outcome.item] = outcome.metrics

    @property
    def wanted(self) -> int:
        """Return how many videos there should be: all except those that dropped items stand in the way of."""
        kept = [
            name
            for name, clips in self.videos.items()
            if name in self.ready or not {name, *clips} & self.dropped
        ]
        return len(kept) + self.unreadable

    @property
    def delivered(self) -> int:
        return len(self.ready & set(self.videos))

    @property
    def results(self) -> str:
        return "transfers"

    def means(self) -> dict[str, dict[str, float]]:
        """Return method -> metric -> mean over the items that have it; metrics are named METHOD/METRIC."""
        found: dict[str, dict[str, list[float]]] = {}
        for metrics in self.metrics.values():
            for name, value in metrics.items():
                method, _, metric = name.partition("/")
                if metric and math.isfinite(value):
                    found.setdefault(method, {}).setdefault(metric, []).append(value)
        return {
            method: {metric: sum(values) / len(values) for metric, values in rows.items()}
            for method, rows in found.items()
        }

    def table(self) -> list[list[str]]:
        """Return the means as rows of text, the first with the names of the methods; empty without any."""
        means = self.means()
        metrics = list(dict.fromkeys(metric for rows in means.values() for metric in rows))
        body = [[metric, *(format_value(rows.get(metric)) for rows in means.values())] for metric in metrics]
        return [[f"mean over {len(self.metrics)} transfers", *means], *body] if body else []

    def markdown(self) -> str:
        lines = [
            f"# {self.dataset}: {self.delivered} of {self.wanted} transfers",
            "",
            f"{self.references} references, {self.clips} targets, {self.seconds:.0f} s"
            + (f", MLflow run `{self.mlflow_run}`" if self.mlflow_run else ""),
            "",
            "| stage | done | reused | failed | blocked |",
            "|---|---|---|---|---|",
        ]
        for stage, counts in self.counts.items():
            failed = counts.get("error", 0) + counts.get("quarantined", 0)
            cells = (counts.get("ok", 0), counts.get("reused", 0), failed, counts.get("blocked", 0))
            lines.append(f"| {stage} | " + " | ".join(str(cell) for cell in cells) + " |")
        lines += self.gpu_lines()
        if table := self.table():
            lines += ["", "| " + " | ".join(table[0]) + " |", "|---" + "|---:" * (len(table[0]) - 1) + "|"]
            lines += ["| " + " | ".join(row) + " |" for row in table[1:]]
        if self.adapters:
            lines += ["", "| reference | motion adapter |", "|---|---|"]
            lines += [f"| {name} | `{folder}` |" for name, folder in self.adapters.items()]
        return "\n".join([*lines, *self.missing_lines()])
