"""Whether a fill loses to the classical one on any family of test scenes at any angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.compared_fills import CLASSICAL, At, Scores
from bench.tables import Cell, Column, Run, Table, with_interval

ALLOWED = 0.3  # dB
METRIC = "psnr_hole"


@dataclass(frozen=True)
class Compared:
    """A fill beside the classical one, on the scenes of one family at one angle."""

    family: str
    angle: float
    hole_share: float
    classical: float  # dB in holes
    gains: np.ndarray  # of the fill in dB, one per scene; NaN where it was not measured
    seam: float  # mean gain on the holes' boundary in dB

    @property
    def place(self) -> str:
        """Return family and angle in words; holes of other shapes have no angle."""
        return f"{self.family} at {self.angle:g} degrees" if self.angle else f"{self.family} holes"

    @property
    def lost(self) -> str:
        """Return what is wrong, empty if nothing is."""
        if not len(self.gains) or np.isnan(self.gains).any():
            return f"{self.place}: not measured"
        if self.gains.mean() < -ALLOWED:
            return f"{self.place}: {-self.gains.mean():.2f} dB below the classical fill in holes"
        return ""


def compared(scores: Mapping[At, Scores], fill: str) -> list[Compared]:
    """Return one comparison per family and angle, in the order of the scores."""
    groups: dict[tuple[str, float], list[Scores]] = {}
    for (family, angle, _), one in scores.items():
        groups.setdefault((family, angle), []).append(one)

    def gains(cases: Sequence[Scores], metric: str) -> np.ndarray:
        mine = [one[fill][metric] if fill in one else float("nan") for one in cases]
        return np.array(mine) - [one[CLASSICAL][metric] for one in cases]

    def mean(cases: Sequence[Scores], metric: str) -> float:
        return float(np.mean([one[CLASSICAL][metric] for one in cases]))

    return [
        Compared(
            family,
            angle,
            mean(cases, "hole_share"),
            mean(cases, METRIC),
            gains(cases, METRIC),
            float(gains(cases, "psnr_seam").mean()),
        )
        for (family, angle), cases in groups.items()
    ]


def losses(found: Sequence[Compared]) -> list[str]:
    """Return one line for each family and angle at which the fill loses, or was not measured."""
    return [one.lost for one in found if one.lost]


def table(name: str, found: Sequence[Compared], run: Run) -> Table:
    """Return the comparison as a table, with a mark where the fill loses."""
    rows: list[list[Cell]] = [
        [
            one.family,
            f"{one.angle:g}" if one.angle else "",
            len(one.gains),
            100 * one.hole_share,
            one.classical,
            one.classical + float(one.gains.mean()),
            with_interval(one.gains),
            one.seam,
            "loses" if one.lost else "",
        ]
        for one in sorted(found, key=lambda one: not one.angle)
    ]
    columns = [
        *(Column("family"), Column("angle"), Column("scenes", "d"), Column("holes, %", ".0f")),
        *(Column("classical", ".2f"), Column("default", ".2f"), Column("Δ psnr_hole")),
        *(Column("Δ psnr_seam", "+.2f"), Column("verdict")),
    ]
    return Table(name, "", columns, rows, run)
