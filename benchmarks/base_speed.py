"""How fast an exact base samples: Wan2.1's shapes with random weights, each way beside the plain one.

    python benchmarks/base_speed.py
    python benchmarks/base_speed.py --size 14B --ways "all, one batch" --parts passes

A pass is half of a guided step; `error` is the relative difference of its velocity from that of the same
weights in float32. Medians; the first call is apart. `--parts cold` is what a second worker of the machine
does: a new process, which finds the code compiled (TORCHINDUCTOR_CACHE_DIR; empty it for a true first call).
Random weights cost what trained ones do. Takes about three minutes on an H200; `--size tiny --device cpu`
shows that it runs.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.real_size import moving_hole, random_base, random_text
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.models.wan.chunked_vae import chunk_vae
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.conditioning import Conditioning, condition
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import Step, guided_velocity, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.speed import speed_up
from recapture.models.wan.text import Text
from recapture.models.wan.vae import decode_latents, encode_video

PERSISTENT = {"triton.multi_kernel": 2}


@dataclass(frozen=True)
class Way:
    """One way to compute a pass."""

    name: str
    compiled: bool = True
    joined: bool = False  # one product for query, key and value, as diffusers fuses them
    fused: bool = False
    batched: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


WAYS = (
    Way("eager", compiled=False),
    Way("compiled"),
    Way("compiled, one product for q, k, v", joined=True),
    Way("compiled, fused layers", fused=True),
    Way("all, one batch", fused=True, batched=True),
    Way("all, one batch, persistent reductions", fused=True, batched=True, options=PERSISTENT),
    Way(
        "all, one batch, coordinate descent",
        fused=True,
        batched=True,
        options={"coordinate_descent_tuning": True},
    ),
)
PARTS = ("passes", "vae", "run", "cold")


class Measured:
    """The base of a size on a device, its inputs, and what a clip's first frames are."""

    def __init__(self, size: str, device: str, clip: str, backend: str) -> None:
        self.size, self.device, self.clip, self.backend = size, device, clip, backend
        self.base = random_base(size, device=device)
        frames, height, width = map(int, clip.split("x"))
        self.video, self.visible = (part.to(device) for part in moving_hole(frames, height, width))
        self.text = random_text(self.base)
        self.plain_blocks = [block.attn1.processor for block in self.base.transformer.blocks]

    @property
    def latents(self) -> Tensor:
        shape = self.base.latent_shape(len(self.video), *self.video.shape[2:])
        random = torch.Generator().manual_seed(0)
        return torch.randn(1, *shape, generator=random).to(self.device)

    def conditioning(self) -> Conditioning:
        """Return random conditioning of the clip's size: encoding is measured by itself."""
        shape = self.base.latent_shape(len(self.video), *self.video.shape[2:])
        random = torch.Generator().manual_seed(1)
        channels = torch.randn(1, 20, *shape[1:], generator=random).to(self.device)
        return Conditioning(shape, channels=channels)

    def compiler(self, what: str, options: Mapping[str, Any] | None = None) -> Compiler:
        """Return a compiler; its options are inductor's."""
        return Compiler(what, self.backend, options if options and self.backend == "inductor" else None)

    def clock(self) -> float:
        """Return the time in seconds once the GPU is idle."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, work: Callable[[], object], repeats: int) -> tuple[float, float, float]:
        """Return the seconds of the first call, the median of those after it, and peak gigabytes."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        marks = [self.clock()]
        for _ in range(repeats + 1):
            work()
            marks.append(self.clock())
        seconds = [after - before for before, after in pairwise(marks)]
        peak = torch.cuda.max_memory_allocated() / 1e9 if self.device == "cuda" else 0.0
        return seconds[0], median(seconds[1:]), peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("1.3B", "14B", "tiny"), default="1.3B")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--clip", default="81x512x512")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--ways", nargs="+", help="Only passes of these names.")
    parser.add_argument("--backend", default="inductor", help="Of torch.compile.")
    parser.add_argument("--as-second-worker", action="store_true", help=argparse.SUPPRESS)
    add_write(parser, "base_speed")
    given = parser.parse_args()
    begun = time.perf_counter()
    one = Measured(given.size, given.device, given.clip, given.backend)
    if given.as_second_worker:
        print(json.dumps(first_calls(one, time.perf_counter() - begun)))
        return
    begin = given.write or "base_speed"
    where = f"{begin}-{given.size}" if given.size != "1.3B" else begin
    here = this_run(device=given.device)

    def show(part: str, title: str, columns: list[Column], rows: list[list[Cell]]) -> None:
        title = f"Wan2.1 {given.size}, {given.clip}; {title}"
        publish([Table(f"{where}-{part}", title, columns, rows, here)], write=given.write is not None)

    chosen = [way for way in WAYS if not given.ways or way.name in given.ways]
    if "passes" in given.parts:
        show("passes", f"medians of {given.repeats} guided steps", *passes(one, chosen, given.repeats))
    if "vae" in given.parts:
        show("vae", "VAE in bfloat16", *coding(one, given.repeats))
    if "run" in given.parts:
        show("run", f"a clip with {given.steps} guided steps, warm", *whole_run(one, given.steps))
    if "cold" in given.parts:
        show("cold", "first calls, in seconds", *cold(given))


def passes(one: Measured, ways: list[Way], repeats: int) -> tuple[list[Column], list[list[Cell]]]:
    """Return the table of passes."""
    exact = velocities(one, replace(one.base, transformer=copy.deepcopy(one.base.transformer).float()))
    gc.collect()
    rows: list[list[Cell]] = []
    eager_error = 0.0
    for way in ways:
        base = prepare(one, way)
        first, seconds, peak = one.timed(partial(velocities, one, base), repeats)
        found = velocities(one, base)
        error = float((found - exact).norm() / exact.norm())
        eager_error = eager_error or error
        against = 1000 * seconds / 2 / float(rows[0][1]) if rows else 1.0  # type: ignore[arg-type]
        rows.append([way.name, 1000 * seconds / 2, against, first, peak, error, error / eager_error])
    columns = [Column(""), Column("ms per pass", ".1f"), Column("against eager", ".2f")]
    columns += [Column("first call, s", ".1f"), Column("GB", ".1f")]
    return [*columns, Column("error", ".4f"), Column("error against eager", ".2f")], rows


def prepare(one: Measured, way: Way) -> Base:
    """Return the base that computes as `way` says, from whatever it was before."""
    transformer = one.base.transformer
    torch.compiler.reset()
    transformer.unfuse_qkv_projections()
    for block, processor in zip(transformer.blocks, one.plain_blocks):
        block._compiled_call_impl = None
        block.attn1.set_processor(processor)
        block.attn2.set_processor(processor)
        vars(block.ffn.net[0]).pop("forward", None)
    if way.joined:
        transformer.fuse_qkv_projections()
    compiler = one.compiler("the transformer", way.options) if way.compiled else None
    speed_up(transformer, fused=way.fused, compiler=compiler)
    return replace(one.base, guidance_batched=way.batched)


@torch.no_grad()
def velocities(one: Measured, base: Base) -> Tensor:
    """Return the guided velocity of one step."""
    given = one.latents, one.conditioning()
    text = Text(*(part.to(base.dtype) for part in (one.text.prompt, one.text.negative) if part is not None))
    time_of = torch.tensor(700.0, device=one.device)
    return guided_velocity(
        *(base, base.transformer, time_of, given[1], text, Step(9, 30, 0.7, 0.68), given[0]),
        guidance_scale=5.0,
    )


def coding(one: Measured, repeats: int) -> tuple[list[Column], list[list[Cell]]]:
    """Return the table of encoding and decoding."""
    vae = one.base.vae
    single = copy.deepcopy(vae).float()
    with torch.no_grad():
        encoded = encode_video(single, one.video)
        decoded = decode_latents(single, encoded)
    del single
    gc.collect()
    rows: list[list[Cell]] = []
    for name in ("library", "chunks", "chunks, compiled"):
        if name != "library":
            chunk_vae(vae, one.compiler("the VAE") if "compiled" in name else None)
        with torch.no_grad():
            cells: list[Cell] = [name]
            for work, exact in (
                (lambda: encode_video(vae, one.video), encoded),
                (lambda: decode_latents(vae, encoded), decoded),
            ):
                first, seconds, peak = one.timed(work, repeats)
                cells += [seconds, first, peak, float((work() - exact).norm() / exact.norm())]
        rows.append(cells)
    columns = [Column("")]
    for what in ("encode", "decode"):
        columns += [
            Column(f"{what}, s", ".3f"),
            Column(f"first {what}, s", ".1f"),
            Column(f"{what}, GB", ".1f"),
        ]
        columns.append(Column(f"{what}, error", ".4f"))
    return columns, rows


def fast(one: Measured) -> Base:
    """Return the base as the profiles of Wan make it."""
    base = prepare(one, next(way for way in WAYS if way.name == "all, one batch"))
    chunk_vae(base.vae, one.compiler("the VAE"))
    return base


def whole_run(one: Measured, steps: int) -> tuple[list[Column], list[list[Cell]]]:
    """Return the table of a clip's seconds, after one with two steps to warm up."""
    base = fast(one)
    for count in (2, steps):
        begun = one.clock()
        given = condition(base, one.video, one.visible)
        ready = one.clock()
        latents = sample(
            base,
            given,
            one.text,
            scheduler=make_scheduler("unipc", 3.0),
            steps=count,
            generator=torch.Generator().manual_seed(0),
            guidance_scale=5.0,
        )
        sampled = one.clock()
        with torch.no_grad():
            decode_latents(base.vae, latents)
        marks = [begun, ready, sampled, one.clock()]
    seconds: list[Cell] = [after - before for before, after in pairwise(marks)]
    names = ("", "conditioning, s", "steps, s", "decoding, s", "clip, s")
    return [Column(name, ".2f" if name else "") for name in names], [
        ["as the profile", *seconds, marks[-1] - marks[0]]
    ]


def first_calls(one: Measured, seconds: float) -> dict[str, float]:
    """Return the seconds of a worker's first calls: the base, a guided step, encoding, decoding."""
    base, found = fast(one), {"base": seconds}
    with torch.no_grad():
        for name, work in (
            ("guided step", lambda: velocities(one, base)),
            ("encode", lambda: encode_video(base.vae, one.video)),
            ("decode", lambda: decode_latents(base.vae, one.latents)),
        ):
            begun = one.clock()
            work()
            found[name] = one.clock() - begun
    return found


def cold(given: argparse.Namespace) -> tuple[list[Column], list[list[Cell]]]:
    """Return the table of a worker that finds everything compiled, with its start by the clock."""
    words = ["--size", given.size, "--device", given.device, "--clip", given.clip, "--backend", given.backend]
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--as-second-worker", *words],
        check=True,
        capture_output=True,
        text=True,
    )
    whole = time.perf_counter() - begun
    found = json.loads(done.stdout.strip().splitlines()[-1])
    columns = [Column("")] + [Column(name, ".1f") for name in (*found, "whole process")]
    return columns, [["second worker", *found.values(), whole]]


if __name__ == "__main__":
    main()
