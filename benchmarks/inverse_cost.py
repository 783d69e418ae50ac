"""What a solver costs at real size: Wan2.1 1.3B's shape with random weights, on a GPU.

    python benchmarks/inverse_cost.py

Native inpainting conditioning with guidance, 50 steps of Euler, a run of plain sampling and one under our
solver in turn, each `--repeats` times. A step is timed by CUDA events around it; set-up and decoding by the
clock after synchronising. The solvers that work in pixels are given a few steps, and where they do not fit
into memory a smaller clip, beside plain steps of that size. Random weights cost what trained ones do.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from real_size import moving_hole, random_base, random_text

from recapture.models.inverse.measurement import MaskKind, build_measurement
from recapture.models.inverse.pixel_space import KnownPixels
from recapture.models.inverse.solvers import make_solver
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import Solver, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.speed import speed_up
from recapture.models.wan.text import Text
from recapture.models.wan.vae import decode_latents, encode_video

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
    parser.add_argument("--clips", nargs="+", default=["81x512x512", "81x480x832"])
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    base = random_base(given.size, device=given.device)
    if given.device == "cuda":
        speed_up(base.transformer, attention="cudnn")
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {date.today()}")
    text = random_text(base)
    for clip in given.clips:
        frames, height, width = map(int, clip.split("x"))
        compare(base, text, (frames, height, width), given.steps, given.repeats)
    encoding(base)
    for name in given.pixels:
        in_pixels(base, text, name, given.pixel_steps)


def compare(base: Base, text: Text, size: tuple[int, int, int], steps: int, repeats: int) -> None:
    """Print a table of plain sampling and our solver, runs taken in turn."""
    video, visible = (part.to(base.device) for part in moving_hole(*size))
    run(base, text, video, visible, 2, None)  # warm up, and black and white for the mask
    run(base, text, video, visible, 2, ours("mask_encode", True))
    rows: dict[str, list[Timed]] = {"plain": []} | {name: [] for name, _, _ in OURS}
    for _ in range(repeats):
        rows["plain"].append(run(base, text, video, visible, steps, None))
        for name, kind, mean in OURS:
            rows[name].append(run(base, text, video, visible, steps, ours(kind, mean)))
    print(f"\n### {size[0]}x{size[1]}x{size[2]}, {steps} steps with guidance, {repeats} runs in turn\n")
    print("| | ms a step | over plain | set-up, s | decoding, s | run, s | over plain | VAE in loop | GB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    reference: tuple[float, float] | None = None
    for name, runs in rows.items():
        step = median(value for one in runs for value in one.steps[1:])
        total = median(one.total for one in runs)
        reference = reference or (step, total)
        print(
            f"| {name} | {1000 * step:.1f} | {100 * (step / reference[0] - 1):+.2f} % "
            f"| {median(one.setup for one in runs):.2f} | {median(one.decoding for one in runs):.2f} "
            f"| {total:.2f} | {100 * (total / reference[1] - 1):+.2f} % "
            f"| {max(one.calls for one in runs)} | {max(one.gigabytes for one in runs):.1f} |",
            flush=True,
        )
    calls = [one.calls for name, runs in rows.items() for one in runs]
    assert not any(calls), f"our solver called the VAE between steps: {calls}"


MakeSolver = Callable[[Base, torch.Tensor, torch.Tensor], Solver]


def ours(kind: MaskKind, channel_mean: bool) -> MakeSolver:
    """Return what makes our solver."""

    def make(base: Base, video: torch.Tensor, visible: torch.Tensor) -> Solver:
        measurement = build_measurement(base.vae, video, visible, kind=kind, channel_mean=channel_mean)
        return make_solver("renoised", measurement)

    return make


def encoding(base: Base) -> None:
    """Print the seconds of one encoding, which a mask or a measurement takes."""
    video, _ = (part.to(base.device) for part in moving_hole(81, 512, 512))
    times = []
    for _ in range(4):
        begun = clock(base.device.type == "cuda")
        with torch.no_grad():
            encode_video(base.vae, video)
        times.append(clock(base.device.type == "cuda") - begun)
    print(f"\nencoding 81x512x512: {median(times[1:]):.3f} s", flush=True)


def in_pixels(base: Base, text: Text, name: str, steps: int) -> None:
    """Print the cost of a step of a solver that runs the VAE in it, at the largest size that fits."""
    for size in SMALLER:
        video, visible = (part.to(base.device) for part in moving_hole(*size))

        def make(base: Base, video: torch.Tensor, visible: torch.Tensor) -> Solver:
            measurement = build_measurement(base.vae, video, visible, kind="binary")
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
        ratio = median(found.steps[1:]) / median(plain.steps[1:])
        print(
            f"{name}: {size}: {1000 * median(found.steps[1:]):.0f} ms a step, plain "
            f"{1000 * median(plain.steps[1:]):.0f}, {ratio:.1f} times; "
            f"{found.calls / steps:.0f} VAE calls a step; "
            f"{found.gigabytes:.0f} GB against {plain.gigabytes:.0f}",
            flush=True,
        )
        return


def run(
    base: Base, text: Text, video: torch.Tensor, visible: torch.Tensor, steps: int, make: MakeSolver | None
) -> Timed:
    """Condition, sample and decode, timed."""
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
    """Return the seconds, when the GPU has done all it was given."""
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def counted(vae: Any) -> Any:
    """Yield a list that grows with each call of the VAE."""
    calls: list[str] = []
    encode, decode = vae.encode, vae.decode
    vae.encode = lambda *args, **named: calls.append("encode") or encode(*args, **named)
    vae.decode = lambda *args, **named: calls.append("decode") or decode(*args, **named)
    try:
        yield calls
    finally:
        vae.encode, vae.decode = encode, decode


if __name__ == "__main__":
    main()
