"""Several seeds per item: which one to deliver without the truth, and what their spread says.

    python benchmarks/seeds.py --write

Held-out scenes filled once per seed with a job's default settings. Each way to choose delivers one fill of
each scene; `random` is the mean over all fills of a scene, `best` needs the truth, and `mean of all` is no
fill but their average picture. The correlation is Spearman's within a scene, between the score and PSNR in
holes, averaged over scenes: 1 means that the measure puts the fills of a scene in the order of the truth.
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from bench.cached_rows import CachedRows, setting_key
from bench.families import MOVED, case
from bench.held_out import SURFACE, decibel, default_filler
from bench.parallel import share
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.conf.fill import FillConfig
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.propagate import propagate_static
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.metrics.seed_scores import MEASURES, SeedScores
from recapture.models.wan.load import Base, load_base

ANGLES = (20.0, 45.0)
METHODS = ("inverse", "base")
WAYS = ("first", *MEASURES, "ranks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--scenes", type=int, default=3, help="per family and angle")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/seeds.jsonl"))
    add_write(parser, "seeds")
    given = parser.parse_args()
    setting = argparse.Namespace(base=given.base, seeds=given.seeds)
    rows = CachedRows(given.rows, setting_key(__file__, setting))
    wanted = [
        (method, family, angle, number)
        for number in range(given.scenes)
        for angle in ANGLES
        for family in MOVED
        for method in METHODS
    ]
    todo = [(given.base, given.seeds, *at) for at in wanted if at not in rows]
    for at, found in share(measured, todo, workers=given.workers):
        rows.add(at, found)
        print(*at, [round(one, 2) for one in found["psnr_hole"]], flush=True)
    tables = []
    for method in METHODS:
        scenes = [rows[at] for at in wanted if at[0] == method]
        title = f"fill.method {method}: {len(scenes)} scenes, {given.seeds} seeds each"
        tables += [table(method, title, scenes, this_run(base=given.base, measured_on=rows.measured_on()))]
    publish(tables, write=given.write is not None)


def table(method: str, title: str, scenes: list[dict[str, Any]], run: Run) -> Table:
    """Return the table of one method."""
    truth = np.array([one["psnr_hole"] for one in scenes])  # [scenes, seeds]
    at_random, best = truth.mean(axis=1), truth.max(axis=1)
    rows: list[list[Cell]] = [["random", float(at_random.mean()), None, None, None]]
    for way in WAYS:
        picked = np.array([one["chosen"][way] for one in scenes])
        got = truth[np.arange(len(scenes)), picked]
        order = None
        if way in MEASURES:
            found = [spearmanr(-np.array(one["scores"][way]), one["psnr_hole"]).statistic for one in scenes]
            order = float(np.nanmean(found))
        found_best = 100 * float((got == best).mean())
        rows.append([way, float(got.mean()), with_interval(got - at_random), order, found_best])
    rows.append(["best", float(best.mean()), with_interval(best - at_random), 1.0, 100.0])
    mean = np.array([one["psnr_of_mean"] for one in scenes])
    rows.append(["mean of all", float(mean.mean()), with_interval(mean - at_random), None, None])
    columns = [Column("chosen by"), Column("PSNR in holes, dB", ".2f"), Column("against random, dB")]
    columns += [Column("correlation", "+.2f"), Column("finds the best, %", ".0f")]
    spread = [one["spread"] for one in scenes]
    knows = [one["spread_tells"] for one in scenes]
    seconds = sum(one["cpu_seconds"] for one in scenes) / sum(len(one["psnr_hole"]) for one in scenes)
    notes = [
        f"Mean spread in holes {100 * float(np.mean(spread)):.1f} % of the range; its correlation with the "
        f"error of the first fill, pixel by pixel in holes, {float(np.mean(knows)):+.2f}.",
        f"CPU seconds per fill: {seconds:.1f}, as a batch.",
    ]
    return Table(f"seeds-{method}", title, columns, rows, run, notes)


@cache
def _base(path: str) -> Base:
    return load_base(path)


def measured(job: tuple[str, int, str, str, float, int]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the fills of one scene are worth, and what they score without the truth."""
    path, count, method, family, angle, number = job
    given, seeds = case(family, angle, number), range(count)
    view = propagate_static(given.view, given.source, surface=SURFACE)
    kept = kept_pixels(given.view, view, given.source)
    filler = default_filler(_base(path))
    if method == "inverse":
        settings = FillConfig().inverse
        chosen = settings.model_dump(exclude={"mask"}, exclude_none=True)
        maker = inverse_solver(kind=settings.mask, seed=0, noise_seeds=seeds, **chosen)
        filler = default_filler(_base(path), make_solver=maker)
    begun = time.process_time()
    made = filler.fill_seeds(view, caption=given.caption, seeds=seeds, kept=kept)
    seconds = time.process_time() - begun
    fills = torch.stack([one.video for one in made]).clamp(-1, 1)
    scores = SeedScores(count)
    spread = scores.add(
        fills, torch.stack([one.unpasted for one in made]), given.view.video, given.view.visible
    )
    holes = ~given.view.visible & given.inside
    errors = (fills - given.truth).square().mean(2)
    tells = spearmanr(spread[holes].numpy(), errors[0][holes].numpy()).statistic
    return (method, family, angle, number), {
        "psnr_hole": [decibel(one[holes]) for one in errors],
        "psnr_of_mean": decibel((fills.mean(0) - given.truth).square().mean(1)[holes]),
        "scores": scores.scores(),
        "chosen": {way: scores.best(way) for way in WAYS},
        "spread": scores.spread,
        "spread_tells": float(tells),
        "cpu_seconds": seconds,
    }


if __name__ == "__main__":
    main()
