"""Sampling with fewer passes through the transformer, at a bounded loss.

Two ways, which combine: steps whose velocity is extrapolated from computed ones, and guidance in a part of
the steps alone. Both work on velocities and need nothing of the transformer: it may be compiled, adapted,
shown packed frames, or have any layout.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

FIRST = 0.2  # share of the steps that are always computed: structure is decided there
LONGEST = 4  # steps in a row that may be extrapolated
KEPT = 2  # computed steps to extrapolate from


class Place(Protocol):
    """Where the sampling loop stands; see `sampling.Step`."""

    @property
    def index(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def sigma(self) -> float: ...


@dataclass(frozen=True)
class Saving:
    """Which passes a sampling leaves out; by default none.

    budget: change of the velocity, as a share of its size, up to which a step is extrapolated in place of
    being computed; 0 computes all. guided: shares of the steps between which there is guidance, and with it a
    second pass (arXiv 2404.07724). Raises ValueError for values out of range.
    """

    budget: float = 0.0
    guided: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        begin, end = self.guided
        if self.budget < 0 or not 0 <= begin < end <= 1:
            raise ValueError(
                f"sampling: a step cache of {self.budget}, guidance between {begin} and {end} of the steps;"
                " use a budget from 0, and shares with 0 <= begin < end <= 1"
            )

    def guides(self, step: Place) -> bool:
        """Return whether there is guidance at the step."""
        begin, end = self.guided
        return begin * step.count <= step.index < end * step.count


class StepCache:
    """The computed velocities of one sampling, from which others are extrapolated.

    The rule follows EasyCache (arXiv 2507.02860): the rate at which the velocity changed between the last
    two computed steps tells how far it has moved since the last one; beyond the budget it is computed again.
    EasyCache takes the rate per change of the latents and holds what the transformer adds to them. Here it
    is the rate per sigma, and the velocity is extrapolated linearly in sigma, which keeps far closer to the
    exact sample (benchmarks/bounded_loss.md). One decision holds for both passes of guidance.

    fresh: the solver may draw fresh noise between steps. The velocity then jumps with the noise, but the
    clean estimate does not: it takes the velocity's place, and is held.
    """

    def __init__(self, saving: Saving, *, fresh: bool = False) -> None:
        self._budget, self._fresh = saving.budget, fresh
        self._known: list[tuple[float, Tensor]] = []  # (sigma, velocity or clean estimate) of computed steps
        self._kind: Hashable = None
        self._skipped = 0

    def velocity(
        self, latents: Tensor, step: Place, kind: Hashable, compute: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the velocity [1, z, T', h, w] of the step: computed, or extrapolated.

        kind: of the velocity; where it changes, with the transformer or with guidance, what is known of the
        other kind is forgotten. compute: what the exact sampling calls.
        """
        if self._budget == 0:
            return compute(latents)
        if kind != self._kind:
            self._known, self._kind = [], kind
        if self._suffices(step):
            self._skipped += 1
            return self._extrapolated(latents, step.sigma)
        self._skipped = 0
        velocity = compute(latents)
        kept = latents - step.sigma * velocity if self._fresh else velocity
        self._known = [*self._known[1 - KEPT :], (step.sigma, kept)]
        return velocity

    def _suffices(self, step: Place) -> bool:
        """Return whether what is known suffices for the step."""
        early, last = step.index < FIRST * step.count, step.index == step.count - 1
        if early or last or len(self._known) < KEPT or self._skipped >= LONGEST:
            return False
        (before, one), (sigma, other) = self._known
        rate = float((other - one).norm() / other.norm().clamp_min(1e-12)) / (before - sigma)
        return rate * (sigma - step.sigma) < self._budget

    def _extrapolated(self, latents: Tensor, sigma: float) -> Tensor:
        (before, one), (last, other) = self._known
        if self._fresh:
            return (latents - other) / sigma
        return other + (sigma - last) / (last - before) * (other - one)
