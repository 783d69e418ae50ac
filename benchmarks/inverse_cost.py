"""What a solver costs at real size: Wan2.1 1.3B's shape with random weights, on a GPU.

    python benchmarks/inverse_cost.py

Native inpainting conditioning with guidance, 50 steps of Euler; runs of plain sampling and of our solver in
turn, each --repeats times. A step is timed by CUDA events around it; set-up and decoding by the clock after
synchronising. Solvers that work in pixels run a few steps, on a smaller clip where memory requires it, beside
plain steps of that size. Random weights cost what trained ones do. Takes about 15 minutes on an H100 or H200.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from bench.real_size import moving_hole, random_base, random_text
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run
from recapture.models.inverse.measurement import MaskKind, build_measurement
from recapture.models.inverse.pixel_space import KnownPixels
from recapture.models.inverse.solvers import make_solver
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import Solver, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.speed import speed_up
from recapture.models.wan.text import Text
from recapture.models.wan.vae import decode_latents

OURS: tuple[tuple[str, MaskKind, bool], ...] = (
    ("renoised, area", "area", False),
    ("renoised, mask_encode, channel mean", "mask_encode", True),
)
SMALLER = ((81, 512, 512), (49, 512, 512), (33, 384, 384), (17, 256, 256))


@dataclass
class Timed:
    """One run: seconds before, of each step, and after; calls of the VAE between the steps; peak memory."""

    setup: float
    steps: list[float]
    decoding: float
    calls: int
    gigabytes: float

    @property
    def total(self) -> float:
        """Return the seconds of the whole run."""
        return self.setup + sum(self.steps) + self.decoding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="1.3B")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pixel-steps", type=int, default=3)
    parser.add_argument("--pixels", nargs="*", default=["vision_xl", "psld"], help="Solvers in pixels.")
    parser.add_argument("--clips", nargs="*", default=["81x512x512", "81x480x832"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    add_write(parser, "inverse_cost")
    given = parser.parse_args()
    base = random_base(given.size, device=given.device)
    if given.device == "cuda":
        speed_up(base.transformer, attention="cudnn")
    text = random_text(base)
    begin, write, here = given.write or "inverse_cost", given.write is not None, this_run(device=given.device)
    for clip in given.clips:
        frames, height, width = map(int, clip.split("x"))
        runs = compare(base, text, (frames, height, width), given.steps, given.repeats)
        title = f"{clip}, {given.steps} steps with guidance, {given.repeats} run(s) of each in turn"
        publish([cost_table(f"{begin}-{clip}", title, runs, here)], write=write)
    rows = [row for name in given.pixels if (row := in_pixels(base, text, name, given.pixel_steps))]
    if rows:
        columns = [
            Column(""),
            Column("size"),
            Column("ms per step", ".0f"),
            Column("plain, ms per step", ".0f"),
        ]
        columns += [Column("times", ".1f"), Column("VAE calls per step", ".0f"), Column("GB", ".0f")]
        title = f"Solvers in pixels, {given.pixel_steps} steps of each, beside plain steps of the same size"
        publish([Table(f"{begin}-pixels", title, columns, rows, here)], write=write)


def compare(
    base: Base, text: Text, size: tuple[int, int, int], steps: int, repeats: int
) -> dict[str, list[Timed]]:
    """Return runs of plain sampling and of our solver, taken in turn."""
    video, visible = (part.to(base.device) for part in moving_hole(*size))
    run(base, text, video, visible, 2, None)  # warm up, and black and white for the mask
    run(base, text, video, visible, 2, ours("mask_encode", True))
    runs: dict[str, list[Timed]] = {"plain": [], **{name: [] for name, _, _ in OURS}}
    for _ in range(repeats):
        runs["plain"].append(run(base, text, video, visible, steps, None))
        for name, kind, mean in OURS:
            runs[name].append(run(base, text, video, visible, steps, ours(kind, mean)))
    calls = [one.calls for of_name in runs.values() for one in of_name]
    assert not any(calls), f"our solver called the VAE between steps: {calls}"
    return runs


def cost_table(name: str, title: str, runs: dict[str, list[Timed]], here: Run) -> Table:
    """Return medians, and percent over plain sampling."""
    rows: list[list[Cell]] = []
    steps = {one: median(value for timed in of for value in timed.steps[1:]) for one, of in runs.items()}
    totals = {one: median(timed.total for timed in of) for one, of in runs.items()}
    for one, of in runs.items():
        line: list[Cell] = [one, 1000 * steps[one], 100 * (steps[one] / steps["plain"] - 1)]
        line += [median(timed.setup for timed in of), median(timed.decoding for timed in of), totals[one]]
        line += [100 * (totals[one] / totals["plain"] - 1), max(timed.calls for timed in of)]
        rows.append([*line, max(timed.gigabytes for timed in of)])
    columns = [Column(""), Column("ms per step", ".1f"), Column("step over plain, %", "+.2f")]
    columns += [Column("set-up, s", ".2f"), Column("decoding, s", ".2f"), Column("run, s", ".2f")]
    columns += [
        Column("run over plain, %", "+.2f"),
        Column("VAE calls in the loop", "d"),
        Column("GB", ".1f"),
    ]
    return Table(name, title, columns, rows, here)


MakeSolver = Callable[[Base, torch.Tensor, torch.Tensor], Solver]


def ours(kind: MaskKind, channel_mean: bool) -> MakeSolver:
    """Return a function that makes our solver."""

    def make(base: Base, video: torch.Tensor, visible: torch.Tensor) -> Solver:
        measurement = build_measurement(base.vae, video, visible, kind=kind, channel_mean=channel_mean)
        return make_solver("renoised", measurement)

    return make


def in_pixels(base: Base, text: Text, name: str, steps: int) -> list[Cell] | None:
    """Return the cost of a step of a solver that runs the VAE in it, at the largest size that fits."""
    for size in SMALLER:
        video, visible = (part.to(base.device) for part in moving_hole(*size))

        def make(base: Base, video: torch.Tensor, visible: torch.Tensor) -> Solver:
            measurement = build_measurement(base.vae, video, visible, kind="binary", channel_mean=False)
            return make_solver(name, measurement, pixels=KnownPixels(base.vae, video, visible), start=0.0)

        found = None
        plain = run(base, text, video, visible, steps, None)
        with suppress(torch.OutOfMemoryError):
            found = run(base, text, video, visible, steps, make)
        if found is None:
            gc.collect()  # what the failed run held, now that its error is gone
            torch.cuda.empty_cache()
            print(f"{name}: {size} does not fit", flush=True)
            continue
        ours_ms, plain_ms = (1000 * median(timed.steps[1:]) for timed in (found, plain))
        shape = "x".join(map(str, size))
        return [name, shape, ours_ms, plain_ms, ours_ms / plain_ms, found.calls / steps, found.gigabytes]
    return None


def run(
    base: Base, text: Text, video: torch.Tensor, visible: torch.Tensor, steps: int, make: MakeSolver | None
) -> Timed:
    """Condition, sample and decode; return the times."""
    cuda = base.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    begun = clock(cuda)
    conditioning = condition(base, video, visible)
    solver = None if make is None else make(base, video, visible)
    ready = clock(cuda)
    marks: list[Any] = []

    def mark(*_: object) -> None:
        marks.append(torch.cuda.Event(enable_timing=True) if cuda else time.perf_counter())
        if cuda:
            marks[-1].record()

    with counted(base.vae) as calls:
        latents = sample(
            base,
            conditioning,
            text,
            scheduler=make_scheduler("euler", 3.0),
            steps=steps,
            generator=torch.Generator().manual_seed(0),
            guidance_scale=5.0,
            solver=solver,
            on_step=mark,
        )
        sampled = clock(cuda)
        inside = len(calls)
    with torch.no_grad():
        decode_latents(base.vae, latents)
    decoded = clock(cuda)
    between = [one.elapsed_time(other) / 1000 if cuda else other - one for one, other in pairwise(marks)]
    first = sampled - ready - sum(between)
    memory = torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0
    return Timed(ready - begun, [first, *between], decoded - sampled, inside, memory)


def clock(cuda: bool) -> float:
    """Return the time in seconds once the GPU is idle."""
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def counted(vae: Any) -> Iterator[list[str]]:
    """Yield a list that grows with each call of the VAE."""
    calls: list[str] = []
    encode, decode = vae.encode, vae.decode

    def called(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            calls.append(name)
            return work(*args, **named)

        return call

    vae.encode, vae.decode = called("encode", encode), called("decode", decode)
    try:
        yield calls
    finally:
        vae.encode, vae.decode = encode, decode


if __name__ == "__main__":
    main()
