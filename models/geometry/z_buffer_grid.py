"""The z-buffer on a CPU: whole quads straight from the grid of projected pixels, both triangles at once.

A quad between neighbouring pixels covers about one pixel of the target. So all quads are tested at the first
pixel centre of their bounding boxes, a block of them at a time that fits the processor's cache, without
gathers and lists of triangles; a list is made of further pixel centres alone. Quads that are partly behind
the camera, seen edge-on or large are left to `z_buffer`, whose keys these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from recapture.models.geometry.mesh import Quads, Surface, face_stretch
from recapture.models.geometry.quads import OUTSIDE, Corners, ProjectedQuads, depth_at
from recapture.models.geometry.z_buffer import EMPTY, FLAT, draw

BLOCK = 1 << 15  # quads, or pixel centres, tested at once
REACH = 64  # pixel centres per side of the bounding boxes of quads that are drawn here
WINDOW = 8  # pixel centres per side of the bounding boxes of quads that may be left out as unwanted


class _Block(NamedTuple):
    """Quads that are drawn at once."""

    quads: ProjectedQuads
    areas: tuple[Tensor, Tensor]
    drawn: np.ndarray  # [n] bool
    pixel: int | Tensor  # where their frames begin in the keys
    number: Tensor  # [n] of their first triangles
    second: int  # by how much the numbers of second triangles are higher

    def picked(self, which: Tensor) -> _Block:
        """Return some of the quads, all of them to be drawn."""
        return _Block(
            self.quads.picked(which),
            (self.areas[0].index_select(0, which), self.areas[1].index_select(0, which)),
            np.ones(len(which), dtype=bool),
            self.pixel.index_select(0, which) if isinstance(self.pixel, Tensor) else self.pixel,
            self.number.index_select(0, which),
            self.second,
        )


def surface_keys(
    surface: Surface, size: tuple[int, int], wanted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return keys [T H W] int64 like `z_buffer`'s, and the stretch [F] of the faces that they number.

    wanted: bool [T,H,W], pixels whose keys must be right; what covers none of them may be left out.

    Faces are the first triangles of all quads, then their second ones, whole or not, then the loose faces;
    the last pixel of a row counts as a quad too, which is never whole.
    """
    frames, height, width = surface.x.shape
    count = (height - 1) * width  # quads of a frame
    keys = torch.full((frames * size[0] * size[1],), EMPTY, dtype=torch.int64)
    whole = pad(surface.whole, (0, 1)).flatten(1).numpy()
    area = pad(2 * surface.source_area, (0, 1), value=1.0).flatten()
    stretch = torch.zeros(2, frames, count)
    near = None if wanted is None else _near(wanted)
    left = []
    for frame in range(frames):
        grids = [grid[frame].flatten() for grid in (surface.x, surface.y, surface.w)]
        for start in range(0, count - 1, BLOCK):
            stop = min(start + BLOCK, count - 1)
            quads = ProjectedQuads(*(Corners.of(grid, start, stop, width) for grid in grids))
            areas = quads.areas()
            for half, twice in zip(stretch[:, frame, start:stop], areas):
                torch.div(twice, area[start:stop], out=half).clamp_min_(0.0)
            block = _Block(
                quads,
                areas,
                whole[frame, start:stop],
                frame * size[0] * size[1],
                torch.arange(frame * count + start, frame * count + stop),
                frames * count,
            )
            left.append(_draw(keys, block if near is None else _touching(block, near, size), size))
    _draw_triangles(keys, surface, torch.cat(left), size)
    _draw_loose(keys, surface.loose, 2 * frames * count, size, near)
    return keys, torch.cat([stretch.flatten(), face_stretch(surface.loose.faces())])


def _near(wanted: Tensor) -> Tensor:
    """Return [T H W] bool: pixels at the top left of WINDOW x WINDOW pixels of which one is wanted."""
    window = np.ones((WINDOW, WINDOW), dtype=np.uint8)
    frames = [cv2.dilate(frame, window, anchor=(0, 0)) for frame in wanted.byte().numpy()]
    return torch.from_numpy(np.stack(frames)).flatten().bool()


def _touching(block: _Block, near: Tensor, size: tuple[int, int]) -> _Block:
    """Return those of a block's quads whose bounding box may hold a wanted pixel."""
    left, right = block.quads.x.bounds(size[1])
    top, bottom = block.quads.y.bounds(size[0])
    large = torch.maximum(right - left, bottom - top).numpy() >= WINDOW
    inside = (right >= left).logical_and_(bottom >= top).numpy() & block.drawn
    pixel = top.int().mul_(size[1]).add_(left.int()).add_(block.pixel)
    found = np.take(near.numpy(), pixel.numpy(), mode="clip")
    return block.picked(_where(inside & (large | found)))


def _draw_triangles(keys: Tensor, surface: Surface, number: Tensor, size: tuple[int, int]) -> None:
    """Lower the keys to those of quads in the grid with these numbers, triangle by triangle."""
    frames, height, width = surface.x.shape
    count = (height - 1) * width
    frame = number // count
    at = number + frame * width  # in the grid, which has one row more
    corners = torch.stack([at, at + 1, at + width + 1, at + width])
    x, y, w = (grid.flatten()[corners] for grid in (surface.x, surface.y, surface.w))
    faces = Quads(x, y, w, frame, torch.ones_like(x[0])).faces()
    draw(keys, faces, torch.cat([number, number + frames * count]), size)


def _draw_loose(keys: Tensor, loose: Quads, first: int, size: tuple[int, int], near: Tensor | None) -> None:
    """Lower the keys to those of loose quads, the first of which has the number `first`."""
    left = [torch.zeros(0, dtype=torch.int64)]
    for start in range(0, len(loose.frame), BLOCK):
        part = slice(start, start + BLOCK)
        quads = ProjectedQuads(*(Corners(*grid[:, part]) for grid in (loose.x, loose.y, loose.w)))
        frame = loose.frame[part]
        block = _Block(
            quads,
            quads.areas(),
            np.ones(len(frame), dtype=bool),
            (frame * (size[0] * size[1])).int(),
            torch.arange(first + start, first + start + len(frame)),
            len(loose.frame),
        )
        left.append(_draw(keys, block if near is None else _touching(block, near, size), size))
    number = torch.cat(left)
    rest = number - first
    x, y, w = (grid.index_select(1, rest) for grid in (loose.x, loose.y, loose.w))
    faces = Quads(x, y, w, loose.frame[rest], loose.source_area[rest]).faces()
    draw(keys, faces, torch.cat([number, number + len(loose.frame)]), size)


def _draw(keys: Tensor, block: _Block, size: tuple[int, int]) -> Tensor:
    """Lower the keys to those of a block; return the numbers of quads to be drawn that are left out."""
    quads = block.quads
    left, right = quads.x.bounds(size[1])
    top, bottom = quads.y.bounds(size[0])
    columns, rows = right.sub_(left).add_(1), bottom.sub_(top).add_(1)
    shown = block.drawn & (torch.minimum(columns, rows).numpy() > 0)
    farthest = torch.minimum(torch.minimum(quads.w.a, quads.w.b), torch.minimum(quads.w.c, quads.w.d))
    thinnest = torch.minimum(*(area.abs() for area in block.areas))
    fine = shown & (farthest.numpy() > 0) & (thinnest.numpy() >= FLAT)
    fine &= torch.maximum(columns, rows).numpy() <= REACH
    pixel = top.int().mul_(size[1]).add_(left.int()).add_(block.pixel)
    depth, second = depth_at(quads, block.areas, left.add_(0.5), top.add_(0.5))
    hit = _where(fine & (depth.numpy() < OUTSIDE))
    _put(keys, pixel, depth, second, hit, hit, block)
    several = _where(fine & (torch.maximum(columns, rows).numpy() > 1))
    sides = (side.index_select(0, several) for side in (columns, rows))
    for at, across, down in _further_centres(*sides):
        quad = several.index_select(0, at)
        picked = quads.picked(quad)
        u, v = left.index_select(0, quad) + across, top.index_select(0, quad) + down
        depth, second = depth_at(picked, picked.areas(), u, v)
        place = down.mul_(size[1]).add_(across).int().add_(pixel.index_select(0, quad))
        _put(keys, place, depth, second, _where(depth.numpy() < OUTSIDE), quad, block)
    return block.number.index_select(0, _where(shown & ~fine))


def _further_centres(columns: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield all pixel centres of bounding boxes [n] but the first: box, columns and rows from the first on.

    About BLOCK at a time.
    """
    counts = (columns * rows).long() - 1
    starts = counts.cumsum(0) - counts
    bounds = torch.searchsorted(starts, torch.arange(0, int(counts.sum()), BLOCK)).tolist()
    for first, last in zip(bounds, [*bounds[1:], len(counts)]):
        if first == last:
            continue
        box = torch.arange(first, last).repeat_interleave(counts[first:last])
        begun = starts[first:last] - (starts[first] + 1)  # the first pixel centre is left out
        place = (torch.arange(len(box)) - begun.index_select(0, box - first)).float()
        side = columns.index_select(0, box)
        down = (place / side).floor_()
        yield box, place.addcmul_(down, side, value=-1), down


def _put(
    keys: Tensor, pixel: Tensor, depth: Tensor, second: Tensor, hit: Tensor, quad: Tensor, block: _Block
) -> None:
    """Lower the keys of pixels [n] to those of the block's quads, where these are hit."""
    key = depth.view(torch.int32).index_select(0, hit).long()
    key <<= 32
    key += block.number.index_select(0, hit if quad is hit else quad.index_select(0, hit))
    key.add_(second.index_select(0, hit), alpha=block.second)
    keys.scatter_reduce_(0, pixel.index_select(0, hit).long(), key, "amin")


def _where(condition: np.ndarray) -> Tensor:
    """Return where a condition [n] holds: several times as fast as in PyTorch, as are comparisons."""
    return torch.from_numpy(np.flatnonzero(condition))
