"""How well the embedded base fills the holes of a camera move, against ground truth and simpler fills.

    python benchmarks/embedded_base.py --clips 24 --seeds 3

Held-out procedural scenes (seeds from 0; training used 1,000,000 on), 17 frames of 128 x 128, seen from an
orbit to the right by the full angle in every frame. Means over clips and seeds, and the difference to the
classical fill with 95 % bootstrap intervals over clips. A clip takes about a minute per angle on one core;
clips that were measured by an earlier call with the same settings are not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.cached_rows import CachedRows, setting_key
from bench.held_out import CEILING, SURFACE, default_filler, held_out, round_trip, score
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.datasets.scenes.sampling import Variety
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.wan.load import Base, load_base

METRICS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "psnr")
COMPARED = ("psnr_hole", "ssim_hole", "temporal_hole")
CLASSICAL = "classical"
CHOOSES = ("clips", "angles", "varieties")  # arguments that only choose what is measured
Scores = dict[str, list[dict[str, float]]]  # of one clip: fill -> one per seed


def main() -> None:
    given = arguments()
    rows = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    base = load_base(given.base)
    for variety in given.varieties:
        for angle in given.angles:
            for clip in range(given.clips):
                if (variety, angle, clip) not in rows:
                    rows.add((variety, angle, clip), measure(base, variety, angle, clip, given.seeds))
            found: list[Scores] = [rows[variety, angle, clip] for clip in range(given.clips)]
            share = np.mean([scores[CLASSICAL][0]["hole_share"] for scores in found])
            name = f"{given.write or 'embedded_base'}-{variety}-{angle:g}"
            title = f"{variety}, {angle:g}°, {given.clips} clips, {given.seeds} seeds"
            title += f" (holes {100 * share:.0f} %)"
            run = this_run(base=given.base, measured_on=rows.measured_on())
            publish([table(name, title, found, run)], write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 45.0])
    parser.add_argument("--varieties", choices=("classic", "wide"), nargs="+", default=["wide"])
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/embedded_base.jsonl"))
    add_write(parser, "embedded_base")
    return parser.parse_args(words)


def measure(base: Base, variety: Variety, angle: float, clip: int, seeds: int) -> Scores:
    """Return the scores of every fill of a clip."""
    view, source, truth, inside, caption = held_out(clip, variety, angle)
    found: Scores = defaultdict(list)
    ceiling = default_filler(base).compositing(round_trip(base, truth), view.video, view.visible)
    found[CEILING].append(score(ceiling, truth, view.visible, inside))
    for name, result, took in results(base, view, source, caption, seeds):
        found[name].append(score(result, truth, view.visible, inside) | {"seconds": took})
    return found


def results(
    base: Base, view: RenderedView, source: SourceView, caption: str, seeds: int
) -> Iterator[tuple[str, Tensor, float]]:
    """Yield (fill, video, seconds); once per seed for a fill that draws noise."""
    begun = time.perf_counter()
    classical = ClassicalFiller(SURFACE).fill(view, source, caption=caption, seed=0)
    yield CLASSICAL, classical, time.perf_counter() - begun
    known = view.visible[:, None]
    mean = (view.video * known).sum((0, 2, 3)) / known.sum()
    yield "mean colour", torch.where(known, view.video, mean.view(1, 3, 1, 1)), 0.0
    begun = time.perf_counter()
    gathered = propagate_static(view, source, surface=SURFACE)
    gathering = time.perf_counter() - begun
    default = default_filler(base)
    for name, filler, given, before in (
        ("base (default)", default, gathered, gathering),
        ("base, nothing propagated", default, view, 0.0),
        ("base, full noise", replace(default, noise_scale=1.0), gathered, gathering),
        ("base, 20 steps", replace(default, steps=20), gathered, gathering),
        ("base, one step", replace(default, steps=1), gathered, gathering),
    ):
        for seed in range(seeds):
            begun = time.perf_counter()
            kept = kept_pixels(view, given, source)
            filled = filler.fill_both(given, caption=caption, seed=seed, kept=kept)
            took = time.perf_counter() - begun + before
            yield name, filled.video, took
            if name.endswith("(default)"):
                yield "base, nothing pasted", filled.unpasted.clamp(-1, 1), took


def table(name: str, title: str, found: Sequence[Scores], run: Run) -> Table:
    """Return means, and differences to the classical fill with their intervals."""

    def of_clips(fill: str, metric: str) -> np.ndarray:
        return np.array([np.mean([scores[metric] for scores in clip[fill]]) for clip in found])

    rows: list[list[Cell]] = []
    for fill in (CLASSICAL, *(fill for fill in found[0] if fill != CLASSICAL)):
        cells: list[Any] = [float(of_clips(fill, metric).mean()) for metric in METRICS]
        for metric in COMPARED:
            gains = of_clips(fill, metric) - of_clips(CLASSICAL, metric)
            cells.append(None if fill == CLASSICAL else with_interval(gains))
        took = [scores["seconds"] for clip in found for scores in clip[fill] if "seconds" in scores]
        rows.append([fill, *cells, float(np.median(took)) if took else None])
    columns = [Column("fill"), *(Column(metric, ".3g") for metric in METRICS)]
    columns += [*(Column(f"Δ {metric}") for metric in COMPARED), Column("seconds", ".1f")]
    return Table(name, title, columns, rows, run)


if __name__ == "__main__":
    main()
