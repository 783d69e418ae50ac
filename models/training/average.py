"""The running average of the weights, which a finished run is judged by and kept as."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def update_average(
    average: Mapping[str, Tensor], weights: Mapping[str, Tensor], ema: float, step: int
) -> None:
    """Move an exponential average towards the weights after `step` steps, in place.

    average <- d * average + (1 - d) * weights with d = min(ema, step / (step + 10)), so that the first steps
    do not hold on to the start values.
    """
    decay = min(ema, step / (step + 10))
    keys = list(average)
    torch._foreach_lerp_([average[k] for k in keys], [weights[k].detach() for k in keys], 1 - decay)
