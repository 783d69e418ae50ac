"""Random numbers that belong to a step, not to how the run got there."""

from __future__ import annotations

import torch
from torch import Tensor


def generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """Return a generator for one step of one purpose; give every purpose its own seed."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step * 7919 + 12345) % (2**63 - 1))


def uniform(low: float, high: float, size: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Draw uniform numbers on the generator's device."""
    return low + (high - low) * torch.rand(size, generator=random, device=random.device)
