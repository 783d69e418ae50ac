"""Textures of the scenes that no training sees: lattice noise of integer hashes, cells, prints, bark.

Unlike `textures.py`: no volume of stored noise, no photographs, none of its patterns. A paint is a function
of the point on the body alone; octaves that are finer than a pixel are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Look = Literal["cloudy", "bark", "scales", "print", "veined", "grassy"]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """A look in three colours of [0, 1]; `cells` of it per unit."""

    look: Look
    colours: tuple[Vector, Vector, Vector]
    cells: float = 1.0
    seed: int = 0
    glows: bool = False  # not lit, as a sky

    def colour(self, point: Tensor, footprint: Tensor) -> Tensor:
        """Return [N, 3] at points [N, 3] in the body's coordinates; footprint [N]: units per pixel."""
        mix = self._mix(point * self.cells, footprint * self.cells).clamp(0, 1)[:, None]
        low, middle, high = point.new_tensor(self.colours).unbind(0)
        below, above = (2 * mix).clamp(0, 1), (2 * mix - 1).clamp(0, 1)
        return low + (middle - low) * below + (high - middle) * above

    def _mix(self, at: Tensor, footprint: Tensor) -> Tensor:
        x, y, z = at.unbind(-1)
        if self.look == "cloudy":
            return 0.5 + 1.1 * clouds(at, footprint, self.seed)
        if self.look == "bark":
            return 0.5 + 1.2 * clouds(torch.stack([3 * x, 0.4 * y, 3 * z], -1), 3 * footprint, self.seed)
        if self.look == "veined":
            wander = clouds(at, footprint, self.seed)
            ridge = 1 - (6 * wander).abs().clamp(0, 1)
            return 0.25 + 0.75 * _kept(ridge, footprint, 1.0, 0.3)
        if self.look == "grassy":
            fine = clouds(torch.stack([4 * x, y, 4 * z], -1), 4 * footprint, self.seed + 1)
            return 0.5 + 0.8 * clouds(0.3 * at, 0.3 * footprint, self.seed) + 0.6 * fine
        if self.look == "scales":
            row = torch.floor(y + z)
            shift = torch.remainder(x + 0.5 * row, 1) - 0.5
            drop = torch.remainder(y + z, 1)
            edge = (shift.square() * 4 + (1 - drop).square()).sqrt()
            tone = 0.3 * hashed(torch.floor(x + 0.5 * row), row, row * 0, self.seed)
            return _kept((1.1 - 0.7 * edge).clamp(0, 1) - tone, footprint, 1.0, 0.4)
        letter = hashed(torch.floor(6 * x), torch.floor(3 * (y + z)), z * 0, self.seed) > 0.45
        line = torch.remainder(3 * (y + z), 1) < 0.55
        paragraph = clouds(0.35 * at, footprint, self.seed + 2) > -0.04
        return _kept((~(letter & line & paragraph)).to(x), footprint, 6.0, 0.75)


def _kept(value: Tensor, footprint: Tensor, frequency: float, mean: float) -> Tensor:
    """Return what of a pattern a pixel still resolves, and its mean where it does not."""
    seen = (2 - 3 * footprint * frequency).clamp(0, 1)
    return mean + (value - mean) * seen


def hashed(x: Tensor, y: Tensor, z: Tensor, seed: int) -> Tensor:
    """Return a value in [0, 1) for each lattice point with whole coordinates [N]."""
    n = x.long() * 73856093 + y.long() * 19349663 + z.long() * 83492791 + seed * 1640531513
    n = (n ^ (n >> 15)) * 739982445 & 0x7FFFFFFF
    n = (n ^ (n >> 12)) * 695872825 & 0x7FFFFFFF
    return ((n ^ (n >> 15)) & 0xFFFF).to(x) / 65536


def lattice(at: Tensor, seed: int) -> Tensor:
    """Return smooth noise in [0, 1) at points [N, 3], one value per lattice cell."""
    cell = torch.floor(at)
    x, y, z = cell.unbind(-1)
    fade = (at - cell) ** 2 * (3 - 2 * (at - cell))
    total = torch.zeros_like(x)
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                share = torch.ones_like(x)
                for axis, far in enumerate((dx, dy, dz)):
                    share = share * (fade[:, axis] if far else 1 - fade[:, axis])
                total = total + share * hashed(x + dx, y + dy, z + dz, seed)
    return total


def clouds(at: Tensor, footprint: Tensor, seed: int, octaves: int = 4) -> Tensor:
    """Return octaves of `lattice` about 0, each half as strong as the one before it."""
    total = torch.zeros_like(footprint)
    for octave in range(octaves):
        scale = 2.03**octave
        seen = (2 - 3 * footprint * scale).clamp(0, 1)
        total = total + seen * 0.5**octave * (lattice(at * scale + 17.3 * octave, seed + octave) - 0.5)
    return total


def bumps(x: Tensor, z: Tensor) -> Tensor:
    """Return the shape of hills, about -1 to 1, smooth."""
    return (
        torch.sin(0.31 * x + 1.3)
        + torch.sin(0.23 * z + 0.4 * torch.sin(0.19 * x))
        + 0.5 * torch.sin(0.53 * (x - z))
    ) / 2.5
