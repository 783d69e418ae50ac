"""Latent masks and solvers for training-free inpainting, on held-out scenes with the embedded base.

    python benchmarks/inverse.py masks      # masks x solvers x transitions, to choose from; scenes 200...
    python benchmarks/inverse.py settings   # fills and settings of our solver, to choose from; scenes 200...
    python benchmarks/inverse.py solvers    # every solver under a binary and a continuous mask; scenes 0...
    python benchmarks/inverse.py report     # what was chosen against the rest; scenes 0...

17 frames of 128 x 128 seen from an orbit to the right by the full angle in every frame, Euler, the same
initial noise for every row. "Alone": the base gets its text-to-video input and thus nothing of the clip, so
that the solver does all the work; "native": the base's own inpainting input; "native + ...": both. Holes show
pull-push's continuation while they are encoded; in the stage `settings` Telea's, unless a row names another
fill or a solver. Nothing is propagated and nothing is pasted back. Rows that an earlier call measured with
the same settings are not measured again. Scenes are shared by --workers processes on --device. `report` takes
3,168 fills: minutes on a GPU, hours on one CPU core; --clips and --angles make it smaller.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.cached_rows import CachedRows, setting_key
from bench.held_out import CEILING, decibel, held_out, score
from bench.inverse_rows import BINARY, DEFAULT, STAGES, Row
from bench.inverse_tables import Measured, crossed_table, default_table, row_table
from bench.parallel import device, share
from bench.tables import Table, add_write, publish, this_run
from recapture.models.fill.view import RenderedView
from recapture.models.inverse.measurement import LatentMeasurement, build_measurement
from recapture.models.inverse.pixel_space import KnownPixels
from recapture.models.inverse.solvers import TransitionSolver, make_solver
from recapture.models.inverse.transitions import ddim
from recapture.models.metrics.image import seam_ring
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.sampling import Solver, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents, encode_video

REFERENCES = ("native", f"replacement, {BINARY}")
AGAINST = ("native, fresh noise", "native + binary", "alone: binary")  # what the default is compared with
CHOOSES = ("only", "skip", "clips", "seeds", "angles", "reference")  # only choose what is measured
Job = tuple[str, float, int, int, int, list[Row], float]


def main() -> None:
    given = arguments()
    make_rows, all_scenes, seeds, angles = STAGES[given.stage]
    rows = [row for row in make_rows() if not row.name.startswith(tuple(given.skip))]
    rows = [row for row in rows if not given.only or row.name.startswith(tuple(given.only))]
    scenes = all_scenes[: given.clips]
    seeds, angles = given.seeds or seeds, given.angles or angles
    measured = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    ends = time.time() + given.seconds
    jobs: list[Job] = []
    for angle, clip, seed in product(angles, scenes, range(seeds)):
        named = [*rows, Row(CEILING)] if seed == 0 else rows
        wanted = [row for row in named if (angle, clip, seed, row.name) not in measured]
        if wanted:
            jobs.append((given.base, angle, clip, seed, given.steps, wanted, ends))
    for found in share(measure_scene, jobs, workers=given.workers, device=given.device):
        for at, scores in found:
            measured.add(at, scores)
    named_rows = [(0, CEILING), *((seed, row.name) for seed in range(seeds) for row in rows)]
    results = []
    for angle in angles:
        whole = [clip for clip in scenes if all((angle, clip, *at) in measured for at in named_rows)]
        if whole:
            results.append(Measured(dict(measured.items()), angle, whole, seeds))
    publish(tables(given, results, [row.name for row in rows], measured), write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, help="Measure only the first scenes.")
    parser.add_argument("--only", nargs="+", help="Only rows whose names begin with one of these.")
    parser.add_argument("--skip", nargs="+", default=[], help="No rows whose names begin with one of these.")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--angles", type=float, nargs="+")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--reference", help="The row that differences refer to.")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/inverse.jsonl"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Start no scene after this time.")
    add_write(parser, "inverse")
    return parser.parse_args(words)


def tables(
    given: argparse.Namespace, results: list[Measured], rows: list[str], measured: CachedRows
) -> list[Table]:
    """Return the tables of a stage: one per angle, and what the stage compares besides."""
    run = this_run(device=given.device, base=given.base, measured_on=measured.measured_on())
    begin = f"{given.write or 'inverse'}-{given.stage}"
    reference = given.reference or next((row for row in rows if row in REFERENCES), rows[0])
    if given.stage == "masks":
        return [
            crossed_table(f"{begin}-{found.angle:g}-{metric}", found, rows, reference, metric, run)
            for found in results
            for metric in ("psnr_hole", "consistency")
        ]
    made = [row_table(f"{begin}-{found.angle:g}", found, rows, reference, run) for found in results]
    if given.stage == "report" and results and {DEFAULT, *AGAINST} <= {*rows}:
        made.append(default_table(f"{begin}-default", results, DEFAULT, AGAINST, run))
    return made


@cache
def loaded(path: str) -> Base:
    """Return the base on this process's device."""
    return load_base(path, device=device())


def measure_scene(job: Job) -> list[tuple[tuple[float, int, int, str], dict[str, float]]]:
    """Return ((angle, scene, seed, row), scores) of the rows of a job."""
    path, angle, clip, seed, steps, wanted, ends = job
    if time.time() > ends:
        return []
    base = loaded(path)
    view, source, truth, inside, caption = held_out(clip, "wide", angle)
    found = []
    measurements: dict[Any, tuple[LatentMeasurement, float]] = {}  # shared by rows that measure alike
    for row in wanted:
        if row.kind is not None and row.held_to not in measurements:
            begun = time.perf_counter()
            held_to = build(base, row, view, source.video, seed)
            measurements[row.held_to] = held_to, time.perf_counter() - begun
        measurement, measuring = measurements.get(row.held_to, (None, 0.0))
        begun = time.perf_counter()
        if row.name == CEILING:
            result = decode_latents(base.vae, encode_video(base.vae, truth)).clamp(-1, 1)
        else:
            result = fill(base, row, view, measurement, caption, seed, steps)
        result = result.detach().cpu()
        took = time.perf_counter() - begun + measuring
        scores = measure(result, truth, view, inside) | {"seconds": took}
        found.append(((angle, clip, seed, row.name), scores))
    return found


def build(base: Base, row: Row, view: RenderedView, source: Tensor, seed: int) -> LatentMeasurement:
    """Return the measurement that the row's solver holds the sample to."""
    assert row.kind is not None
    return build_measurement(
        base.vae,
        view.video,
        view.visible,
        kind=row.kind,
        fill=row.fill,
        source=source if row.kind == "source_probe" else None,
        channel_mean=row.channel_mean,
        seed=seed,
    )


def fill(
    base: Base,
    row: Row,
    view: RenderedView,
    measurement: LatentMeasurement | None,
    caption: str,
    seed: int,
    steps: int,
) -> Tensor:
    """Return the view [T, 3, H, W] in [-1, 1] as the row samples it, with nothing pasted back."""
    known = view.visible if row.native else torch.zeros_like(view.visible)
    solver: Solver | None = None
    if measurement is None and row.settings:
        generator = torch.Generator().manual_seed(seed)
        solver = TransitionSolver(
            lambda clean, step: torch.zeros_like(clean),
            transition=partial(ddim, eta=1.0),
            generator=generator,
        )
    elif measurement is not None:
        pixels = KnownPixels(base.vae, view.video.to(base.device), view.visible.to(base.device))
        solver = make_solver(row.solver, measurement, pixels=pixels, seed=seed, **row.settings)
    latents = sample(
        base,
        condition(base, grey_holes(view.video, known), known),
        encode_text(base, caption),
        scheduler=make_scheduler("euler", 2.0),
        steps=steps,
        generator=torch.Generator().manual_seed(seed),
        solver=solver,
    )
    return decode_latents(base.vae, latents).clamp(-1, 1)[0]


def measure(result: Tensor, truth: Tensor, view: RenderedView, inside: Tensor) -> dict[str, float]:
    """Return `score`, PSNR in the seam ring (16 pixels), and PSNR against the render where that is known."""
    scores = score(result, truth, view.visible, inside)
    error = (result - truth).square().mean(1)
    scores["psnr_seam"] = decibel(error[seam_ring(view.visible) & inside])
    scores["consistency"] = decibel((result - view.video).square().mean(1)[view.visible])
    return scores


if __name__ == "__main__":
    main()
