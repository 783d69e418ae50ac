"""The tables of inverse.py from its measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from embedded_base import interval
from inverse_rows import CEILING

COLUMNS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "psnr_seam", "consistency", "seconds")


@dataclass(frozen=True)
class Measured:
    """What was measured of some scenes at one angle."""

    values: Mapping[tuple, Mapping[str, float]]  # steps, angle, scene, seed, row -> metric -> value
    steps: int
    angle: float
    scenes: Sequence[int]
    seeds: int
    reference: str  # the row that differences are taken to

    def of(self, row: str, metric: str) -> np.ndarray:
        """Return a row's mean over seeds, for each scene."""
        seeds = range(self.seeds if row != CEILING else 1)
        found = self.values
        return np.array(
            [
                np.mean([found[self.steps, self.angle, scene, seed, row][metric] for seed in seeds])
                for scene in self.scenes
            ]
        )

    def gain(self, row: str, metric: str) -> tuple[float, float, float]:
        """Return the mean difference to the reference and its 95 % bootstrap interval."""
        gains = self.of(row, metric) - self.of(self.reference, metric)
        return float(gains.mean()), *interval(gains)


def print_table(found: Measured, rows: Sequence[str]) -> None:
    """Means over scenes and seeds (of seconds the median), and differences to the reference."""
    print(
        f"### {found.angle:g}°, {len(found.scenes)} scenes, {found.seeds} seeds "
        f"(differences to {found.reference})\n"
    )
    print("| | " + " | ".join(COLUMNS) + " | Δ psnr_hole | Δ consistency |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    for row in (CEILING, *rows):
        cells = [f"{found.of(row, column).mean():.3g}" for column in COLUMNS[:-1]]
        cells.append(f"{np.median(found.of(row, 'seconds')):.1f}")
        for metric in ("psnr_hole", "consistency"):
            mean, low, high = found.gain(row, metric)
            cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"| {row} | " + " | ".join(cells) + " |")
    print(flush=True)


def print_crossed(found: Measured, rows: Sequence[str], metric: str) -> None:
    """Differences of rows "mask, solver, noise", a mask a line; bold where the interval is apart from 0."""
    parts = [tuple(row.rsplit(", ", 2)) for row in rows if row.count(", ") >= 2]
    masks = list(dict.fromkeys(part[0] for part in parts))
    ways = list(dict.fromkeys(part[1:] for part in parts))
    print(f"Δ {metric}, {found.angle:g}°, {len(found.scenes)} scenes, {found.seeds} seeds:\n")
    print("| mask | " + " | ".join(", ".join(way) for way in ways) + " |")
    print("|---|" + "---:|" * len(ways))
    for mask in masks:
        cells = []
        for way in ways:
            cell = ""
            if (mask, *way) in parts:
                mean, low, high = found.gain(", ".join((mask, *way)), metric)
                cell = f"**{mean:+.2f}**" if low > 0 or high < 0 else f"{mean:+.2f}"
            cells.append(cell)
        print(f"| {mask} | " + " | ".join(cells) + " |")
    print(flush=True)
