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
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from bench.random_pass import WAYS, Measured, Way, prepare, velocities
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.models.wan.chunked_vae import WORTH, chunk_vae
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.vae import decode_latents, encode_video

PARTS = ("passes", "vae", "run", "cold")


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
    parser.add_argument("--no-errors", action="store_true", help="Make no passes in float32.")
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
        show("passes", f"medians of {given.repeats} guided steps", *passes(one, chosen, given))
    if "vae" in given.parts:
        show("vae", "VAE in bfloat16", *coding(one, given.repeats))
    if "run" in given.parts:
        show("run", f"a clip with {given.steps} guided steps, warm", *whole_run(one, given.steps))
    if "cold" in given.parts:
        show("cold", "first calls, in seconds", *cold(given))


def passes(
    one: Measured, ways: list[Way], given: argparse.Namespace
) -> tuple[list[Column], list[list[Cell]]]:
    """Return the table of passes."""
    exact = None
    if not given.no_errors:
        exact = velocities(one, replace(one.base, transformer=copy.deepcopy(one.base.transformer).float()))
        gc.collect()
    rows: list[list[Cell]] = []
    eager_error = 0.0
    for way in ways:
        base = prepare(one, way)
        first, seconds, peak = one.timed(partial(velocities, one, base), given.repeats)
        error = 0.0
        if exact is not None:
            error = float((velocities(one, base) - exact).norm() / exact.norm())
        eager_error = eager_error or error
        against = 1000 * seconds / 2 / float(rows[0][1]) if rows else 1.0  # type: ignore[arg-type]
        errors: list[Cell] = [None, None] if exact is None else [error, error / eager_error]
        rows.append([way.name, 1000 * seconds / 2, against, first, peak, *errors])
        print(rows[-1], flush=True)  # a long table that is cut short leaves its rows
    columns = [Column(""), Column("ms per pass", ".1f"), Column("against eager", ".2f")]
    columns += [Column("first call, s", ".1f"), Column("GB", ".1f")]
    return [*columns, Column("error", ".4f"), Column("error against eager", ".2f")], rows


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
    for name, worth in (("library", 0), ("chunks", 0), ("large blocks compiled", WORTH), ("all compiled", 0)):
        if name != "library":
            chunk_vae(vae, one.compiler("the VAE") if "compiled" in name else None, worth=worth)
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
