"""The z-buffer: which triangle is nearest at each pixel centre.

Decided by integer keys (depth bits, then face number) and a minimum, which does not depend on the order of
drawing, so that the same faces give the same bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.models.geometry.mesh import Faces

EMPTY = 0x7F800000 << 32 | 0xFFFFFFFF  # larger than every key: the bits of a depth, here inf, then a face
SLACK = 1e-3  # pixels; closes the seams that rounding would leave between neighbouring triangles
FLAT = 1e-9  # twice the area in pixels of a triangle that is seen edge-on, and covers nothing
SMALL = 2  # pixel centres per side up to which a face is drawn without a list of candidates
PART = 1 << 17  # faces drawn at once
CANDIDATES = 1 << 24  # pixel centres tested at once for faces that cover more


def z_buffer(faces: Faces, frames: int, size: tuple[int, int]) -> Tensor:
    """Return [T H W] int64 keys: the bits of the nearest depth << 32, or'ed with its face's number.

    Faces with a corner behind the camera are left out. PART faces are drawn at once: what is computed of them
    stays in the processor's cache, which takes 0.21 s per frame of 480x832 in place of 0.37 s.
    """
    keys = torch.full((frames * size[0] * size[1],), EMPTY, dtype=torch.int64, device=faces.x.device)
    draw(keys, faces, torch.arange(len(faces.frame), device=faces.x.device), size)
    return keys


def draw(keys: Tensor, faces: Faces, number: Tensor, size: tuple[int, int]) -> None:
    """Lower the keys [T H W] to those of faces with these numbers [F]."""
    for start in range(0, len(number), PART):
        part = slice(start, start + PART)
        _draw(keys, faces.part(part), number[part], size)


def _draw(keys: Tensor, faces: Faces, number: Tensor, size: tuple[int, int]) -> None:
    left, right, top, bottom = _bounds(faces, size)
    covering = ((faces.w > 0).all(0) & (left <= right) & (top <= bottom)).nonzero()[:, 0]
    if not len(covering):
        return
    faces, number = faces[covering], number.index_select(0, covering)
    left, right, top, bottom = (side.index_select(0, covering) for side in (left, right, top, bottom))
    planes = _planes(faces)
    columns, rows = right - left + 1, bottom - top + 1
    small = (columns <= SMALL) & (rows <= SMALL)
    corner = (faces.frame * size[0] + top) * size[1] + left  # the pixel at the top left

    def draw(face: Tensor, across: Tensor | int, down: Tensor | int) -> None:
        """Test faces at the pixel centres so far from the top left of their bounds."""
        z, inside = _depth_at(planes, face, left, top, across, down)
        kept = inside.nonzero()[:, 0]
        face, z = face.index_select(0, kept), z.index_select(0, kept)
        if isinstance(across, Tensor) and isinstance(down, Tensor):
            across, down = across.index_select(0, kept), down.index_select(0, kept)
        pixel = corner.index_select(0, face) + (down * size[1] + across)
        key = (z.view(torch.int32).long() << 32) | number.index_select(0, face)
        keys.scatter_reduce_(0, pixel, key, "amin")

    for below in range(SMALL):
        for beside in range(SMALL):
            fits = (small & (columns > beside) & (rows > below)).nonzero()[:, 0]
            draw(fits, beside, below)
    large = (~small).nonzero()[:, 0]
    counts = (columns * rows)[large]
    for part in _parts(counts):
        face = large[part].repeat_interleave(counts[part])
        within = torch.arange(len(face), device=face.device)
        within -= (counts[part].cumsum(0) - counts[part]).repeat_interleave(counts[part])
        draw(face, within % columns[face], within // columns[face])


def _bounds(faces: Faces, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first and last column and row of pixel centres [F] in each face's bounding box."""
    height, width = size
    bounds = []
    for corners, side in ((faces.x, width), (faces.y, height)):
        low = torch.ceil(corners.amin(0) - 0.5 - SLACK).clamp(0, side)
        high = torch.floor(corners.amax(0) - 0.5 + SLACK).clamp(-1, side - 1)
        bounds += [low.long(), high.long()]
    return bounds[0], bounds[1], bounds[2], bounds[3]


def _parts(counts: Tensor) -> list[slice]:
    """Cut faces into runs of at most CANDIDATES pixel centres each (a single face may have more)."""
    if not len(counts):
        return []
    run = (counts.cumsum(0) - counts) // CANDIDATES
    starts = torch.cat([run.new_zeros(1), (run.diff() != 0).nonzero()[:, 0] + 1]).tolist()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(counts)])]


def _planes(faces: Faces) -> Tensor:
    """Return [14,F]: corner 0, then by the offset to it three signed edge distances and 1/depth."""
    x0, y0, w0 = faces.x[0], faces.y[0], faces.w[0]
    x1, y1, x2, y2 = faces.x[1] - x0, faces.y[1] - y0, faces.x[2] - x0, faces.y[2] - y0
    area = x1 * y2 - x2 * y1
    flat = area.abs() < FLAT
    sign = torch.where(flat, torch.nan, area.sign())
    first = sign / torch.hypot(x1, y1)
    second = sign / torch.hypot(x2 - x1, y2 - y1)
    third = sign / torch.hypot(x2, y2)
    w1, w2 = (faces.w[1] - w0) / area, (faces.w[2] - w0) / area
    return torch.stack(
        [
            *(x0, y0),
            *(-y1 * first, x1 * first),
            *((y1 - y2) * second, (x2 - x1) * second, (x1 * y2 - x2 * y1) * second),
            *(y2 * third, -x2 * third),
            *(w0, w1 * y2 - w2 * y1, w2 * x1 - w1 * x2),
            *(faces.w.amin(0), faces.w.amax(0)),
        ]
    )


def _depth_at(
    planes: Tensor,  # [14, F]
    face: Tensor,  # [N] int64
    left: Tensor,  # [F]
    top: Tensor,  # [F]
    across: Tensor | int,  # [N]
    down: Tensor | int,  # [N]
) -> tuple[Tensor, Tensor]:
    """Return the depth of faces at pixel centres, and whether the centres are inside (or within SLACK)."""
    at = planes.index_select(1, face)
    dx = (left.index_select(0, face) + across) + 0.5 - at[0]
    dy = (top.index_select(0, face) + down) + 0.5 - at[1]
    inside = (
        (at[2] * dx + at[3] * dy >= -SLACK)
        & (at[4] * dx + at[5] * dy + at[6] >= -SLACK)
        & (at[7] * dx + at[8] * dy >= -SLACK)
    )
    w = torch.minimum(torch.maximum(at[9] + at[10] * dx + at[11] * dy, at[12]), at[13])
    return 1.0 / w, inside
