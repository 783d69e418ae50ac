"""One guided step of a base with random weights, by the clock, and the ways to compute it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.real_size import moving_hole, random_base, random_text
from recapture.models.wan.compiled import Compiler
from recapture.models.wan.conditioning import Conditioning
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import Step, guided_velocity
from recapture.models.wan.speed import speed_up
from recapture.models.wan.text import Text

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
