"""The z-buffer on a GPU: one Triton thread per triangle. `z_buffer.z_buffer` is its twin in plain PyTorch.

Quads are read straight from the grid of projected pixels, without a list of triangles; loose faces come from
their list. A triangle whose bounding box holds more than LARGE pixel centres is left to a second launch, with
a whole block for each. Faces are numbered in the twin's order, and the minimum over keys does not depend on
the order of drawing, so the same input gives the same bytes. Kernels take scalars and pointers one by one,
hence their number of arguments.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from recapture.models.geometry.mesh import Faces, Surface
from recapture.models.geometry.z_buffer import EMPTY, SLACK

LARGE = 64  # pixel centres in a bounding box
BLOCK = 256


def surface_keys(surface: Surface, size: tuple[int, int]) -> Tensor:
    """Return [T H W] int64 keys like `z_buffer`'s; face numbers count the quads' first triangles, their
    second ones (whole or not), then the loose faces."""
    frames, height, width = surface.x.shape
    device = surface.x.device
    quads = surface.whole.numel()
    keys = torch.full((frames * size[0] * size[1],), EMPTY, dtype=torch.int64, device=device)
    whole = surface.whole.contiguous().view(torch.uint8)
    large = torch.zeros(2 * quads, dtype=torch.uint8, device=device)
    grid = (surface.x.contiguous(), surface.y.contiguous(), surface.w.contiguous())
    camera = (keys, size[0], size[1], SLACK)
    _draw_quads[(triton.cdiv(2 * quads, BLOCK),)](
        *grid, whole, large, quads, height, width, *camera, LARGE=LARGE, BLOCK=BLOCK
    )
    listed = large.nonzero()[:, 0]
    if len(listed):
        half, quad = listed // quads, listed % quads
        frame, rest = quad // ((height - 1) * (width - 1)), quad % ((height - 1) * (width - 1))
        row, column = rest // (width - 1), rest % (width - 1)
        at = (frame * height + row) * width + column
        corners = torch.stack([at + half, torch.where(half == 0, at + 1, at + width + 1), at + width])
        x, y, w = (value.flatten()[corners] for value in grid)
        _draw_faces[(len(listed),)](x, y, w, frame, listed, len(listed), *camera, BLOCK=BLOCK)
    _draw_loose(surface.loose.faces(), 2 * quads, camera)
    return keys


def _draw_loose(faces: Faces, first: int, camera: tuple[Tensor, int, int, float]) -> None:
    count = len(faces.frame)
    if not count:
        return
    number = torch.arange(first, first + count, device=faces.x.device)
    large = torch.zeros(count, dtype=torch.uint8, device=faces.x.device)
    corners = (faces.x.contiguous(), faces.y.contiguous(), faces.w.contiguous())
    _draw_small[(triton.cdiv(count, BLOCK),)](
        *corners, faces.frame, large, first, count, *camera, LARGE=LARGE, BLOCK=BLOCK
    )
    listed = large.nonzero()[:, 0]
    if len(listed):
        picked = (value[:, listed].contiguous() for value in corners)
        _draw_faces[(len(listed),)](
            *picked, faces.frame[listed], number[listed], len(listed), *camera, BLOCK=BLOCK
        )


@triton.jit
def _bounds(x0, x1, x2, side, slack):
    """Return the first and last pixel centre that the corners span."""
    low = tl.ceil(tl.minimum(tl.minimum(x0, x1), x2) - 0.5 - slack)
    high = tl.floor(tl.maximum(tl.maximum(x0, x1), x2) - 0.5 + slack)
    low = tl.minimum(tl.maximum(low, 0.0), side * 1.0)
    high = tl.minimum(tl.maximum(high, -1.0), side - 1.0)
    return low.to(tl.int32), high.to(tl.int32)


@triton.jit
def _test(x0, y0, w0, x1, y1, w1, x2, y2, w2, column, row, slack):
    """Return triangles' depth at pixel centres, and whether these are inside; corners 1, 2 relative to 0."""
    area = x1 * y2 - x2 * y1
    flat = tl.abs(area) < 1e-9
    sign = tl.where(area > 0, 1.0, -1.0)
    dx = column + 0.5 - x0
    dy = row + 0.5 - y0
    first = sign * (x1 * dy - y1 * dx) / tl.sqrt(x1 * x1 + y1 * y1)
    ex = x2 - x1
    ey = y2 - y1
    second = sign * (ex * (dy - y1) - ey * (dx - x1)) / tl.sqrt(ex * ex + ey * ey)
    third = sign * (y2 * dx - x2 * dy) / tl.sqrt(x2 * x2 + y2 * y2)
    inside = (first >= -slack) & (second >= -slack) & (third >= -slack) & (flat == 0)
    a1 = (w1 - w0) / area
    a2 = (w2 - w0) / area
    w = w0 + (a1 * y2 - a2 * y1) * dx + (a2 * x1 - a1 * x2) * dy
    w = tl.maximum(w, tl.minimum(tl.minimum(w0, w1), w2))
    w = tl.minimum(w, tl.maximum(tl.maximum(w0, w1), w2))
    return 1.0 / w, inside


@triton.jit
def _put(keys, frame, row, column, z, face, inside, height, width):
    """Lower the pixel's key, after a look whether that is needed: keys only ever fall."""
    key = (z.to(tl.int32, bitcast=True).to(tl.int64) << 32) | face.to(tl.int64)
    pixel = keys + (frame.to(tl.int64) * height + row) * width + column
    present = tl.load(pixel, mask=inside, other=0)
    tl.atomic_min(pixel, key, mask=inside & (key < present), sem="relaxed")


@triton.jit
def _draw_block(
    x0, y0, w0, x1, y1, w1, x2, y2, w2,
    frame, face, fine, large, index,
    keys, height, width, slack,
    LARGE: tl.constexpr,
):  # fmt: skip
    """Draw a block of triangles, one thread per triangle; mark the large ones instead."""
    fine = fine & (w0 > 0) & (w1 > 0) & (w2 > 0)
    left, right = _bounds(x0, x1, x2, width, slack)
    top, bottom = _bounds(y0, y1, y2, height, slack)
    columns = right - left + 1
    rows = bottom - top + 1
    fine = fine & (columns > 0) & (rows > 0)
    columns = tl.where(fine, columns, 1)
    rows = tl.where(fine, rows, 0)
    count = columns.to(tl.int64) * rows
    tl.store(large + index, tl.full(index.shape, 1, tl.uint8), mask=count > LARGE)
    count = tl.where(count > LARGE, 0, count).to(tl.int32)
    most = tl.max(count, 0)
    for step in range(most):
        row = top + step // columns
        column = left + step % columns
        z, inside = _test(x0, y0, w0, x1 - x0, y1 - y0, w1, x2 - x0, y2 - y0, w2, column, row, slack)
        _put(keys, frame, row, column, z, face, inside & (step < count), height, width)


@triton.jit
def _draw_quads(
    x, y, w, whole, large, quads, grid_height, grid_width, keys, height, width, slack,
    LARGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fine = index < 2 * quads
    half = index // quads
    quad = index % quads
    fine = fine & (tl.load(whole + quad, mask=fine, other=0) != 0)
    a_row = (grid_height - 1) * (grid_width - 1)
    frame = quad // a_row
    row = quad % a_row // (grid_width - 1)
    column = quad % a_row % (grid_width - 1)
    at = (frame * grid_height + row) * grid_width + column
    # top left, top right, bottom left; or top right, bottom right, bottom left
    first = at + half
    second = tl.where(half == 0, at + 1, at + grid_width + 1)
    third = at + grid_width
    _draw_block(
        tl.load(x + first, mask=fine, other=0.0),
        tl.load(y + first, mask=fine, other=0.0),
        tl.load(w + first, mask=fine, other=0.0),
        tl.load(x + second, mask=fine, other=0.0),
        tl.load(y + second, mask=fine, other=0.0),
        tl.load(w + second, mask=fine, other=0.0),
        tl.load(x + third, mask=fine, other=0.0),
        tl.load(y + third, mask=fine, other=0.0),
        tl.load(w + third, mask=fine, other=0.0),
        frame, index, fine, large, index, keys, height, width, slack, LARGE,
    )  # fmt: skip


@triton.jit
def _draw_small(
    x, y, w, frames, large, first, count, keys, height, width, slack,
    LARGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    fine = index < count
    _draw_block(
        tl.load(x + index, mask=fine, other=0.0),
        tl.load(y + index, mask=fine, other=0.0),
        tl.load(w + index, mask=fine, other=0.0),
        tl.load(x + count + index, mask=fine, other=0.0),
        tl.load(y + count + index, mask=fine, other=0.0),
        tl.load(w + count + index, mask=fine, other=0.0),
        tl.load(x + 2 * count + index, mask=fine, other=0.0),
        tl.load(y + 2 * count + index, mask=fine, other=0.0),
        tl.load(w + 2 * count + index, mask=fine, other=0.0),
        tl.load(frames + index, mask=fine, other=0),
        first + index, fine, large, index, keys, height, width, slack, LARGE,
    )  # fmt: skip


@triton.jit
def _draw_faces(
    x, y, w, frames, numbers, count, keys, height, width, slack, BLOCK: tl.constexpr
):  # fmt: skip
    """Draw one large triangle per program, BLOCK pixel centres at a time."""
    index = tl.program_id(0).to(tl.int64)
    x0 = tl.load(x + index)
    y0 = tl.load(y + index)
    w0 = tl.load(w + index)
    x1 = tl.load(x + count + index)
    y1 = tl.load(y + count + index)
    w1 = tl.load(w + count + index)
    x2 = tl.load(x + 2 * count + index)
    y2 = tl.load(y + 2 * count + index)
    w2 = tl.load(w + 2 * count + index)
    frame = tl.load(frames + index)
    face = tl.load(numbers + index)
    left, right = _bounds(x0, x1, x2, width, slack)
    top, bottom = _bounds(y0, y1, y2, height, slack)
    columns = right - left + 1
    total = columns * (bottom - top + 1)
    for start in range(0, total, BLOCK):
        step = start + tl.arange(0, BLOCK)
        row = top + step // columns
        column = left + step % columns
        z, inside = _test(x0, y0, w0, x1 - x0, y1 - y0, w1, x2 - x0, y2 - y0, w2, column, row, slack)
        _put(keys, frame, row, column, z, face, inside & (step < total), height, width)
