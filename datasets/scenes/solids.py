"""Bodies of the scenes that no training sees (`held_out_worlds.py`), ray-cast in closed form or by bisection.

Nothing here is shared with the engine of `render.py`: other shapes, other textures (`paint.py`), another
light. The world has OpenCV axes (x right, y down, z forward). Rays are [N, 3]; t runs along a direction that
is not normalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from recapture.datasets.scenes.paint import Paint, bumps

NEAR = 0.05  # what is nearer to a camera is not seen
Vector = tuple[float, float, float]
Cut = Literal["whole", "pickets", "mesh", "sieve", "confetti", "rings", "leaves"]


class Solid(Protocol):
    """A body that rays can meet."""

    @property
    def paint(self) -> Paint:
        """Return what it is painted with."""
        ...

    def hit(self, origin: Tensor, direction: Tensor, time: Tensor) -> Tensor:
        """Return t [N] > NEAR of the first hit, inf where there is none; time [N] in frames."""
        ...

    def normal(self, point: Tensor, time: Tensor) -> Tensor:
        """Return the unit normal [N, 3] at points of its surface."""
        ...

    def own(self, point: Tensor, time: Tensor) -> Tensor:
        """Return the points [N, 3] in coordinates that move with it."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An upright ellipsoid that travels along a line; `inside`: seen from within, as a backdrop."""

    centre: Vector
    radii: Vector
    paint: Paint
    velocity: Vector = (0.0, 0.0, 0.0)  # units per frame
    inside: bool = False

    def _centre(self, point: Tensor, time: Tensor) -> Tensor:
        return point.new_tensor(self.centre) + point.new_tensor(self.velocity) * time[:, None]

    def hit(self, origin: Tensor, direction: Tensor, time: Tensor) -> Tensor:
        radii = origin.new_tensor(self.radii)
        start, along = (origin - self._centre(origin, time)) / radii, direction / radii
        a, half_b = along.square().sum(-1), (start * along).sum(-1)
        c = start.square().sum(-1) - 1
        root = (half_b.square() - a * c).clamp_min(0).sqrt()
        t = (-half_b + root) / a if self.inside else (-half_b - root) / a
        return torch.where((half_b.square() > a * c) & (t > NEAR), t, torch.inf)

    def normal(self, point: Tensor, time: Tensor) -> Tensor:
        outward = (point - self._centre(point, time)) / point.new_tensor(self.radii).square()
        outward = torch.nn.functional.normalize(outward, dim=-1)
        return -outward if self.inside else outward

    def own(self, point: Tensor, time: Tensor) -> Tensor:
        return point - self._centre(point, time)


@dataclass(frozen=True)
class Card:
    """A flat sheet with a cut-out: `cut` says which of its points (u, v), in units from its centre, exist."""

    centre: Vector
    across: Vector  # unit, along u
    down: Vector  # unit, along v, perpendicular to `across`
    half: tuple[float, float]
    paint: Paint
    cut: Cut = "whole"
    pitch: float = 0.5  # of the cut's pattern, in units
    share: float = 0.3  # of the pitch that the pattern's strokes are wide

    def hit(self, origin: Tensor, direction: Tensor, time: Tensor) -> Tensor:
        normal = self.normal(origin[:1], time[:1])[0]
        facing = direction @ normal
        facing = torch.where(facing.abs() < 1e-6, torch.full_like(facing, 1e-6), facing)
        t = ((origin.new_tensor(self.centre) - origin) @ normal) / facing
        u, v, _ = self.own(origin + t[:, None] * direction, time).unbind(-1)
        there = (u.abs() <= self.half[0]) & (v.abs() <= self.half[1]) & (t > NEAR)
        return torch.where(there & _CUTS[self.cut](u, v, self.pitch, self.share), t, torch.inf)

    def normal(self, point: Tensor, time: Tensor) -> Tensor:
        axes = point.new_tensor([self.across, self.down])
        return torch.linalg.cross(axes[0], axes[1]).expand_as(point)

    def own(self, point: Tensor, time: Tensor) -> Tensor:
        away = point - point.new_tensor(self.centre)
        axes = away.new_tensor([self.across, self.down])
        flat = away @ axes.mT
        return torch.cat([flat, torch.zeros_like(flat[:, :1])], dim=-1)


@dataclass(frozen=True)
class Ground:
    """Hills: y = level - rise(x, z), flat near `middle` and higher farther away."""

    level: float
    middle: tuple[float, float]  # x, z
    height: float
    paint: Paint
    flat: float = 7.0  # radius of the plain
    reach: float = 70.0  # t of the farthest hit

    def surface(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the ground's y [N] at x and z."""
        away = ((x - self.middle[0]).square() + (z - self.middle[1]).square()).sqrt()
        grown = (away / self.flat - 1).clamp_min(0)
        return self.level - self.height * (grown / (1 + grown)) * bumps(x, z)

    def hit(self, origin: Tensor, direction: Tensor, time: Tensor) -> Tensor:
        def above(t: Tensor) -> Tensor:
            at = origin + t[:, None] * direction
            return self.surface(at[:, 0], at[:, 2]) - at[:, 1]

        low, high = torch.full_like(time, NEAR), torch.full_like(time, torch.inf)
        steps = torch.logspace(math.log10(0.5), math.log10(self.reach), 72).tolist()
        last = low.clone()
        for step in steps:
            here = torch.full_like(last, step)
            crossed = torch.isinf(high) & (above(here) < 0)
            low, high = torch.where(crossed, last, low), torch.where(crossed, here, high)
            last = here
        met = torch.isfinite(high)
        high = torch.where(met, high, low + 1)
        for _ in range(22):
            half = (low + high) / 2
            below = above(half) < 0
            low, high = torch.where(below, low, half), torch.where(below, half, high)
        return torch.where(met, high, torch.inf)

    def normal(self, point: Tensor, time: Tensor) -> Tensor:
        x, z, step = point[:, 0], point[:, 2], 0.02
        slope_x = (self.surface(x + step, z) - self.surface(x - step, z)) / (2 * step)
        slope_z = (self.surface(x, z + step) - self.surface(x, z - step)) / (2 * step)
        return torch.nn.functional.normalize(
            torch.stack([slope_x, -torch.ones_like(x), slope_z], dim=-1), dim=-1
        )

    def own(self, point: Tensor, time: Tensor) -> Tensor:
        return point


def _whole(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    return torch.ones_like(u, dtype=torch.bool)


def _pickets(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return thin upright slats and two rails."""
    return (torch.remainder(u, pitch) < share * pitch) | (
        (torch.remainder(v, 4 * pitch) - 2 * pitch).abs() < share * pitch / 2
    )


def _mesh(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return wires in both directions, turned by 45 degrees."""
    return (torch.remainder(u + v, 1.41 * pitch) < share * pitch) | (
        torch.remainder(u - v, 1.41 * pitch) < share * pitch
    )


def _from_grid(u: Tensor, v: Tensor, pitch: float) -> Tensor:
    a, b = (torch.remainder(part, pitch) - pitch / 2 for part in (u, v))
    return (a.square() + b.square()).sqrt()


def _sieve(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return a sheet with round perforations."""
    return _from_grid(u, v, pitch) > share * pitch


def _confetti(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return separate discs."""
    return _from_grid(u, v, pitch) < share * pitch


def _rings(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return rings about a point beside the centre, so that their gaps are crescents."""
    away = ((u - 0.3 * pitch).square() + v.square()).sqrt()
    return torch.remainder(away, pitch) < share * pitch * (1.3 + torch.cos(torch.atan2(v, u)))


def _leaves(u: Tensor, v: Tensor, pitch: float, share: float) -> Tensor:
    """Return slanted blades in rows, the odd ones turned the other way."""
    row = torch.floor(v / pitch)
    turn = torch.where(torch.remainder(row, 2) == 0, 1.0, -1.0)
    a = torch.remainder(u + 0.5 * pitch * row, pitch) - pitch / 2
    b = torch.remainder(v, pitch) - pitch / 2
    along, beside = (a + turn * b) / 1.41, (a - turn * b) / 1.41
    return (along / (0.62 * pitch)).square() + (beside / (share * pitch)).square() < 1


_CUTS: dict[Cut, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "whole": _whole,
    "pickets": _pickets,
    "mesh": _mesh,
    "sieve": _sieve,
    "confetti": _confetti,
    "rings": _rings,
    "leaves": _leaves,
}
