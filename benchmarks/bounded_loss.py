"""What faster sampling loses in holes, and what it saves: the choices of fill.speed.max_loss.

    python benchmarks/bounded_loss.py loss    # on held-out scenes with the embedded base
    python benchmarks/bounded_loss.py speed   # Wan2.1 1.3B's shape with random weights, on a GPU

`loss`: 17 frames of 128 x 128 from an orbit to the right by the full angle in every frame, 30 steps with
guidance 3, nothing propagated or pasted back; the same noise for every row. `base` and `inverse` are sampled
as the profile `wan` does it (UniPC, solver `replacement`), `inverse, renoised` as a job does by default
(Euler, fresh noise in every step). Rows that an earlier call measured are not measured again. Takes minutes
on a GPU with 15 workers.

`speed`: seconds of sampling alone, 30 guided steps of UniPC with compiled blocks. Random weights do not
decide as trained ones do, so each row computes as many steps as `loss` found for it with `base`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from bench.bounded_rows import EXACT, GUIDANCE, Row, rows, sampling_as
from bench.cached_rows import CachedRows, setting_key
from bench.held_out import decibel, default_filler, held_out, score
from bench.parallel import device, share
from bench.real_size import moving_hole, random_base, random_text
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.conf.speed import SpeedConfig
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.passes import counted_passes
from recapture.models.wan.sampling import Step, sample
from recapture.models.wan.schedulers import SchedulerName, make_scheduler
from recapture.models.wan.speed import speed_up_base
from recapture.models.wan.step_cache import Saving
from recapture.models.wan.text import Text

METHODS: dict[str, tuple[str | None, SchedulerName]] = {
    "base": (None, "unipc"),
    "inverse": ("replacement", "unipc"),
    "inverse, renoised": ("renoised", "euler"),
}
ANGLES = (10.0, 20.0, 30.0, 45.0)
SHOWN = ("psnr_hole", "sharpness_hole", "temporal_hole", "to_exact")
FIRST_SCENE = 3  # the rules of the cache were chosen on scenes before it
TIMED = (
    EXACT,
    "cache 0.1",
    "20 steps",
    "guidance to 0.6",
    "20 steps, cache 0.2",
    "15 steps, cache 0.2",
    "20 steps, cache 0.2, guidance to 0.6",
)
CHOOSES = ("stage", "clips", "angles", "only", "methods", "size", "frames", "side", "device")
Job = tuple[str, float, int, str, list[Row], float]


def main() -> None:
    given = arguments()
    measured = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    chosen = [row for row in rows() if not given.only or row.name in (EXACT, *given.only)]
    if given.stage == "loss":
        measure_all(given, measured, chosen)
    scenes = range(FIRST_SCENE, FIRST_SCENE + given.clips)
    values = dict(measured.items())
    run = this_run(device=given.device, base=given.base, measured_on=measured.measured_on())
    begin = given.write or "bounded_loss"
    if given.stage == "loss":
        tables = []
        for method in given.methods:
            name = f"{begin}-{method.replace(', ', '-')}"
            tables += [loss_table(name, method, values, chosen, scenes, given.angles, run)]
    else:
        tables = [speed_table(f"{begin}-speed", given, values, chosen, scenes)]
    publish([table for table in tables if table.rows], write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("loss", "speed"))
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--angles", type=float, nargs="+", default=ANGLES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--only", nargs="+", help="Only these rows, beside the exact one.")
    parser.add_argument("--size", default="1.3B", help="speed: the transformer's.")
    parser.add_argument("--frames", type=int, default=81, help="speed: frames of the clip.")
    parser.add_argument("--side", type=int, default=512, help="speed: its height and width.")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/bounded_loss.jsonl"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Start no scene after this time.")
    add_write(parser, "bounded_loss")
    return parser.parse_args(words)


def measure_all(given: argparse.Namespace, measured: CachedRows, chosen: Sequence[Row]) -> None:
    """Measure what is missing, scene by scene."""
    ends, jobs = time.time() + given.seconds, []
    scenes = range(FIRST_SCENE, FIRST_SCENE + given.clips)
    for clip, angle, method in product(scenes, given.angles, given.methods):
        wanted = [row for row in chosen if (method, angle, clip, row.name) not in measured]
        if wanted:
            jobs.append((given.base, angle, clip, method, wanted, ends))
    for found in share(measure_scene, jobs, workers=given.workers, device=given.device):
        for at, scores in found:
            measured.add(at, scores)


@cache
def loaded(path: str) -> Base:
    """Return the base on this process's device."""
    return load_base(path, device=device())


def measure_scene(job: Job) -> list[tuple[tuple[str, float, int, str], dict[str, float]]]:
    """Return ((method, angle, scene, row), scores) of the rows of a job, compared with the exact way."""
    path, angle, clip, method, wanted, ends = job
    if time.time() > ends:
        return []
    view, _, truth, inside, caption = held_out(clip, "wide", angle)
    holes, base = ~view.visible & inside, loaded(path)
    found, exact = [], None
    for row in [Row(EXACT), *(row for row in wanted if row.name != EXACT)]:
        filler = filler_of(base, method, row)
        with sampling_as(base, row) as work, counted_passes(base) as passes:
            filled = filler.fill_both(view, caption=caption, seed=row.seed).unpasted.clamp(-1, 1).cpu()
        exact = filled if exact is None else exact
        scores = score(filled, truth, view.visible, inside)
        scores |= {"passes": passes.count, "layers": work.layers}
        scores["to_exact"] = decibel((filled - exact).square().mean(1)[holes])
        if row.name == EXACT and row not in wanted:
            continue
        found.append(((method, angle, clip, row.name), scores))
    return found


def filler_of(base: Base, method: str, row: Row) -> DiffusionFiller:
    """Return the filler of a method, sampling as the row does."""
    solver, scheduler = METHODS[method]
    make = None if solver is None else inverse_solver(kind="area", solver=solver, channel_mean=True, seed=0)
    return default_filler(
        base,
        steps=row.steps,
        guidance_scale=GUIDANCE,
        scheduler=scheduler,
        make_solver=make,
        saving=row.saving,
    )


def loss_table(
    name: str,
    method: str,
    values: dict[Any, Any],
    chosen: Sequence[Row],
    scenes: Sequence[int],
    angles: Sequence[float],
    run: Run,
) -> Table:
    """Return the rows of a method: what they compute, and differences of PSNR in holes to the exact way."""
    named = [row.name for row in chosen]
    whole = [
        clip
        for clip in scenes
        if all((method, angle, clip, row) in values for angle in angles for row in named)
    ]

    def of(row: str, metric: str, only: Sequence[float] = angles) -> np.ndarray:
        """Return [scenes] means over angles."""
        return np.array(
            [np.mean([values[method, angle, clip, row][metric] for angle in only]) for clip in whole]
        )

    cells: list[list[Cell]] = []
    for row in named if whole else []:
        line: list[Cell] = [row, of(row, "passes").mean()]
        line += [100 * of(row, "layers").mean() / of(EXACT, "layers").mean()]
        line += [with_interval(of(row, "psnr_hole") - of(EXACT, "psnr_hole"))]
        for angle in angles:
            gained = of(row, "psnr_hole", [angle]) - of(EXACT, "psnr_hole", [angle])
            line.append(with_interval(gained))
        line += [of(row, metric).mean() for metric in SHOWN]
        cells.append(line)
    columns = [Column(""), Column("passes", ".1f"), Column("work, %", ".0f"), Column("Δ psnr_hole")]
    columns += [Column(f"Δ at {angle:g}°") for angle in angles]
    columns += [Column("psnr_hole", ".2f"), Column("sharpness_hole", ".2f"), Column("temporal_hole", ".1f")]
    columns += [Column("to exact, dB", ".1f")]
    return Table(name, f"`{method}`, {len(whole)} scenes", columns, cells, run)


class Scheduled:
    """A step cache that computes a given number of steps: the first fifth and the last, the rest spread."""

    def __init__(self, computed: int, steps: int) -> None:
        first = -(-steps // 5)
        rest = np.linspace(first, steps - 1, max(1, computed - first)).round().astype(int)
        self._computed = {*range(min(first, computed)), *rest.tolist()}
        self._last: Tensor | None = None

    def velocity(self, latents: Tensor, step: Any, kind: Any, compute: Any) -> Tensor:
        """Return the velocity, computed or that of the last computed step."""
        if self._last is None or step.index in self._computed:
            self._last = compute(latents)
        return self._last


def speed_table(
    name: str, given: argparse.Namespace, values: dict[Any, Any], chosen: Sequence[Row], scenes: Sequence[int]
) -> Table:
    """Return the seconds of sampling a clip of real size, for each row that is timed."""
    base = random_base(given.size, device=given.device, vae=False)
    base = speed_up_base(base, SpeedConfig(compile_blocks=given.device == "cuda"))
    text = random_text(base)
    video, visible = (part.to(base.device) for part in moving_hole(given.frames, given.side, given.side))
    conditioning = condition(base, grey_holes(video, visible), visible)
    timed(base, conditioning, text, Row("warm", 2), 4)
    timed(base, conditioning, text, Row("warm", 2, Saving(guided=(0.0, 0.1))), 3)
    cells: list[list[Cell]] = []
    exact = 0.0
    for row in (row for row in chosen if row.name in TIMED):
        found = [value for at, value in values.items() if at[0] == "base" and at[3] == row.name]
        if not found:
            raise SystemExit(f"row {row.name!r} has no passes yet; run the stage `loss` first")
        passes = float(np.mean([one["passes"] for one in found]))
        made, seconds = timed(base, conditioning, text, row, passes)
        exact = exact or seconds
        cells.append([row.name, made, seconds, 1000 * seconds / made, seconds / exact])
    columns = [Column(""), Column("passes", "d"), Column("seconds", ".2f"), Column("ms per pass", ".0f")]
    columns += [Column("of exact", ".2f")]
    title = f"{given.size}, {given.frames}x{given.side}x{given.side}, sampling alone"
    return Table(name, title, columns, cells, this_run(device=given.device))


def timed(base: Base, conditioning: Any, text: Text, row: Row, passes: float) -> tuple[int, float]:
    """Return the passes and seconds of one sampling that makes about so many passes."""
    guided = sum(row.saving.guides(Step(i, row.steps, 1.0, 0.0)) for i in range(row.steps)) / row.steps
    computed = round(passes / (1 + guided)) if row.saving.budget else row.steps

    def cache(saving: Saving, *, fresh: bool) -> Scheduled:
        return Scheduled(computed, row.steps)

    synchronise(base)
    begun = time.perf_counter()
    with counted_passes(base) as made, mock.patch("recapture.models.wan.sampling.StepCache", cache):
        sample(
            base,
            conditioning,
            text,
            scheduler=make_scheduler("unipc", 3.0),
            steps=row.steps,
            generator=torch.Generator().manual_seed(0),
            guidance_scale=6.0,
            saving=row.saving,
        )
    synchronise(base)
    return made.count, time.perf_counter() - begun


def synchronise(base: Base) -> None:
    """Wait for the GPU."""
    if base.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
