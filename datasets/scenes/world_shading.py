"""Shade the surfaces of a scene of the variety "world": sun with shadows, sky, highlights, clouds, haze.

Except for the highlights and the pixel-footprint filter, everything is a function of the surface point alone,
so that the same point has the same colour in every view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.datasets.scenes.layout import PATTERNS
from recapture.datasets.scenes.photographs import photograph_colour
from recapture.datasets.scenes.rays import Frames, Rays, per_hit, per_ray
from recapture.datasets.scenes.textures import COARSE_PERIOD, FINE_PERIOD, OCTAVES, noise, pattern_value
from recapture.datasets.scenes.world_rays import cast_world
from recapture.datasets.scenes.world_shadows import Outlines, shadow_at
from recapture.datasets.scenes.world_surfaces import WorldSurface, world_surface

_SKY_LIGHT, _LAMP_LIGHT = 0.22, 0.1  # how much more light a surface gets that faces up, outdoors and indoors


def see(
    frames: Frames, shapes: Outlines, rays: Rays, slots: list[int], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour [F, P, 3] in [0, 1], z-depth [F, P] and body [F, P] of rays of whole views."""
    assert frames.air is not None
    depth, body = cast_world(frames, rays, slots)
    seen = world_surface(frames, rays, depth, body, codes)
    softness, strength = per_ray(frames.air[:, 2:4], rays.view).unbind(-1)
    blocked = shadow_at(frames, shapes, seen.surface.point, body, slots, softness) * strength
    return shade_world(frames, rays, seen, blocked), depth, body


def shade_world(frames: Frames, rays: Rays, seen: WorldSurface, blocked: Tensor) -> Tensor:
    """Return the colours [..., 3] in [0, 1]; blocked [...]: share of the direct light in shadow."""
    assert frames.air is not None and frames.gloss is not None
    surface, sky = seen.surface, seen.sky
    air = per_ray(frames.air, rays.view)
    overhead, cloud_point, glow = _sky_coordinates(frames, rays, seen, air)
    laying = per_hit(frames.laying, rays.view, surface.texture).unbind(-1)
    inside = tuple(
        torch.where(sky, cloud, part + 3 * phase)
        for cloud, part, phase in zip(cloud_point, surface.local, laying[3:])
    )
    point = (inside[0], inside[1], inside[2])
    coarse, fine = noise(point, COARSE_PERIOD), noise(point, FINE_PERIOD)
    footprint = surface.footprint.masked_fill(sky, 0.05)
    fades = [
        torch.exp(-((1.6 * count / period * footprint) ** 2))
        for period in (COARSE_PERIOD, FINE_PERIOD)
        for count in OCTAVES
    ]
    clouds = coarse[1] + 0.7 * coarse[2] * fades[2] + 0.35 * fine[1] * fades[5]
    speckle = (
        0.35 * coarse[0]
        + 0.5 * coarse[3] * fades[3]
        + 0.8 * fine[1] * fades[5]
        + fine[2] * fades[6]
        + fine[3] * fades[7]
    )
    colour = _albedo(frames, rays, surface.texture, surface.uv, surface.uv_footprint, laying, clouds)
    lighting = per_ray(frames.lighting, rays.view)
    sun = lighting[..., 1] * (1 - blocked)
    outdoors = air[..., 0] > 0.5
    strength, exponent, own = per_hit(frames.gloss, rays.view, surface.texture).unbind(-1)
    from_above = torch.where(outdoors, _SKY_LIGHT, _LAMP_LIGHT)
    light = lighting[..., 0] * (1 + from_above * surface.up) + sun * surface.lit.clamp_min(0)
    light = light * torch.where(outdoors, 1.0, _corner_shade(frames, rays, seen)) + own
    tone = (1 + 0.45 * laying[2] * speckle).clamp(0.25, 1.7) * light
    highlight = strength * sun * (surface.lit > 0) * seen.shine.clamp(0, 1) ** exponent
    colour = (colour * tone[..., None] + highlight[..., None]) * lighting[..., 2:]
    horizon = air[..., 11:14]
    kept = torch.exp(-air[..., 1] * seen.distance)[..., None]
    colour = horizon + (colour - horizon) * kept
    above = _sky_colour(air, overhead, coarse, fine, glow)
    return torch.where(sky[..., None], above, colour).clamp(0, 1)


def _albedo(
    frames: Frames,
    rays: Rays,
    texture: Tensor,
    uv: tuple[Tensor, Tensor],
    uv_footprint: tuple[Tensor, Tensor],
    laying: tuple[Tensor, ...],
    clouds: Tensor,
) -> Tensor:
    pattern = per_hit(frames.pattern, rays.view, texture)
    mix = (pattern_value(pattern, uv, uv_footprint, laying[1], clouds, frames.patterns) + 1) / 2
    colours = per_hit(frames.colours, rays.view, texture)  # [..., 2, 3]
    colour = colours[..., 1, :] + (colours[..., 0, :] - colours[..., 1, :]) * mix[..., None]
    if "photographed" in frames.patterns:
        choice = torch.remainder(laying[5] / 5, 1)
        footprint = torch.maximum(*uv_footprint)
        photograph = photograph_colour(uv[0] + laying[3], uv[1] + laying[4], footprint, choice, "gallery")
        shown = (pattern == PATTERNS.index("photographed"))[..., None]
        colour = torch.where(shown, photograph * colours[..., 0, :], colour)
    return colour


def _sky_coordinates(
    frames: Frames, rays: Rays, seen: WorldSurface, air: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return the sine of the elevation, where to read the noise of the clouds, and the sun's glow."""
    x, y, z = seen.surface.point
    length = (x * x + y * y + z * z).sqrt().clamp_min(1e-6)
    rise = (-y / length).clamp_min(0)
    spread = air[..., 5] / (rise + 0.16) / length
    phase = air[..., 6]
    light = per_ray(frames.light, rays.view)
    towards = (x * light[..., 0] + y * light[..., 1] + z * light[..., 2]) / length
    glow = air[..., 7] * towards.clamp_min(0) ** 24
    return rise, (x * spread + phase, phase.expand_as(x), z * spread), glow


def _sky_colour(air: Tensor, rise: Tensor, coarse: Tensor, fine: Tensor, glow: Tensor) -> Tensor:
    zenith, horizon = air[..., 8:11], air[..., 11:14]
    base = zenith + (horizon - zenith) * ((1 - rise) ** 5)[..., None]
    billow = coarse[0] + 0.6 * coarse[1] + 0.35 * coarse[2] + 0.2 * fine[1] + 0.12 * fine[2]
    cover = ((billow + 1.9 * air[..., 4] - 0.95) / 0.55).clamp(0, 1)
    cover = cover * cover * (3 - 2 * cover) * (rise / 0.12).clamp(0, 1)
    bright = (0.97 - 0.16 * (billow - 0.3).clamp(0, 1))[..., None]
    base = base + (bright - base) * (0.9 * cover)[..., None]
    return base + (1 - base) * glow[..., None]


def _corner_shade(frames: Frames, rays: Rays, seen: WorldSurface) -> Tensor:
    """Return the darkening of walls towards the edges of a room."""
    half = per_ray(frames.size, rays.view)[..., 0, :]
    shaded = torch.ones_like(seen.distance)
    for axis, part in enumerate(seen.surface.local):
        factor = 1 - 0.3 * torch.exp(-(half[..., axis] - part.abs()).clamp_min(0) / 0.5)
        shaded = shaded * torch.where(seen.surface.face // 2 == axis, 1.0, factor)
    return torch.where(seen.surface.body == 0, shaded, 1.0)
