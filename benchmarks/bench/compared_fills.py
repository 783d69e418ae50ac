"""Fills of held-out scenes under every way to composite them, measured once and kept for several tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from bench.cached_rows import CachedRows, setting_key
from bench.families import HOLES, MOVED, Case, case
from bench.held_out import SURFACE, decibel, default_filler, gradient
from bench.parallel import share
from recapture.conf.fill import FillConfig
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.compositing import Compositing, Kind, kept_pixels
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.membrane import membrane
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.rim import mixed_rim
from recapture.models.fill.view import RenderedView
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.metrics.image import seam_ring
from recapture.models.wan.load import Base, load_base

ANGLES = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0)
BASE_AT = (10.0, 20.0, 45.0)  # angles at which `base` is compared, too
CLASSICAL, METHODS = "classical", ("base", "inverse")
MEMBRANE: Kind = "membrane"
FEATHER: Kind = "feather"
NONE: Kind = "none"
WAYS = (
    MEMBRANE,
    "membrane, mixed rim kept",
    "membrane, all kept",
    "membrane, frame by frame",
    FEATHER,
    NONE,
)
SEAM = 8  # width of the ring around the holes' boundary in pixels
At = tuple[str, float, int]
Scores = dict[str, dict[str, float]]  # fill, or fill and way -> metric -> value


@dataclass(frozen=True)
class Rows:
    """What was measured: (family, angle, scene) -> scores, and when."""

    scores: dict[At, Scores]
    measured_on: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `measured`."""
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--scenes", type=int, default=5, help="per family and angle")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/compared_fills.jsonl"))


def measured(given: argparse.Namespace) -> Rows:
    """Measure what is not measured yet, and return the rows of all families and angles."""
    setting = argparse.Namespace(base=given.base)
    rows = CachedRows(given.rows, setting_key(__file__, setting))
    wanted = [
        (family, angle, number)
        for number in range(given.scenes)
        for family, angle in (*product(MOVED, ANGLES), *((shape, 0.0) for shape in HOLES))
    ]
    todo = [(given.base, *at) for at in wanted if at not in rows]
    for at, scores in share(measure, todo, workers=given.workers):
        rows.add(at, scores)
    return Rows({at: rows[at] for at in wanted}, rows.measured_on())


def measure(job: tuple[str, str, float, int]) -> tuple[At, Scores]:
    """Return the scores of every fill of one case."""
    path, family, angle, number = job
    given = case(family, angle, number)
    view, source, caption = given.view, given.source, given.caption
    found: Scores = {}
    classical = ClassicalFiller(SURFACE).fill(view, source, caption=caption, seed=0)
    ring = seam_ring(view.visible, SEAM)
    found[CLASSICAL] = score(classical, given, ring)
    gathered = propagate_static(view, source, surface=SURFACE)
    for method in METHODS:
        if method == "base" and angle not in (0.0, *BASE_AT):
            continue
        filler = filler_of(path, method)
        generated = filler.fill_both(gathered, caption=caption, seed=0).unpasted
        for way, result in composites(generated, given, gathered):
            found[f"{method}, {way}"] = score(result, given, ring)
    return (family, angle, number), found


@cache
def _base(path: str) -> Base:
    return load_base(path)


def filler_of(path: str, method: str) -> DiffusionFiller:
    """Return a job's filler of this method."""
    if method == "base":
        return default_filler(_base(path))
    settings = FillConfig().inverse
    chosen = settings.model_dump(exclude={"mask"}, exclude_none=True)
    return default_filler(_base(path), make_solver=inverse_solver(kind=settings.mask, seed=0, **chosen))


def composites(generated: Tensor, given: Case, gathered: RenderedView) -> Iterator[tuple[str, Tensor]]:
    """Yield (way, video) of each of WAYS."""
    view = given.view
    kept = kept_pixels(view, gathered, given.source)
    rim = kept | mixed_rim(view.video, view.depth, view.visible)
    joined = Compositing(MEMBRANE)
    yield MEMBRANE, joined(generated, gathered.video, kept)
    yield "membrane, mixed rim kept", joined(generated, gathered.video, rim)
    yield "membrane, all kept", joined(generated, gathered.video, gathered.visible)
    difference = gathered.video - generated
    alone = torch.cat([membrane(d[None], k[None]) for d, k in zip(difference, kept)])
    single = torch.where(kept[:, None], gathered.video, (generated + alone).clamp(-1, 1))
    yield "membrane, frame by frame", single
    yield FEATHER, Compositing(FEATHER, 4)(generated, gathered.video, gathered.visible)
    yield NONE, generated


def score(result: Tensor, given: Case, ring: Tensor) -> dict[str, float]:
    """Return PSNRs against the truth; `steady_seam` is that of the differences between frames."""
    result, truth = result.clamp(-1, 1), given.truth
    visible = given.view.visible
    error = (result - truth).square().mean(1)
    moved = (result.diff(dim=0) - truth.diff(dim=0)).square().mean(1)
    holes, seam = ~visible & given.inside, ring & given.inside
    return {
        "psnr_hole": decibel(error[holes]),
        "psnr_visible": decibel(error[visible & given.inside]),
        "psnr_seam": decibel(error[seam]),
        "psnr": decibel(error[given.inside]),
        "steady_seam": decibel(moved[seam[1:] & seam[:-1]]),
        "sharpness_hole": float(gradient(result)[holes].mean() / gradient(truth)[holes].mean()),
        "hole_share": float(holes.float().mean()),
    }


def mean_of(rows: Sequence[Scores], fill: str, metric: str) -> float:
    """Return the mean over cases, NaN if there is none."""
    values = [scores[fill][metric] for scores in rows if fill in scores]
    return sum(values) / len(values) if values else float("nan")
