"""How much faster a base may fill: shortcuts of sampling, their loss on holes with a known truth, the choice.

There is no truth for the holes of a view. So further holes are made, in the shape and motion of the real
ones but elsewhere, where the view's own pixels are known. The loss of a shortcut is the difference of PSNR
there to the exact sampling, paired by view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from torch import Tensor

from recapture.models.wan.step_cache import Saving

# Share of the steps, budget of the step cache, interval of guidance: see benchmarks/bounded_loss.md
TRIED = (
    (1.0, 0.05, (0.0, 1.0)),
    (1.0, 0.1, (0.0, 1.0)),
    (1.0, 0.1, (0.0, 0.6)),
    (0.67, 0.0, (0.0, 1.0)),
    (0.67, 0.1, (0.0, 1.0)),
    (0.67, 0.2, (0.0, 0.6)),
    (0.5, 0.0, (0.0, 1.0)),
    (0.5, 0.1, (0.0, 0.6)),
    (0.33, 0.0, (0.0, 1.0)),
    (0.33, 0.0, (0.0, 0.6)),
)
ALWAYS = (0.0, 1.0)
FEWEST_STEPS = 8  # below, nothing is saved
CONFIDENCE = 0.95  # of the upper bound of a loss
FEWEST = 3  # views below which no loss can be bounded
SHARE = 0.002  # of the pixels that must be hidden


@dataclass(frozen=True)
class Shortcut:
    """One way to sample: number of steps, and the passes that are left out."""

    steps: int
    saving: Saving = field(default_factory=Saving)

    @property
    def name(self) -> str:
        """Return its settings in words."""
        begin, end = self.saving.guided
        words = [f"{self.steps} steps"]
        words += [f"step cache {self.saving.budget:g}"] if self.saving.budget else []
        words += [f"guidance {begin:g} to {end:g}"] if (begin, end) != ALWAYS else []
        return " and ".join(words)


def shortcuts(steps: int, *, guided: bool, caches: bool) -> list[Shortcut]:
    """Return the ways to sample that are tried, the exact one first.

    guided: whether there is guidance; caches: whether the solver lets steps be extrapolated.
    """
    exact = Shortcut(steps)
    if steps < FEWEST_STEPS:
        return [exact]
    found = [
        Shortcut(
            max(round(share * steps), FEWEST_STEPS),
            Saving(budget if caches else 0.0, interval if guided else ALWAYS),
        )
        for share, budget, interval in TRIED
    ]
    return list(dict.fromkeys([exact, *found]))


def moved_holes(visible: Tensor) -> Tensor:
    """Return holes bool [T, H, W] where a view is visible [T, H, W]: its own, moved by half of its size.

    By half of the width, or of the height where that hides more.
    """
    hole = ~visible
    moved = [hole.roll(hole.shape[axis] // 2, axis) & visible for axis in (2, 1)]
    return max(moved, key=lambda one: int(one.sum()))


def enough_hidden(hidden: Tensor) -> bool:
    """Return whether hidden pixels bool [T, H, W] are enough to measure a loss on."""
    return float(hidden.float().mean()) >= SHARE


@dataclass(frozen=True)
class Loss:
    """What a shortcut costs and saves, over views."""

    shortcut: Shortcut
    loss: float  # mean PSNR in dB that it loses to the exact way; below 0 it gains
    upper: float  # upper end of the loss's one-sided interval
    passes: float  # mean passes through the transformer, as a share of the exact way's
    seconds: float  # mean, as a share of the exact way's


def losses(
    tried: Sequence[Shortcut], psnr: np.ndarray, passes: np.ndarray, seconds: np.ndarray
) -> list[Loss]:
    """Return the loss of each shortcut; all arrays are [views, shortcuts], and the first shortcut is exact.

    The interval is Student's, of the paired differences. With fewer than FEWEST views its end is infinite.
    """
    found = []
    for place, shortcut in enumerate(tried):
        lost = psnr[:, 0] - psnr[:, place]
        mean, upper = float(lost.mean()), math.inf
        if len(lost) >= FEWEST:
            error = float(lost.std(ddof=1)) / math.sqrt(len(lost))
            upper = mean + float(stats.t.ppf(CONFIDENCE, len(lost) - 1)) * error
        cost = float(passes[:, place].mean() / passes[:, 0].mean())
        took = float(seconds[:, place].mean() / seconds[:, 0].mean())
        found.append(Loss(shortcut, mean, upper, cost, took))
    return found


def cheapest(found: Sequence[Loss], max_loss: float) -> Loss:
    """Return the shortcut with the fewest passes whose upper bound is at most max_loss dB, or the exact way.

    Passes decide, not seconds, so that the choice is the same on every machine.
    """
    fitting = [one for one in found[1:] if one.upper <= max_loss and one.passes < 1]
    return min(fitting, key=lambda one: one.passes, default=found[0])
