"""Motion transfer on MotionScenes, whose true transfers are known, with the embedded base.

    python benchmarks/motion.py --references 12 --targets 4 --seeds 3 --device cuda --processes 24
    python benchmarks/motion.py --references 1 --targets 1 --seeds 1 --rows main

References of four categories (camera, single, multiple, figure) are given to targets that differ in their
bodies' colours (target 0), in the kind of body as well (1), in room, light and lens (2), or in position and
depth (3). The base is shown the target's first frame and its caption. Adapters are tuned on one reference,
with the settings of `recapture transfer`; rows that are called by a setting change it alone. Every seed draws
another tuning and other noise; all rows of a target and seed start from the same noise.

Motion is scored against the nearer of two truths (the same way in the picture, or in the world), pixels
against the first. Nothing is dropped: a body that has vanished rests. Gains are paired with the base's sample
of the same target and seed; their intervals are bootstraps over references, whose targets and seeds are drawn
again within each. Each cell is one file in --folder; a call measures what is missing there. --rows: `main`,
`ablations`, `all`, or names.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.motion_cells import Setting, measure, stored
from bench.motion_plan import ABLATIONS, MAIN, ROWS, cell_name, jobs_of
from bench.parallel import share
from bench.tables import PAGES, PLACE, Cell, Column, Run, Table, add_write, publish, this_run
from recapture.conf.fill import FillConfig
from recapture.datasets.scenes.motion_scenes import CATEGORIES, Category
from recapture.tasks.engine.model_revision import model_revision

METRICS = (
    *("direction", "amplitude", "end", "timing", "kept", "assignment", "psnr_body", "psnr_elsewhere"),
    *("leak_colour", "leak_layout", "fidelity"),
)
DRAWS = 2000
SECONDS = {"cpu": "cpu_seconds", "cuda": "seconds"}  # a CPU may be shared, a GPU is not

Scores = np.ndarray  # [references, targets x seeds]


def main() -> None:
    given = arguments()
    rows = chosen(given.rows)
    revision = model_revision("--base", given.base)[:8]
    folder = Path(given.folder) / f"{given.frames}x{given.side}-{given.steps}-{revision}"
    folder.mkdir(parents=True, exist_ok=True)
    found = stored(folder, given.targets)
    jobs = jobs_of(rows, given.categories, given.references, given.seeds, set(found))
    if given.machine:  # only tables, of cells from elsewhere
        jobs = []
    setting = Setting(
        base=given.base,
        frames=given.frames,
        side=given.side,
        references=given.references,
        targets=given.targets,
        steps=given.steps,
        folder=str(folder),
        ends=time.time() + given.seconds,
    )
    started = time.time()
    for number, names in enumerate(
        share(partial(measure, setting), jobs, workers=given.processes, device=given.device), start=1
    ):
        print(f"{time.time() - started:.0f} s: {number} of {len(jobs)} jobs, {', '.join(names)}", flush=True)
    cells = stored(folder, given.targets)
    run = this_run(device="cpu" if given.machine else given.device, base=given.base)
    if given.machine:
        run = replace(run, machine=given.machine)
    name = given.write or "motion"
    whole = "All categories" if len(given.categories) > 1 else f"Category {given.categories[0]}"
    tables = [table(name, whole, given.categories, rows, cells, given, run)]
    if len(given.categories) > 1:
        tables += [
            table(f"{name}-{category}", f"Category {category}", [category], rows, cells, given, run)
            for category in given.categories
        ]
    if given.write:
        make_places([one.name for one in tables])
    publish(tables, write=given.write is not None)


def make_places(names: Sequence[str]) -> None:
    """Append a place for each table that no page has one for to motion.md."""
    page = PAGES / "motion.md"
    there = {place["name"] for one in PAGES.glob("*.md") for place in PLACE.finditer(one.read_text())}
    missing = [name for name in names if name not in there]
    page.write_text(
        page.read_text() + "".join(f"\n<!-- table {name}: generated -->\n<!-- end -->\n" for name in missing)
    )


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--categories", nargs="+", choices=CATEGORIES, default=list(CATEGORIES))
    parser.add_argument("--references", type=int, default=12, help="Of each category, from its first.")
    parser.add_argument("--targets", type=int, default=4, help="Of each reference, from its first.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, choices=(17, 33), default=17)
    parser.add_argument("--side", type=int, choices=(96, 128), default=128)
    parser.add_argument("--steps", type=int, default=FillConfig().steps, help="Of sampling.")
    parser.add_argument("--rows", nargs="+", default=["main"], metavar="ROW")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Start no job after this time.")
    parser.add_argument("--folder", default="outputs/benchmarks/motion")
    parser.add_argument("--machine", help="Measure nothing; name the machine that the cells are from.")
    add_write(parser, "motion")
    return parser.parse_args(words)


def chosen(names: Sequence[str]) -> list[str]:
    """Return the names of rows. Raises SystemExit for one that does not exist."""
    groups = {"main": list(MAIN), "ablations": list(ABLATIONS), "all": list(ROWS)}
    found = [row for name in names for row in groups.get(name, [name])]
    unknown = sorted(set(found) - set(ROWS))
    if unknown:
        raise SystemExit(f"--rows: unknown {', '.join(unknown)}; use {', '.join((*groups, *ROWS))}")
    wanted = {"base", *found}
    return [name for name in ROWS if name in wanted]


def table(
    name: str,
    title: str,
    categories: Sequence[Category],
    rows: Sequence[str],
    cells: dict[str, dict[str, Any]],
    given: argparse.Namespace,
    run: Run,
) -> Table:
    """Return means of every metric, and the gain in direction over the base and over a wrong reference."""
    lines: list[Sequence[Cell]] = []
    wrong = "wrong" if "wrong" in rows else None
    for row in rows:
        values = {metric: scores(cells, row, categories, given, metric) for metric in METRICS}
        direction = values["direction"]
        gains: list[Cell] = [None, None]
        for place, other in enumerate(("base", wrong)):
            if other is not None and row != other:
                gains[place] = gained(direction - scores(cells, other, categories, given, "direction"))
        seconds = [
            cells[at]["tuning"].get(SECONDS[given.device]) for at in named(cells, row, categories, given)
        ]
        spent = [one for one in seconds if one is not None]
        lines.append(
            [
                ROWS[row].title,
                *(mean(values[metric]) for metric in METRICS),
                *gains,
                float(np.mean(spent)) if spent else None,
                len(named(cells, row, categories, given)),
            ]
        )
    columns = [Column(""), *(Column(metric, ".3g") for metric in METRICS)]
    columns += [Column("Δ direction to base"), Column("Δ direction to another reference")]
    clock = "tuning, CPU s" if given.device == "cpu" else "tuning, s"
    columns += [Column(clock, ".3g"), Column("cells", "d")]
    size = (
        f"{given.references} references of each category, {given.targets} targets, {given.seeds} seeds, "
        f"{given.frames} frames of {given.side}²"
    )
    return Table(name, f"{title}; {size}", columns, lines, run)


def named(
    cells: dict[str, dict[str, Any]], row: str, categories: Sequence[Category], given: argparse.Namespace
) -> list[str]:
    """Return the names of a row's cells that were measured."""
    every = [
        cell_name(row, category, reference, seed)
        for category in categories
        for reference in range(given.references)
        for seed in range(given.seeds)
    ]
    return [name for name in every if name in cells]


def scores(
    cells: dict[str, dict[str, Any]],
    row: str,
    categories: Sequence[Category],
    given: argparse.Namespace,
    metric: str,
) -> Scores:
    """Return a metric [references of all categories, seeds x targets]; NaN where there is none."""
    lines = []
    for category in categories:
        for reference in range(given.references):
            line = []
            for seed in range(given.seeds):
                cell = cells.get(cell_name(row, category, reference, seed), {"targets": {}})
                targets = [cell["targets"].get(str(target), {}) for target in range(given.targets)]
                line += [one.get(metric, np.nan) for one in targets]
            lines.append(line)
    return np.array(lines, dtype=float)


def mean(values: Scores) -> float | None:
    """Return the mean of what is there."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def gained(gains: Scores) -> list[float] | None:
    """Return the mean gain, and its 95 % bootstrap interval over references and what is in each."""
    kept = [line[np.isfinite(line)] for line in gains]
    kept = [line for line in kept if len(line)]
    if not kept:
        return None
    random = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        drawn = random.integers(len(kept), size=len(kept))
        means.append(np.mean([random.choice(kept[place], len(kept[place])).mean() for place in drawn]))
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(np.mean([line.mean() for line in kept])), float(low), float(high)]


if __name__ == "__main__":
    main()
