"""What the static point cloud closes of holes, at what PSNR, and what it does to the fill.

    python benchmarks/static_cloud.py --clips 12
    python benchmarks/static_cloud.py fill --clips 2     # the default fill, on fewer clips
    python benchmarks/static_cloud.py cost               # at 480x832, in CPU seconds

Held-out scenes (bench/cloud_cases.py), 17 frames of 64x64, an orbit of 20 degrees. `frames` looks at the
frames 4 and 12 before and after, `cloud` at one point cloud of the clip, `cloud, then frames` at both. A clip
takes about 2 CPU seconds per kind of depth, and 15 more in the stage fill; those that were measured by an
earlier call with the same sources are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.cached_rows import CachedRows, setting_key
from bench.cloud_cases import CAMERAS, DEPTHS, FAMILIES, CloudCase, cloud_case
from bench.cloud_cost import cost_table
from bench.compared_fills import filler_of
from bench.held_out import SURFACE, decibel
from bench.parallel import share
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.conf.fill import FillConfig
from recapture.models.fill.classical import fill_classical
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView

WAYS = ("none", "frames", "cloud", "cloud, then frames")
At = tuple[str, str, str, str, int]  # stage, family, camera, depth, number
Scores = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("holes", "fill", "cost"), nargs="?", default="holes")
    parser.add_argument("--clips", type=int, default=12, help="per family, camera and kind of depth")
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/static_cloud.jsonl"))
    add_write(parser, "static_cloud")
    given = parser.parse_args()
    name = f"{given.write or 'static_cloud'}-{given.stage}"
    if given.stage == "cost":
        publish([cost_table(name, this_run())], write=given.write is not None)
        return
    rows = CachedRows(given.rows, setting_key(__file__, argparse.Namespace(base=given.base)))
    depths = DEPTHS if given.stage == "holes" else ("exact", "model")
    every = product(range(given.clips), FAMILIES, CAMERAS, depths)
    wanted = [(given.stage, family, camera, depth, number) for number, family, camera, depth in every]
    todo = [(given.base, *at) for at in wanted if at not in rows]
    for at, scores in share(measure, todo, workers=given.workers):
        rows.add(at, scores)
        print(*at, flush=True)
    table = holes_table if given.stage == "holes" else fill_table
    base = given.base if given.stage == "fill" else None
    run = this_run(base=base, measured_on=rows.measured_on())
    publish([table(name, {at: rows[at] for at in wanted}, run)], write=given.write is not None)


def measure(job: tuple[str, str, str, str, str, int]) -> tuple[At, Scores]:
    """Return the scores of one clip."""
    path, stage, *at = job
    family, camera, depth, number = at
    case = cloud_case(family, camera, depth, number)  # type: ignore[arg-type]
    views = gathered(case)
    inside = ~case.view.visible & torch.isfinite(case.truth.depth)
    found: Scores = {"holes": 100 * float(inside.float().mean())}
    for way in WAYS:
        if stage == "fill" and way == "cloud, then frames":
            continue
        video = (classical if stage == "holes" else default_fill)(case, views[way], path)
        found[f"{way}, filled"] = decibel(error_of(video, case)[inside])
        if way == "none":
            alone = video
    open_ = inside & ~views["none"].visible  # cracks are closed by all
    for way in WAYS[1:]:
        closed = views[way].visible & open_
        found[f"{way}, closed"] = 100 * float(closed.sum() / inside.sum().clamp_min(1))
        found[f"{way}, in closed"] = _psnr(error_of(views[way].video, case)[closed])
        found[f"{way}, alone"] = _psnr(error_of(alone, case)[closed])
    return (stage, family, camera, depth, number), found  # type: ignore[return-value]


def gathered(case: CloudCase) -> dict[str, RenderedView]:
    """Return the view after each of WAYS."""
    view, source = case.view, case.source
    cloud = propagate_static(view, source, surface=SURFACE, by="cloud")
    return {
        "none": propagate_static(view, None, surface=SURFACE),
        "frames": propagate_static(view, source, surface=SURFACE, by="frames"),
        "cloud": cloud,
        "cloud, then frames": propagate_static(cloud, source, surface=SURFACE, by="frames"),
    }


def classical(case: CloudCase, view: RenderedView, path: str) -> Tensor:
    """Return the classical fill of what is still open."""
    del case, path
    return fill_classical(view, None, surface=SURFACE)


def default_fill(case: CloudCase, view: RenderedView, path: str) -> Tensor:
    """Return the fill of the default method."""
    kept = kept_pixels(case.view, view, case.source)
    filler = filler_of(path, FillConfig().method)
    return filler.fill_both(view, caption=case.caption, seed=0, kept=kept).video.clamp(-1, 1)


def error_of(video: Tensor, case: CloudCase) -> Tensor:
    return (video - case.truth.video).square().mean(1)


def _psnr(error: Tensor) -> float:
    return decibel(error) if error.numel() else float("nan")


def holes_table(name: str, found: dict[At, Scores], run: Run) -> Table:
    """Return one row per family, camera and kind of depth, and the means over families."""
    columns = [
        Column("camera"),
        Column("depth"),
        Column("scenes"),
        Column("clips", "d"),
        Column("holes, %", ".1f"),
    ]
    for way in WAYS[1:3]:
        columns += [Column(f"{way}: closes, %", ".1f"), Column(f"{way}: dB there", ".1f")]
        columns += [Column(f"inpainted there, {way}", ".1f")]
    columns += [Column(f"holes, dB: {way}", ".2f") for way in WAYS]
    columns += [Column("cloud against frames, dB"), Column("cloud against none, dB")]
    rows: list[list[Cell]] = []
    for camera, depth in product(CAMERAS, DEPTHS):
        for family in (*FAMILIES, "all"):
            clips = [
                scores
                for (_, of, by, kind, _), scores in found.items()
                if (by, kind) == (camera, depth) and family in (of, "all")
            ]
            row: list[Cell] = [camera, depth, family, len(clips), mean(clips, "holes")]
            for way in WAYS[1:3]:
                row += [mean(clips, f"{way}, {what}") for what in ("closed", "in closed", "alone")]
            row += [mean(clips, f"{way}, filled") for way in WAYS]
            rows.append([*row, gain(clips, "cloud", "frames"), gain(clips, "cloud", "none")])
    title = f"{len(found)} cases, 17 frames of 64x64, classical fill"
    return Table(name, title, columns, rows, run)


def fill_table(name: str, found: dict[At, Scores], run: Run) -> Table:
    """Return one row per camera and kind of depth."""
    ways = WAYS[:3]
    columns = [Column("camera"), Column("depth"), Column("clips", "d")]
    columns += [Column(f"holes, dB: {way}", ".2f") for way in ways]
    columns += [Column("cloud against frames, dB"), Column("cloud against none, dB")]
    rows: list[list[Cell]] = []
    for camera, depth in product(CAMERAS, ("exact", "model")):
        clips = [scores for (_, _, by, kind, _), scores in found.items() if (by, kind) == (camera, depth)]
        row: list[Cell] = [camera, depth, len(clips), *(mean(clips, f"{way}, filled") for way in ways)]
        rows.append([*row, gain(clips, "cloud", "frames"), gain(clips, "cloud", "none")])
    return Table(name, "17 frames of 64x64, default fill", columns, rows, run)


def mean(clips: Sequence[Scores], what: str) -> float:
    """Return the mean over the clips in which there is anything to measure."""
    values = np.array([scores[what] for scores in clips])
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def gain(clips: Sequence[Scores], way: str, other: str) -> list[float] | None:
    """Return what a way gains in holes, with its interval over clips."""
    return with_interval(np.array([one[f"{way}, filled"] - one[f"{other}, filled"] for one in clips]))


if __name__ == "__main__":
    main()
