"""The learning rate over a run, and how a run reports its curve or that it has diverged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Log = Callable[[int, Mapping[str, float]], None]  # step, values by name


@dataclass(frozen=True)
class Schedule:
    """Learning rate: linear warm-up, constant, then linear to zero from `decay_from` of all steps."""

    steps: int
    rate: float
    warm_up: int  # steps
    decay_from: float  # share of the steps; 1: the rate stays constant

    def at(self, step: int) -> float:
        """Return the rate of step 0, 1, ..., steps - 1."""
        rising = min(1.0, (step + 1) / self.warm_up)
        left = (self.steps - step) / max(1.0, self.steps * (1 - self.decay_from))
        return self.rate * min(rising, left, 1.0)


class Diverged(ValueError):
    """Raised when a loss or a gradient is not finite."""
