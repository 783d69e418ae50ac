"""The result of a tuning: the angle-quality curve, what is missing, and pictures of before and after."""

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
from recapture.tasks.engine.summary import Summary
from recapture.tasks.jobs.summary import format_value
from recapture.tasks.tune.explore_stage import PICTURES
from recapture.tasks.tune.params import DATASET

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
class TuneSummary(Summary):
    """Rounds made, every measurement, what is missing and why the tuning ended."""

    rounds: list[Round] = field(default_factory=list)
    explored: list[Explored] = field(default_factory=list)
    adapted: set[str] = field(default_factory=set)  # clips that have an adapter
    excluded: set[str] = field(default_factory=set)  # clips with a dropped item
    ended: str = ""
    adapter: str = ""  # folder of the finished adapters

    def add(self, stage: str, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        super().add(stage, outcomes)
        dropped = {outcome.clip_id for outcome in outcomes if outcome.status == "dropped"}
        self.excluded |= dropped - {DATASET}

    @property
    def wanted(self) -> int:
        """Return how many clips should have an adapter: all except those that dropped items left without."""
        return self.clips - len(self.excluded - self.adapted)

    @property
    def delivered(self) -> int:
        return len(self.adapted)

    @property
    def results(self) -> str:
        return "adapted clips"

    @property
    def acceptable(self) -> bool:
        return bool(self.adapted) and super().acceptable

    def curve(self, label: str, metric: str) -> list[tuple[float, float]]:
        """Return (angle, mean over clips) of a metric for the base, a round's adapter or the final one."""
        values: dict[float, list[float]] = {}
        for (_, angle), score in self._scores(label, metric).items():
            values.setdefault(angle, []).append(score)
        return [(angle, sum(found) / len(found)) for angle, found in sorted(values.items())]

    def quality(self, label: str, angle: float) -> float:
        """Return the mean cycle PSNR at an angle in dB; NaN if nothing was measured."""
        return dict(self.curve(label, "cycle_psnr")).get(angle, math.nan)

    def table(self) -> list[dict[str, float | str]]:
        """Return one row per metric and angle: means in dB over the clips that have both, and the gain."""
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
        """Return (clip id, angle) -> value."""
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
        return "\n".join([*lines, *self.missing_lines()])


def curve_figure(summary: TuneSummary) -> Figure:
    """Plot the angle-quality curves of base, rounds and tuned adapter, one panel per metric."""
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
    """Return a sheet of one clip at one angle: source, render, base, tuned and, if known, the truth.

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
