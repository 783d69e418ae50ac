"""Render scenes of the variety "world" in pieces of a few views, which fit into a processor's cache."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from recapture.datasets.scenes.lenses import Lenses
from recapture.datasets.scenes.rays import Frames, Rays
from recapture.datasets.scenes.world_rays import Body, cast_world, entry_of_any
from recapture.datasets.scenes.world_shading import see
from recapture.datasets.scenes.world_shadows import outlines
from recapture.datasets.scenes.world_surfaces import kind_codes

_RAYS_AT_ONCE = {"cpu": 1 << 16}
_ELSEWHERE = 1 << 22


def view_world(
    frames: Frames, lenses: Lenses, centres: Tensor, size: tuple[int, int], antialias: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return colour [F, P, 3] in [0, 1], z-depth [F, P] and body [F, P] of F views through pixels [P, 2]."""
    pieces = []
    codes = kind_codes(frames.kinds, centres.device)
    for part in _pieces(len(lenses.origin), len(centres), centres.device):
        few, own = _views(frames, part), Lenses(lenses.origin[part], lenses.to_direction[part])
        colour, depth, body = see(few, outlines(few), own.whole_views(centres), used_slots(few), codes)
        if antialias > 1:
            colour = _smooth_edges(colour, few, own, (body, depth), centres, size, antialias, codes)
        pieces.append((colour, depth, body))
    colours, depths, bodies = zip(*pieces)
    return torch.cat(colours), torch.cat(depths), torch.cat(bodies)


def depth_of(frames: Frames, rays: Rays) -> Tensor:
    """Return the z-depth [F, P] of rays of whole views."""
    return cast_world(frames, rays, used_slots(frames))[0]


def used_slots(frames: Frames) -> list[int]:
    """Return the slots that a ray of these views can meet; on a device all, so as not to wait for it."""
    if frames.active.device.type != "cpu":
        return list(range(len(frames.kinds)))
    return torch.nonzero(frames.active[:, 1:].any(0))[:, 0].tolist()


def _pieces(views: int, pixels: int, device: torch.device) -> list[slice]:
    count = max(1, _RAYS_AT_ONCE.get(device.type, _ELSEWHERE) // pixels)
    return [slice(start, start + count) for start in range(0, views, count)]


def _views(frames: Frames, part: slice) -> Frames:
    values: dict[str, Any] = {f.name: getattr(frames, f.name) for f in fields(frames)}
    few: dict[str, Any] = {name: value[part] for name, value in values.items() if isinstance(value, Tensor)}
    return replace(frames, **few)


def _smooth_edges(
    colour: Tensor,  # [F, P, 3]
    frames: Frames,
    lenses: Lenses,
    hits: tuple[Tensor, Tensor],  # body and depth [F, P]
    centres: Tensor,
    size: tuple[int, int],
    antialias: int,
    codes: Tensor,
) -> Tensor:
    """Return the colours with the pixels of bodies' edges averaged over antialias² rays.

    A ray meets the nearest of the bodies that its pixel and the two pixels towards it show, and takes the
    colour that the body has there: bodies' edges are exact, and nothing is shaded twice.
    """
    height, width = size
    body = hits[0].unflatten(1, size)
    edge = torch.zeros_like(body, dtype=torch.bool)
    for axis in (1, 2):
        differs = body.diff(dim=axis) != 0
        edge.narrow(axis, 0, differs.shape[axis]).logical_or_(differs)
        edge.narrow(axis, 1, differs.shape[axis]).logical_or_(differs)
    view, pixel = edge.flatten(1).nonzero(as_tuple=True)
    row, column = pixel // width, pixel % width
    flat_colour, flat_body = colour.flatten(0, 1), hits[0].flatten()
    base, bodies = view * (height * width), frames.active.shape[1]
    steps = [(index + 0.5) / antialias - 0.5 for index in range(antialias)]
    total = torch.zeros_like(flat_colour[: len(view)])
    for dy in steps:
        for dx in steps:
            shift = centres.new_tensor([dx, dy])
            rays = lenses.scattered(view, centres[pixel] + shift)
            best = torch.full_like(rays.direction[0], torch.inf)
            shown = base + pixel
            beside = (column + _sign(dx)).clamp(0, width - 1), (row + _sign(dy)).clamp(0, height - 1)
            seen = torch.zeros_like(best, dtype=torch.bool)
            for near in (
                base + pixel,
                base + row * width + beside[0],
                base + beside[1] * width + column,
                base + beside[1] * width + beside[0],
            ):
                here = flat_body[near]
                index = view * bodies + here
                one = Body.of(
                    frames.size.flatten(0, 1)[index],
                    frames.centre.flatten(0, 1)[index],
                    frames.rotation.flatten(0, 1)[index],
                )
                enter = entry_of_any(codes[here], one, rays)
                enter = torch.where(here == 0, torch.finfo(enter.dtype).max, enter)
                closer = enter < best
                best = torch.where(closer, enter, best)
                shown = torch.where(closer, near, shown)
                seen |= closer
            total += flat_colour[shown]
    smooth = colour.clone()
    smooth[view, pixel] = total / len(steps) ** 2
    return smooth


def _sign(step: float) -> int:
    return (step > 0) - (step < 0)
