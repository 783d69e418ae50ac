"""The rows of bounded_loss.py: ways to sample, and the ways that lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from diffusers import FirstBlockCacheConfig
from torch import Tensor

from recapture.models.wan.load import Base
from recapture.models.wan.sampling import EXACT as ALL_PASSES
from recapture.models.wan.step_cache import Saving, StepCache

STEPS, GUIDANCE = 30, 3.0
EXACT = "exact"


@dataclass(frozen=True)
class Row:
    """One way to sample."""

    name: str
    steps: int = STEPS
    saving: Saving = ALL_PASSES
    seed: int = 0
    holds: bool = False  # the cache holds the velocity in place of extrapolating it
    blocks: float | None = None  # threshold of diffusers' FirstBlockCache


def rows() -> list[Row]:
    """Return the rows, the exact way first."""
    caches = [Row(f"cache {b:g}", saving=Saving(b)) for b in (0.03, 0.05, 0.1, 0.2, 0.4)]
    steps = [Row(f"{n} steps", n) for n in (20, 15, 12, 10)]
    guided = [Row(f"guidance to {end:g}", saving=Saving(guided=(0.0, end))) for end in (0.8, 0.6, 0.4)]
    return [
        Row(EXACT),
        *caches,
        *steps,
        *guided,
        Row("cache 0.1, guidance to 0.6", saving=Saving(0.1, (0.0, 0.6))),
        Row("20 steps, cache 0.1", 20, Saving(0.1)),
        Row("20 steps, cache 0.2", 20, Saving(0.2)),
        Row("20 steps, cache 0.2, guidance to 0.6", 20, Saving(0.2, (0.0, 0.6))),
        Row("15 steps, cache 0.2", 15, Saving(0.2)),
        Row("15 steps, cache 0.2, guidance to 0.6", 15, Saving(0.2, (0.0, 0.6))),
        Row("cache 0.1, held, not extrapolated", saving=Saving(0.1), holds=True),
        Row("FirstBlockCache 0.05", blocks=0.05),
        Row("FirstBlockCache 0.15", blocks=0.15),
        Row("another seed", seed=1),
    ]


class Held(StepCache):
    """A cache that holds the last velocity, as most published ones do."""

    def _extrapolated(self, latents: Tensor, sigma: float) -> Tensor:
        if self._fresh:
            return super()._extrapolated(latents, sigma)
        return self._known[-1][1]


class Work:
    """The share of a transformer's work that was done: feed-forward layers that ran."""

    def __init__(self) -> None:
        self.layers = 0

    def add(self, *unused: object) -> None:
        """Count one layer."""
        self.layers += 1


@contextmanager
def sampling_as(base: Base, row: Row) -> Iterator[Work]:
    """Let the base sample as the row does, within the context, and count what it computes."""
    work, transformer = Work(), base.transformer
    hooks: list[Any] = [block.ffn.register_forward_pre_hook(work.add) for block in transformer.blocks]
    cache = Held if row.holds else StepCache
    if row.blocks is not None:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=row.blocks))
    try:
        with mock.patch("recapture.models.wan.sampling.StepCache", cache):
            yield work
    finally:
        for hook in hooks:
            hook.remove()
        if row.blocks is not None:
            transformer.disable_cache()
