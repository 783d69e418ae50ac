"""The tables of tuning.py from its rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from embedded_base import interval

METRICS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "agreement", "returned_hole")
COMPARED = ("psnr_hole", "ssim_hole", "temporal_hole", "returned_hole")
Values = dict[
    tuple[str, float, str], dict[int, list[float]]
]  # fill, angle, metric -> scene -> a value a seed


def print_tables(path: Path, fills: Sequence[str], scenes: range, seeds: int) -> None:
    """Print a table for each angle with differences to the base, one for each metric, rows against rows."""
    values: Values = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        fill, scene, seed, angle, scores = json.loads(line)
        if scene in scenes and seed < seeds:
            for metric, value in scores.items():
                if value is not None and np.isfinite(value):
                    values[fill, angle, metric][scene].append(value)
    angles = sorted({angle for _, angle, _ in values})
    fills = [fill for fill in fills if any((fill, angle, "psnr_hole") in values for angle in angles)]
    for angle in angles:
        count = len(values[fills[0], angle, "psnr_hole"])
        print(f"### {angle:g}°, {count} scenes, {seeds} seeds (differences to {fills[0]})\n")
        print("| | " + " | ".join(METRICS) + " | " + " | ".join(f"Δ {m}" for m in COMPARED) + " |")
        print("|---|" + "---:|" * (len(METRICS) + len(COMPARED)))
        for fill in fills:
            cells = [cell(values, fill, angle, metric) for metric in METRICS]
            cells += [gain(values, fill, fills[0], angle, metric) for metric in COMPARED]
            print(f"| {fill} | " + " | ".join(cells) + " |")
        print()
    for metric in ("psnr_hole", "ssim_hole", "agreement", "returned_hole"):
        print(f"### {metric} by angle, differences to {fills[0]}\n")
        print("| | " + " | ".join(f"{angle:g}°" for angle in angles) + " |")
        print("|---|" + "---:|" * len(angles))
        for fill in fills:
            cells = [
                gain(values, fill, fills[0], angle, metric) or cell(values, fill, angle, metric)
                for angle in angles
            ]
            print(f"| {fill} | " + " | ".join(cells) + " |")
        print()
    for one, other in (
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
    ):
        if one in fills and other in fills:
            print(f"\n{one}, against {other}:\n")
            for metric in ("psnr_hole", "ssim_hole", "returned_hole", "agreement"):
                found = [(angle, gain(values, one, other, angle, metric)) for angle in angles]
                print(f"- {metric}: " + "; ".join(f"{angle:g}° {text}" for angle, text in found if text))


def cell(values: Values, fill: str, angle: float, metric: str) -> str:
    """Return the mean over scenes of the mean over seeds."""
    found = [np.mean(seeds) for seeds in values[fill, angle, metric].values()]
    return f"{np.mean(found):.3g}" if found else ""


def gain(values: Values, fill: str, other: str, angle: float, metric: str) -> str:
    """Return the mean difference over scenes with its 95 % bootstrap interval."""
    one, two = values[fill, angle, metric], values[other, angle, metric]
    gains = np.array([np.mean(one[scene]) - np.mean(two[scene]) for scene in one if scene in two])
    if fill == other or not len(gains):
        return ""
    low, high = interval(gains)
    return f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
