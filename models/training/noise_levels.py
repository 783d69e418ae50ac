"""The noise levels that flow matching is trained at."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recapture.models.training.seeds import uniform

NoiseLevels = Literal["uniform", "logit_normal", "mixed"]


def draw_sigma(count: int, random: torch.Generator, kind: NoiseLevels, shift: float) -> Tensor:
    """Draw noise levels [count] in [0.001, 0.999], on the generator's device.

    mixed: the even ones logit-normal and shifted, the odd ones uniform. shift: s -> shift s / (1 +
    (shift - 1) s), the timestep shift of sampling; it is applied to all levels of the other two kinds.
    """
    if kind == "uniform":
        sigma = _shifted(uniform(0, 1, (count,), random), shift)
    else:
        sigma = _shifted(torch.randn((count,), generator=random, device=random.device).sigmoid(), shift)
    if kind == "mixed":
        even = torch.arange(count, device=random.device) % 2 == 0
        sigma = torch.where(even, sigma, uniform(0, 1, (count,), random))
    return sigma.clamp(1e-3, 1 - 1e-3)


def _shifted(sigma: Tensor, shift: float) -> Tensor:
    return shift * sigma / (1 + (shift - 1) * sigma)
