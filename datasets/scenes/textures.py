"""Shade procedural surfaces: filtered patterns, multi-octave grain, Lambert light, soft shadows.

Up to the pixel-footprint filter, everything is a function of the surface point alone, so the same point has
the same colour in every view.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from recapture.datasets.scenes.layout import PATTERNS
from recapture.datasets.scenes.photographs import photograph_colour
from recapture.datasets.scenes.rays import Components, Frames, Rays, per_hit, per_ray
from recapture.datasets.scenes.surfaces import Surface

FLOOR_FACE = 3
_VOLUME_SIDE = 64
OCTAVES = (4, 8, 16, 32)  # cells per period of the noise volume
COARSE_PERIOD, FINE_PERIOD = 7.3, 1.9  # scene units


@lru_cache(maxsize=8)
def noise_volume(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return periodic value noise [octaves, S + 1, S + 1, S + 1] in about [-1, 1]; last repeats first."""
    generator = torch.Generator().manual_seed(20240607)
    octaves = []
    for cells in OCTAVES:
        lattice = torch.rand((1, 1, cells, cells, cells), generator=generator) * 2 - 1
        lattice = functional.pad(lattice, (1, 2, 1, 2, 1, 2), mode="circular")
        # Corner-aligned samples of the middle cells + 1 lattice points: one period and its first repeat.
        grid = torch.linspace(-1, 1, _VOLUME_SIDE + 1) * cells / (cells + 2) - 1 / (cells + 2)
        z, y, x = torch.meshgrid(grid, grid, grid, indexing="ij")
        octaves.append(functional.grid_sample(lattice, torch.stack([x, y, z], -1)[None], align_corners=True))
    return torch.cat(octaves, dim=1)[0].to(device, dtype)


def noise(point: Components, period: float) -> Tensor:
    """Return octaves of noise [octaves, ...] at points [...], repeating every `period` units."""
    x, y, z = (2 * torch.frac(torch.frac(part / period) + 1) - 1 for part in point)
    volume = noise_volume(x.device, x.dtype)
    grid = torch.stack([x, y, z], dim=-1).reshape(1, 1, 1, -1, 3)
    sampled = functional.grid_sample(volume[None], grid, align_corners=True, padding_mode="border")
    return sampled.reshape(len(OCTAVES), *x.shape)


def square_wave(x: Tensor, width: Tensor) -> Tensor:
    """Return the wave that is +1 on [0, 1) and -1 on [1, 2), averaged over a window of `width` around x."""
    width = width.clamp_min(1e-3)

    def integral(at: Tensor) -> Tensor:
        return 1 - (torch.remainder(at, 2) - 1).abs()

    return (integral(x + width / 2) - integral(x - width / 2)) / width


def _line(x: Tensor, width: Tensor, thickness: float) -> Tensor:
    """Return the share (0..1) of a window around x that lines of this thickness at every integer cover."""
    distance = (torch.remainder(x + 0.5, 1) - 0.5).abs()
    sharp = ((thickness / 2 - distance) / width.clamp_min(1e-3) + 0.5).clamp(0, 1)
    far = width.clamp(0, 1)
    return sharp * (1 - far) + thickness * far


def pattern_value(
    pattern: Tensor,
    uv: tuple[Tensor, Tensor],
    footprint: tuple[Tensor, Tensor],
    turn: Tensor,
    clouds: Tensor,
    used: Collection[str] = PATTERNS,
) -> Tensor:
    """Return the mix between a texture's two colours, in [-1, 1].

    pattern: [...] index into PATTERNS; uv and footprint in cells; turn: [...] radians, turns stripes;
    clouds: [...] coarse noise, the basis of marble; used: the patterns that may occur.
    """
    value = torch.zeros_like(uv[0])
    for index, name in enumerate(PATTERNS):
        if name == "marbled":
            candidate = torch.tanh(4.5 * clouds)
        elif name not in used:
            continue
        elif name in _WAVES:
            candidate = _WAVES[name](*uv, *footprint, turn)
        else:
            candidate = torch.ones_like(value)
        value = torch.where(pattern == index, candidate, value)
    return value


def _checks(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    return square_wave(u, du) * square_wave(v, dv)


def _stripes(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    cosine, sine = turn.cos(), turn.sin()
    return square_wave(u * cosine + v * sine, ((du * cosine) ** 2 + (dv * sine) ** 2).sqrt())


def _dots(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    width = torch.maximum(du, dv)
    distance = ((torch.remainder(u, 1) - 0.5) ** 2 + (torch.remainder(v, 1) - 0.5) ** 2).sqrt()
    sharp = ((0.32 - distance) / width.clamp_min(1e-3) + 0.5).clamp(0, 1)
    covered = sharp + (math.pi * 0.32**2 - sharp) * (width - 0.5).clamp(0, 1)
    return 2 * covered - 1


def _bricks(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    row = torch.floor(v)
    shifted = u / 2 + row / 2
    mortar = torch.maximum(_line(shifted, du / 2, 0.06), _line(v, dv, 0.12))
    tone = torch.sin(torch.floor(shifted) * 12.9898 + row * 78.233) * 0.45 + 0.5
    return tone * (1 - mortar) - mortar


def _waves(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    """Return wavy stripes along u or (turned) along v; they close around an even number of cells."""
    swap = turn.sin().abs() > 0.7
    u, v, du, dv = (torch.where(swap, a, b) for a, b in ((v, u), (u, v), (dv, du), (du, dv)))
    slope = 0.45 * math.pi * torch.cos(math.pi * u)
    return square_wave(v + 0.45 * torch.sin(math.pi * u), ((slope * du) ** 2 + dv**2).sqrt())


def _speckles(u: Tensor, v: Tensor, du: Tensor, dv: Tensor, turn: Tensor) -> Tensor:
    """Return flakes of many sizes, at most one per cell; a few cells have none."""
    seed = torch.floor(u) * 12.9898 + torch.floor(v) * 78.233
    at_u, at_v, radius = (torch.frac(torch.sin(seed + k) * 431.7).abs() for k in (0.0, 1.7, 3.1))
    away_u = torch.remainder(u, 1) - 0.5 - 0.3 * (at_u - 0.5)
    away_v = torch.remainder(v, 1) - 0.5 - 0.3 * (at_v - 0.5)
    width = torch.maximum(du, dv)
    distance = (away_u.square() + away_v.square()).sqrt()
    sharp = ((0.4 * radius - 0.06 - distance) / width.clamp_min(1e-3) + 0.5).clamp(0, 1)
    covered = sharp + (0.1 - sharp) * (1.5 * width - 0.3).clamp(0, 1)
    return 2 * covered - 1


_WAVES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "checkered": _checks,
    "striped": _stripes,
    "dotted": _dots,
    "bricked": _bricks,
    "waved": _waves,
    "speckled": _speckles,
}


def shade(frames: Frames, rays: Rays, surface: Surface) -> Tensor:
    """Return the colours [..., 3] in [0, 1] of the surfaces that rays [...] meet."""
    _, turn, grain, *phase = per_hit(frames.laying, rays.view, surface.texture).unbind(-1)
    u, v = surface.uv[0], surface.uv[1]
    inside = (
        surface.local[0] + 3 * phase[0],
        surface.local[1] + 3 * phase[1],
        surface.local[2] + 3 * phase[2],
    )
    coarse, fine = noise(inside, COARSE_PERIOD), noise(inside, FINE_PERIOD)
    fades = [
        torch.exp(-((1.6 * count / period * surface.footprint) ** 2))
        for period in (COARSE_PERIOD, FINE_PERIOD)
        for count in OCTAVES
    ]
    clouds = coarse[1] + 0.7 * coarse[2] * fades[2] + 0.35 * fine[1] * fades[5]
    speckle = 0.5 * coarse[3] * fades[3] + 0.8 * fine[1] * fades[5] + fine[2] * fades[6] + fine[3] * fades[7]

    pattern = per_hit(frames.pattern, rays.view, surface.texture)
    mix = (pattern_value(pattern, (u, v), surface.uv_footprint, turn, clouds, frames.patterns) + 1) / 2
    colours = per_hit(frames.colours, rays.view, surface.texture)  # [..., 2, 3]
    lighting = per_ray(frames.lighting, rays.view)
    light = lighting[..., 0] + lighting[..., 1] * surface.lit.clamp_min(0) + 0.10 * surface.up
    light = light * _shadow(frames, rays, surface) * _corner_shade(frames, rays, surface)
    tone = (1 + 0.45 * grain * speckle).clamp(0.25, 1.7) * light
    colour = colours[..., 1, :] + (colours[..., 0, :] - colours[..., 1, :]) * mix[..., None]
    if "photographed" in frames.patterns:
        choice = torch.remainder(phase[2] / 5, 1)
        footprint = torch.maximum(*surface.uv_footprint)
        photograph = photograph_colour(u + phase[0], v + phase[1], footprint, choice)
        is_photograph = (pattern == PATTERNS.index("photographed"))[..., None]
        colour = torch.where(is_photograph, photograph * colours[..., 0, :], colour)
    return (colour * tone[..., None] * lighting[..., 2:]).clamp(0, 1)


def _shadow(frames: Frames, rays: Rays, surface: Surface) -> Tensor:
    """Return the soft round shadows of bodies straight below on the floor, fainter for higher bodies."""
    x, _, z = surface.point
    size, centre = per_ray(frames.size, rays.view), per_ray(frames.centre, rays.view)
    active = per_ray(frames.active, rays.view)
    floor = centre[..., 0, 1] + size[..., 0, 1]
    shadow = torch.ones_like(x)
    for index, kind in enumerate(frames.kinds, start=1):
        half = size[..., index, :]
        radius = half[..., 0] if kind != "box" else (half[..., 0] + half[..., 2]) / 2
        height = half[..., 0] if kind == "sphere" else half[..., 1]
        gap = (floor - centre[..., index, 1] - height).clamp_min(0)
        spread = radius * 1.15 + 0.35 * gap
        distance = (x - centre[..., index, 0]) ** 2 + (z - centre[..., index, 2]) ** 2
        strength = 0.6 * active[..., index] / (1 + 1.5 * gap)
        shadow = shadow * (1 - strength * torch.exp(-distance / (spread * spread)))
    return torch.where((surface.body == 0) & (surface.face == FLOOR_FACE), shadow, torch.ones_like(shadow))


def _corner_shade(frames: Frames, rays: Rays, surface: Surface) -> Tensor:
    """Return the darkening of walls towards the room's edges; a wall's own plane does not count."""
    half = per_ray(frames.size, rays.view)[..., 0, :]
    shaded = torch.ones_like(surface.lit)
    for axis, part in enumerate(surface.local):
        distance = (half[..., axis] - part.abs()).clamp_min(0)
        factor = 1 - 0.35 * torch.exp(-distance / 0.45)
        shaded = shaded * torch.where(surface.face // 2 == axis, torch.ones_like(factor), factor)
    return torch.where(surface.body == 0, shaded, torch.ones_like(shaded))
