"""Seconds of a step of motion tuning, on whole windows and on sparse ones, and of one reference.

    python benchmarks/motion_speed.py --write
    python benchmarks/motion_speed.py --device cuda --size 1.3B --clip 81x512x512 --kept 17 --write

On the CPU with the embedded base, in seconds of CPU time on one thread, so that other work on the machine
does not count; on a GPU with random weights in Wan2.1's shape, in bfloat16 with compiled blocks, in seconds
by the clock. Steps go through `motion_trainer`: adapters on q, k and v of self-attention, the signed motion
term, batch --batch. The ways take turns, and the table has medians over two times --steps steps each. The CPU
also tunes one reference end to end: encoding of eight copies, 150 steps, seven looks at the held-out copy.
Takes a few minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from bench.real_size import random_base
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run
from recapture.models.motion.augment import Augmentation
from recapture.models.motion.examples import MotionExamples, motion_examples, shown_at_start
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.motion.tune import MotionSettings, motion_trainer, tune_motion
from recapture.models.tuning.examples import Example
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.step import Settings
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.lora import remove_lora
from recapture.models.wan.speed import speed_up

EMBEDDED = Path(__file__).parents[1] / "weights" / "base"
WARM_UP = 2
WINDOWS = ((33, 17), (49, 17))  # frames of the window, and kept, on the CPU
TUNED = 17  # frames of the reference that is tuned end to end


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("embedded", "1.3B", "14B"), default="embedded")
    parser.add_argument("--clip", help="FxHxW; on the CPU the side of the pictures of all windows, 128.")
    parser.add_argument("--kept", type=int, default=17)
    parser.add_argument("--batch", type=int, help="By default 2 on the CPU and 1 on a GPU.")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--eager", action="store_true", help="Do not compile blocks on a GPU.")
    add_write(parser, "motion_speed")
    given = parser.parse_args()
    if given.size == "embedded":
        torch.set_num_threads(1)
        tables = on_cpu(given)
    else:
        tables = [at_real_size(given)]
    publish(tables, write=given.write is not None)


def on_cpu(given: argparse.Namespace) -> list[Table]:
    """Return the tables of steps and of one reference, on the embedded base."""
    side = int(given.clip.split("x")[-1]) if given.clip else 128
    base, batch = load_base(EMBEDDED), given.batch or 2
    rows: list[Sequence[Cell]] = []
    for window, kept in WINDOWS:
        rows += step_rows(base, (window, side, side), kept, batch, given.steps, time.process_time)
    run = this_run(base=str(EMBEDDED))
    name = given.write or "motion_speed"
    title = f"One step, embedded base, {side} x {side} pixels, batch {batch}, CPU seconds on one thread"
    steps = Table(name, title, columns("CPU s per step"), rows, run)
    return [steps, reference_table(f"{name}-reference", base, side, run)]


def at_real_size(given: argparse.Namespace) -> Table:
    """Return the table of steps at Wan2.1's shape, with random weights."""
    clip = tuple(map(int, (given.clip or "81x512x512").split("x")))
    base, batch = random_base(given.size, device=given.device, vae=False), given.batch or 1

    def compiled() -> None:
        torch.compiler.reset()
        for block in base.transformer.blocks:
            block._compiled_call_impl = None
        if not given.eager:
            speed_up(base.transformer, compiler=Compiler("the transformer"))

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    rows = step_rows(base, clip, given.kept, batch, given.steps, clock, compiled)
    how = "eager" if given.eager else "compiled blocks"
    title = (
        f"One step, Wan2.1 {given.size}, {given.clip or '81x512x512'}, random weights, {how}, batch {batch}"
    )
    run = this_run(device=given.device)
    name = f"{given.write or 'motion_speed'}-{given.size}"
    return Table(name, title, columns("s per step"), rows, run)


def columns(seconds: str) -> list[Column]:
    return [
        *(Column("window, frames"), Column("what a step sees"), Column("latent frames", "d")),
        *(Column("tokens", ",d"), Column(seconds, ".3f"), Column("against full", ".2f")),
    ]


def step_rows(
    base: Base,
    clip: tuple[int, ...],
    kept: int,
    batch: int,
    steps: int,
    clock: Callable[[], float],
    prepare: Callable[[], None] = lambda: None,
) -> list[list[Cell]]:
    """Return a row per kind of sparse sampling; the kinds take turns. prepare: called before each turn."""
    window = clip[0]
    kinds = [Sparse("full", window, window, "aligned"), Sparse("frames", window, kept, "aligned")]
    kinds += [Sparse("latents", window, kept, "aligned"), Sparse("mixed", window, kept, "aligned")]
    times: list[list[float]] = [[] for _ in kinds]
    for _ in range(2):  # two turns, so that a busy spell of the machine does not fall on one kind alone
        for sparse, found in zip(kinds, times):
            trainer = made_trainer(base, sparse, clip, batch, steps + WARM_UP)
            prepare()
            for step in range(1, steps + WARM_UP + 1):
                begun = clock()
                trainer.run(lambda step, values: None, stop_at=step)
                if step > WARM_UP:
                    found.append(clock() - begun)
            remove_lora(base.transformer)
    full = median(times[0])
    rows: list[list[Cell]] = []
    for sparse, found in zip(kinds, times):
        latents = ((kept if sparse.kind != "full" else window) - 1) // 4 + 1
        _, _, height, width = base.latent_shape(window, *clip[1:])
        name = sparse.kind if sparse.kind == "full" else f"{sparse.kind}, {kept} frames"
        rows.append(
            [str(window), name, latents, latents * height * width // 4, median(found), median(found) / full]
        )
    return rows


def made_trainer(base: Base, sparse: Sparse, clip: tuple[int, ...], batch: int, steps: int) -> LoraTrainer:
    """Return a trainer on random examples of a clip, the first frame shown."""
    settings = motion_settings(sparse, batch, steps)
    dtype = torch.float32 if base.dtype == torch.float32 else torch.bfloat16
    z, _, height, width = base.latent_shape(sparse.window, *clip[1:])
    shape = (z, (len(sparse.frames()) - 1) // 4 + 1, height, width)
    random = torch.Generator().manual_seed(0)
    made = []
    for _ in range(2):
        clean = torch.randn(shape, generator=random)
        known = torch.zeros(4, *shape[1:])
        known[:, 0] = 1
        text = torch.randn(96 if dtype == torch.float32 else 512, base.transformer.config.text_dim)
        made.append(Example(clean.to(dtype), torch.cat([known, clean * known[:1]]).to(dtype), text.to(dtype)))
    empty = torch.zeros_like(made[0].text)
    return motion_trainer(base, MotionExamples(tuple(made), ()), settings, empty_text=empty)


def motion_settings(sparse: Sparse, batch: int, steps: int) -> MotionSettings:
    training = Settings(
        steps=steps,
        batch=batch,
        rate=2e-3,
        weight_decay=0.0,
        warm_up=10,
        clip=1.0,
        ema=0.9,
        seed=0,
        objective=Objective("uniform", 3.0, 0.0, 0.1),
        micro_batch=None,
        gradient_checkpointing=False,
        log_every=1000,
        validate_every=25,
        patience=0,
        packed_share=0.0,
        decay_from=0.5,
    )
    return MotionSettings(training, 16, "q,k,v", MotionTerm("signed", 0.5), sparse)


def reference_table(name: str, base: Base, side: int, run: Run) -> Table:
    """Tune one reference of a gliding square end to end; return its table of CPU seconds."""
    video = torch.zeros(TUNED, 3, side, side)
    for t in range(TUNED):
        video[t, :, side // 3 : side // 2, side // 5 + 2 * t : side // 3 + 2 * t] = torch.tensor(
            [0.8, -0.8, -0.8]
        ).view(3, 1, 1)
    width = base.transformer.config.text_dim
    sparse = Sparse("full", TUNED, TUNED, "aligned")
    begun = time.process_time()
    examples = motion_examples(
        base,
        video,
        torch.zeros(1, base.text_length, width),
        visible=shown_at_start("first_frame", TUNED, side, side),
        sparse=sparse,
        copies_trained=8,
        copies_held_out=1,
        augmentation=Augmentation("permute", 0.15, 0.12, 0.12),
        random=torch.Generator().manual_seed(0),
    )
    encoded = time.process_time() - begun
    made = tune_motion(
        base, examples, motion_settings(sparse, 2, 150), empty_text=torch.zeros(base.text_length, width)
    )
    remove_lora(base.transformer)
    total = encoded + made.cpu_seconds
    rows: list[Sequence[Cell]] = [
        ["encoding of 8 copies and one held out", encoded],
        ["150 steps, 7 looks at the held-out copy", made.cpu_seconds],
        ["one reference", total],
        ["one reference, on two idle cores (half)", total / 2],
    ]
    title = f"One reference, {TUNED} frames of {side} x {side}, batch 2, one thread"
    return Table(name, title, [Column(""), Column("CPU s", ".1f")], rows, run)


if __name__ == "__main__":
    main()
