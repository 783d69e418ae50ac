"""Seconds and memory of a LoRA training step at real size: Wan2.1's shapes with random weights, on a GPU.

    python benchmarks/tuning_speed.py
    python benchmarks/tuning_speed.py --size 14B --steps 3

81 frames of 512 x 512 (21,504 tokens), rank 128, batch 1, through `LoraTrainer`: encoded examples from the
CPU's memory, noise, loss, gradient, clipping, AdamW, average. Each row is another way to compute the same
step, except those that leave adapters out of layers. Medians over --steps steps after two to warm up. The
operations of the last line are timed alone, in bfloat16. Takes a few minutes on an H200.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from bench.real_size import HEADS_LAYERS_FFN, random_base, random_examples
from bench.tables import Cell, Column, Table, add_write, publish, this_run
from recapture.conf.tune import TrainingConfig
from recapture.models.tuning.examples import Example
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.load import Base
from recapture.models.wan.lora import ATTENTION, TARGETS, add_lora, remove_lora
from recapture.models.wan.speed import Attention, speed_up
from recapture.tasks.tune.train_adapter import settings_of


@dataclass(frozen=True)
class Way:
    """One way to compute a step."""

    name: str
    attention: Attention = "cudnn"
    checkpointing: bool = False
    compiled: bool = False
    fused: bool = False
    budget: float = 1.0
    targets: tuple[str, ...] = ATTENTION
    share: float = 0.0  # of the blocks, from below, without an adapter


WAYS = {
    "1.3B": (
        Way("untuned", "native", checkpointing=True),
        Way("cuDNN attention", checkpointing=True),
        Way("no checkpointing"),
        Way("compiled, checkpointing", checkpointing=True, compiled=True),
        Way("compiled, budget .5", compiled=True, budget=0.5),
        Way("compiled", compiled=True),
        Way("compiled, torch's attention", "native", compiled=True),
        Way("compiled, torch's attention, fused", "native", compiled=True, fused=True),
        Way("compiled, feed-forward too", compiled=True, targets=TARGETS),
        Way("compiled, upper two thirds", compiled=True, share=1 / 3),
    ),
    "14B": (
        Way("untuned", "native", checkpointing=True),
        Way("compiled, checkpointing", checkpointing=True, compiled=True),
        Way("compiled, budget .2", compiled=True, budget=0.2),
        Way("compiled, budget .4", compiled=True, budget=0.4),
        Way("compiled, upper two thirds, budget .4", compiled=True, budget=0.4, share=1 / 3),
        Way("compiled, upper two thirds, budget .6", compiled=True, budget=0.6, share=1 / 3),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=WAYS, default="1.3B")
    parser.add_argument("--clip", default="81x512x512")
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", nargs="+", help="Only rows whose names contain one of these.")
    add_write(parser, "tuning_speed")
    given = parser.parse_args()
    base = random_base(given.size, vae=False)
    examples = random_examples(base, *map(int, given.clip.split("x")))
    rows: list[list[Cell]] = []
    first: float | None = None
    for way in WAYS[given.size]:
        if given.only and not any(word in way.name for word in given.only):
            continue
        try:
            seconds, gigabytes, before = measure(base, way, examples, given.rank, given.steps)
        except torch.OutOfMemoryError:
            rows.append([way.name, "does not fit", None, None, None, None])
            continue
        finally:
            remove_lora(base.transformer)
            gc.collect()
            torch.cuda.empty_cache()
        first = first or seconds
        rows.append([way.name, seconds, seconds / first, 2000 * seconds / 60, gigabytes, before])
    columns = [Column(""), Column("s per step", ".3f"), Column("against untuned", ".2f")]
    columns += [Column("2000 steps, min", ".0f"), Column("GB", ".0f"), Column("first two steps, s", ".0f")]
    title = f"Wan2.1 {given.size}, {given.clip}, rank {given.rank}, {given.steps} steps per row"
    name = f"{given.write or 'tuning_speed'}-{given.size}"
    notes = [parts(given.size, examples[0])]
    made = Table(name, title, columns, rows, this_run(device="cuda"), notes)
    publish([made], write=given.write is not None)


def measure(
    base: Base, way: Way, examples: list[Example], rank: int, steps: int
) -> tuple[float, float, float]:
    """Return median seconds per step, peak gigabytes, and the seconds of the first two steps."""
    torch.compiler.reset()
    for block in base.transformer.blocks:
        block._compiled_call_impl = None
    first = round(way.share * len(base.transformer.blocks))
    add_lora(base.transformer, rank=rank, targets=way.targets, first_block=first)
    speed_up(
        base.transformer,
        attention=way.attention,
        fused=way.fused,
        compiler=Compiler("the transformer") if way.compiled else None,
        activation_budget=way.budget,
    )
    config = TrainingConfig(batch=1, gradient_checkpointing=way.checkpointing, log_every=1000)
    settings = settings_of(config, steps + 2, seed=0)
    trainer = LoraTrainer(base, examples, settings, empty_text=torch.zeros_like(examples[0].text))
    torch.cuda.reset_peak_memory_stats()
    times = []
    for step in range(1, settings.steps + 1):
        begun = time.perf_counter()
        trainer.run(lambda step, values: None, stop_at=step)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return median(times[2:]), torch.cuda.max_memory_allocated() / 1e9, sum(times[:2])


def parts(size: str, example: Example) -> str:
    """Return what attention and matrix products of a step would take at the rates that they reach alone."""
    heads, layers, ffn = HEADS_LAYERS_FFN[size]
    _, frames, height, width = example.clean.shape
    tokens, wide = frames * height * width // 4, heads * 128
    query = torch.randn(1, heads, tokens, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.CUDNN_ATTENTION):

        def attend() -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(query, query, query)

        forward = timed(attend)
        both = timed(lambda: attend().sum().backward())
    left = torch.randn(tokens, wide, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(wide, wide, device="cuda", dtype=torch.bfloat16)
    rate = 2 * tokens * wide * wide / timed(lambda: left @ right)
    products = 2 * layers * (2 * tokens * (6 * wide * wide + 2 * wide * ffn)) / rate  # forward and to inputs
    return (
        f"Attention alone, cuDNN: {layers * forward:.3f} s forward, "
        f"{layers * (both - forward):.3f} s backward; "
        f"linear layers without adapters: {products:.3f} s at {rate / 1e12:.0f} TFLOP/s."
    )


def timed(work: Callable[[], object]) -> float:
    """Return the median seconds of a call on the GPU."""
    times = []
    for _ in range(8):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return median(times[2:])


if __name__ == "__main__":
    main()
