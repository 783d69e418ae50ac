"""What came of a tuning: the angle-quality curve, what is missing, and pictures of before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from recapture.datasets.store.artifact import Artifact
from recapture.models.tuning.curriculum import Round
from recapture.tasks.clip.sheets import contact_sheet
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.summary import Failure, format_value
from recapture.tasks.tune.explore_stage import PICTURES

BASE, TUNED = "base", "tuned"
METRICS = {
    "cycle_psnr": "recaptured and back, against the source",
    "hole_psnr": "double reprojection, holes against the source",
    "truth_hole_psnr": "recaptured, holes against the truth",
}


@dataclass(frozen=True)
class Explored:
    """One measurement of the curve."""

    label: str  # base, round-N, tuned
    clip_id: str
    angle: float  # degrees
    scores: Mapping[str, float]  # dB


@dataclass
class TuneSummary:
    """Rounds made, every measurement, what is missing and why the tuning ended."""

    dataset: str
    clips: int
    max_failure_share: float
    rounds: list[Round] = field(default_factory=list)
    explored: list[Explored] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    adapted: set[str] = field(default_factory=set)  # clips that have an adapter
    ended: str = ""
    seconds: float = 0.0
    adapter: str = ""  # folder of the finished adapters
    mlflow_run: str | None = None

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        """Count what came of a stage."""
        counts = self.counts.setdefault(stage, {})
        for outcome in outcomes:
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
            if outcome.status == "quarantined":
                self.failures.append(Failure(outcome.item, stage, outcome.error))

    @property
    def failure_share(self) -> float:
        """Return the share of clips without an adapter."""
        return 1.0 - len(self.adapted) / self.clips if self.clips else 0.0

    @property
    def acceptable(self) -> bool:
        """Return whether few enough clips are missing for the tuning to count as done."""
        return bool(self.adapted) and self.failure_share <= self.max_failure_share

    @property
    def reused_everything(self) -> bool:
        """Return whether every stage found all of its artifacts ready."""
        return {s for counts in self.counts.values() for s, n in counts.items() if n} == {"reused"}

    def curve(self, label: str, metric: str) -> list[tuple[float, float]]:
        """Return (angle, mean over clips) of a metric for base, a round's adapter or the tuned one."""
        values: dict[float, list[float]] = {}
        for (_, angle), score in self._scores(label, metric).items():
            values.setdefault(angle, []).append(score)
        return [(angle, sum(found) / len(found)) for angle, found in sorted(values.items())]

    def quality(self, label: str, angle: float) -> float:
        """Return the mean cycle PSNR at an angle, dB; NaN where nothing was measured."""
        return dict(self.curve(label, "cycle_psnr")).get(angle, math.nan)

    def table(self) -> list[dict[str, float | str]]:
        """Return one row a metric and angle: means in dB over the clips that have both, and the gain."""
        rows: list[dict[str, float | str]] = []
        for metric in METRICS:
            base, tuned = self._scores(BASE, metric), self._scores(TUNED, metric)
            both = base.keys() & tuned.keys()
            for angle in sorted({angle for _, angle in both}):
                clips = [pair for pair in both if pair[1] == angle]
                before, after = (sum(scores[pair] for pair in clips) / len(clips) for scores in (base, tuned))
                rows.append({"metric": metric, "angle": angle, "clips": len(clips)})
                rows[-1] |= {BASE: before, TUNED: after, "gain": after - before}
        return rows

    def _scores(self, label: str, metric: str) -> dict[tuple[str, float], float]:
        """(clip id, angle) -> value."""
        return {
            (one.clip_id, one.angle): one.scores[metric]
            for one in self.explored
            if one.label == label and math.isfinite(one.scores.get(metric, math.nan))
        }

    def markdown(self) -> str:
        """Return the summary as the Markdown that Prefect and MLflow show."""
        done = ", ".join(f"{one.low:g}-{one.high:g}° in {one.steps} steps" for one in self.rounds)
        lines = [
            f"# {self.dataset}: adapters for {len(self.adapted)} of {self.clips} clips",
            "",
            f"{len(self.rounds)} rounds ({done}), {self.seconds:.0f} s. {self.ended}",
            "",
            f"Adapter: `{self.adapter}`",
        ]
        if rows := self.table():
            lines += [
                "",
                "| dB, mean over clips | degrees | clips | base | tuned | gain |",
                "|---|---:|---:|---:|---:|---:|",
            ]
            lines += [
                f"| {row['metric']} | {row['angle']:g} | {row['clips']} | {_shown(row[BASE])}"
                f" | {_shown(row[TUNED])} | {float(row['gain']):+.2f} |"
                for row in rows
            ]
        if self.failures:
            lines += ["", "## Missing", ""]
            lines += [f"- `{failure.item}` at {failure.stage}: {failure.error}" for failure in self.failures]
        return "\n".join(lines)


def curve_figure(summary: TuneSummary) -> Figure:
    """Plot the angle-quality curves of base, rounds and tuned adapter, one panel a metric."""
    metrics = [metric for metric in METRICS if any(metric in one.scores for one in summary.explored)]
    figure = Figure(figsize=(4.2 * max(1, len(metrics)), 3.6), layout="constrained")
    panels = figure.subplots(1, max(1, len(metrics)), squeeze=False)[0]
    labels = dict.fromkeys(one.label for one in summary.explored)
    for axes, metric in zip(panels, metrics):
        for label in labels:
            if points := summary.curve(label, metric):
                style = {BASE: "o--", TUNED: "o-"}.get(label, "x:")
                axes.plot(*zip(*points), style, label=label)
        axes.set_xlabel("degrees of yaw")
        axes.set_ylabel("dB")
        axes.set_title(f"{metric}\n{METRICS[metric]}", fontsize=8)
        axes.legend(fontsize=7)
    figure.suptitle(f"{summary.dataset}: angle and quality, mean over clips", fontsize=10)
    return figure


def before_after(base: Artifact, tuned: Artifact) -> Image.Image:
    """Return a sheet of one clip at one angle: source, render, base, tuned and, where known, the truth.

    Below: the degraded source of double reprojection, and what base and tuned adapter made of it.
    """
    before, after = base.read_npz(PICTURES), tuned.read_npz(PICTURES)
    rows: dict[str, np.ndarray] = {
        "source": before["source"],
        "render": before["render"],
        "base": before["filled"],
        "tuned": after["filled"],
    }
    if "truth" in before:
        rows["truth"] = before["truth"]
    rows |= {
        "degraded": before["degraded"],
        "base, back": before["restored"],
        "tuned, back": after["restored"],
    }
    return contact_sheet(rows, [f"frame {frame}" for frame in tuned.meta["frames"]])


def _shown(value: float | str) -> str:
    return format_value(float(value))
