"""The tables of tuning.py from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.cached_rows import CachedRows
from bench.tables import Cell, Column, Run, Table, with_interval

METRICS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "agreement", "returned_hole")
COMPARED = ("psnr_hole", "ssim_hole", "temporal_hole", "returned_hole")
BY_ANGLE = ("psnr_hole", "agreement", "returned_hole")
PAIRS = (
    ("single", "point-cloud masks"),
    ("iterative", "single"),
    ("iterative", "rounds without cycle pairs"),
    ("single, upper five of seven blocks", "single"),
    ("single, 168 more clips", "single"),
    ("both", "single"),
    ("iterative, packed", "iterative"),
    ("single, packed", "single"),
    ("single, packed in training and fill", "single"),
    ("single, packed in training and fill", "single, packed"),
    ("iterative, inverse", "iterative"),
    ("iterative, inverse", "inverse"),
    ("single, one step", "base, one step"),
)


class Values:
    """The mean over seeds of every fill, angle, metric and scene."""

    def __init__(self, measured: CachedRows, fills: Sequence[str], scenes: range, seeds: int) -> None:
        found: dict[tuple[str, float, str], dict[int, list[float]]] = {}
        for (fill, scene, seed, angle), scores in measured.items():
            if scene in scenes and seed < seeds:
                for metric, value in scores.items():
                    if value is not None and np.isfinite(value):
                        found.setdefault((fill, angle, metric), {}).setdefault(scene, []).append(value)
        self.seeds = seeds
        self._means = {
            at: {scene: float(np.mean(values)) for scene, values in scenes.items()}
            for at, scenes in found.items()
        }
        self.angles = sorted({angle for _, angle, _ in found})
        self.fills = [fill for fill in fills if any(fill == known for known, _, _ in found)]

    def of(self, fill: str, angle: float, metric: str) -> dict[int, float]:
        """Return scene -> mean over seeds."""
        return self._means.get((fill, angle, metric), {})

    def mean(self, fill: str, angle: float, metric: str) -> float | None:
        """Return the mean over scenes; None if nothing was measured."""
        found = self.of(fill, angle, metric)
        return float(np.mean([*found.values()])) if found else None

    def gain(self, fill: str, other: str, angle: float, metric: str) -> list[float] | None:
        """Return the mean difference over scenes with its 95 % interval; None for a fill to itself."""
        one, two = self.of(fill, angle, metric), self.of(other, angle, metric)
        gains = np.array([one[scene] - two[scene] for scene in one if scene in two])
        return None if fill == other else with_interval(gains)

    @property
    def counted(self) -> str:
        """Return the number of scenes and seeds in words."""
        scenes = {scene for at, means in self._means.items() if at[2] == "psnr_hole" for scene in means}
        return f"{len(scenes)} scenes, {self.seeds} seed{'s' if self.seeds > 1 else ''}"


def tables(name: str, values: Values, run: Run, *, by_angle: bool) -> list[Table]:
    """Return one table per angle or per metric, and rows against rows; one table of all for two angles."""
    if not values.fills:
        return []
    if by_angle:
        return [*(angle_table(name, values, angle, run) for angle in values.angles), pairs(name, values, run)]
    if len(values.angles) <= 2:
        return [merged(name, values, run)]
    return [*(metric_table(name, values, metric, run) for metric in BY_ANGLE), pairs(name, values, run)]


def angle_table(name: str, values: Values, angle: float, run: Run) -> Table:
    """Return all metrics of all fills at an angle, and differences to the first fill."""
    first = values.fills[0]
    rows: list[list[Cell]] = []
    for fill in values.fills:
        means: list[Cell] = [values.mean(fill, angle, metric) for metric in METRICS]
        rows.append([fill, *means, *(values.gain(fill, first, angle, metric) for metric in COMPARED)])
    columns = [Column(""), *(Column(metric, ".3g") for metric in METRICS)]
    columns += [Column(f"Δ {metric}") for metric in COMPARED]
    title = f"{angle:g}°, {values.counted} (differences to {first})"
    return Table(f"{name}-{angle:g}", title, columns, rows, run)


def metric_table(name: str, values: Values, metric: str, run: Run) -> Table:
    """Return one metric of all fills at all angles, as differences to the first fill."""
    rows = [
        [fill, *(_value_or_gain(values, fill, angle, metric) for angle in values.angles)]
        for fill in values.fills
    ]
    columns = [Column(""), *(Column(f"{angle:g}°", ".3g") for angle in values.angles)]
    title = f"{metric}, {values.counted} (first row: values; others: differences to it)"
    return Table(f"{name}-{metric}", title, columns, rows, run)


def merged(name: str, values: Values, run: Run) -> Table:
    """Return hole PSNR of the true view and of the clip's own content in one table, for one or two angles."""
    places = [(metric, angle) for metric in ("psnr_hole", "returned_hole") for angle in values.angles]
    rows: list[list[Any]] = [
        [fill, *(_value_or_gain(values, fill, angle, metric) for metric, angle in places)]
        for fill in values.fills
    ]
    rows += [
        [f"{one} against {other}", *(values.gain(one, other, angle, metric) for metric, angle in places)]
        for one, other in _pairs(values)
    ]
    columns = [Column(""), *(Column(f"{metric} {angle:g}°", ".3g") for metric, angle in places)]
    title = f"{values.counted} (first row: values; others: differences to it)"
    return Table(name, title, columns, rows, run)


def pairs(name: str, values: Values, run: Run) -> Table:
    """Return the differences of rows to each other."""
    rows = [
        [one, other, metric, *(values.gain(one, other, angle, metric) for angle in values.angles)]
        for one, other in _pairs(values)
        for metric in ("psnr_hole", "ssim_hole", "returned_hole", "agreement")
    ]
    columns = [Column("fill"), Column("against"), Column("metric")]
    columns += [Column(f"{angle:g}°") for angle in values.angles]
    return Table(f"{name}-pairs", f"Rows against rows, {values.counted}", columns, rows, run)


def _pairs(values: Values) -> list[tuple[str, str]]:
    return [(one, other) for one, other in PAIRS if one in values.fills and other in values.fills]


def _value_or_gain(values: Values, fill: str, angle: float, metric: str) -> Cell:
    gain = values.gain(fill, values.fills[0], angle, metric)
    return gain if gain is not None else values.mean(fill, angle, metric)
