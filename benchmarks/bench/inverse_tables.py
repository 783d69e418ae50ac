"""The tables of inverse.py from its measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.held_out import CEILING
from bench.tables import Cell, Column, Run, Table, with_interval

METRICS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "psnr_seam", "consistency")
COMPARED = ("psnr_hole", "consistency")


@dataclass(frozen=True)
class Measured:
    """What was measured of some scenes at one angle."""

    values: Mapping[tuple[Any, ...], Mapping[str, float]]  # angle, scene, seed, row -> metric -> value
    angle: float
    scenes: Sequence[int]
    seeds: int

    @property
    def title(self) -> str:
        """Return angle and counts in words."""
        return f"{self.angle:g}°, {len(self.scenes)} scenes, {self.seeds} seeds"

    def of(self, row: str, metric: str) -> np.ndarray:
        """Return a row's mean over seeds, for each scene."""
        seeds = range(self.seeds if row != CEILING else 1)
        found = self.values
        return np.array(
            [
                np.mean([found[self.angle, scene, seed, row][metric] for seed in seeds])
                for scene in self.scenes
            ]
        )

    def gain(self, row: str, reference: str, metric: str) -> list[float] | None:
        """Return the mean difference to the reference row with its 95 % bootstrap interval."""
        return with_interval(self.of(row, metric) - self.of(reference, metric))


def row_table(name: str, found: Measured, rows: Sequence[str], reference: str, run: Run) -> Table:
    """Return means over scenes and seeds (of seconds the median), and differences to the reference."""
    cells: list[list[Cell]] = []
    for row in (CEILING, *rows):
        means: list[Cell] = [float(found.of(row, metric).mean()) for metric in METRICS]
        seconds = float(np.median(found.of(row, "seconds")))
        cells.append([row, *means, seconds, *(found.gain(row, reference, metric) for metric in COMPARED)])
    columns = [Column(""), *(Column(metric, ".3g") for metric in METRICS), Column("seconds", ".1f")]
    columns += [Column(f"Δ {metric}") for metric in COMPARED]
    return Table(name, f"{found.title} (differences to {reference})", columns, cells, run)


def crossed_table(
    name: str, found: Measured, rows: Sequence[str], reference: str, metric: str, run: Run
) -> Table:
    """Return the differences of the rows "mask, solver, noise", one line per mask."""
    parts = [(one[0], one[1:]) for one in (row.rsplit(", ", 2) for row in rows) if len(one) == 3]
    masks = list(dict.fromkeys(mask for mask, _ in parts))
    ways = list(dict.fromkeys(tuple(way) for _, way in parts))
    cells: list[list[Cell]] = []
    for mask in masks:
        line: list[Cell] = [mask]
        for way in ways:
            gain = found.gain(", ".join((mask, *way)), reference, metric) if (mask, [*way]) in parts else None
            mean, low, high = gain or (0.0, 0.0, 0.0)
            bold = "**" if low > 0 or high < 0 else ""
            line.append(f"{bold}{mean:+.2f}{bold}" if gain else None)
        cells.append(line)
    title = f"Δ {metric}, {found.title} (differences to {reference}; bold: the interval excludes 0)"
    return Table(name, title, [Column("mask"), *(Column(", ".join(way)) for way in ways)], cells, run)


def default_table(
    name: str, found: Sequence[Measured], default: str, others: Sequence[str], run: Run
) -> Table:
    """Return the differences of the default row to other rows at every angle."""
    cells: list[list[Cell]] = [
        [other, *(at.gain(default, other, metric) for at in found for metric in COMPARED)] for other in others
    ]
    columns = [Column(""), *(Column(f"{at.angle:g}°, {metric}") for at in found for metric in COMPARED)]
    title = f"{default} against other rows, {len(found[0].scenes)} scenes, {found[0].seeds} seeds"
    return Table(name, title, columns, cells, run)
