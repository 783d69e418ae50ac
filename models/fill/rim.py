"""The rim of a hole: background that was filmed through the edge of what hid the hole, found by geometry."""

from __future__ import annotations

import torch
from torch import Tensor

HIDES = 1.05  # times as far is the background as what hid the hole
MIXED = (0.25, 0.6)  # share of the foreground in a mixed pixel's colour; a larger one is a texture
INWARD = 2  # pixels from the rim to background that is not mixed
CONTRAST = 0.05  # squared distance of the two colours in [-1, 1], at least, for a share


def mixed_rim(video: Tensor, depth: Tensor, known: Tensor) -> Tensor:
    """Return the known pixels [T, H, W] bool whose colour is part foreground, at the background's depth.

    video: [T, 3, H, W] in [-1, 1]; depth: [T, H, W] z-depth; known: [T, H, W]. In the source, a pixel on an
    object's edge mixes both colours. Where the edge opens to a hole, it is left at the hole's other side, as
    a ghost of the object's outline. So from each known pixel at a hole one looks straight across it, along
    the row or the column, to the known pixel on the other side. Where that is nearer, this pixel is
    background; its colour is compared with that beyond the other side, and with its own surface 2 pixels
    inwards. Found are those between the two, on the line from one to the other.
    """
    found = torch.zeros_like(known)
    along = {2: (video, depth, known, found)}
    along[1] = (video.transpose(2, 3), depth.transpose(1, 2), known.transpose(1, 2), found.transpose(1, 2))
    for colours, depths, lines, marks in along.values():
        t, line, left, right = _gaps(lines)
        for here, there, step in ((left, right, 1), (right, left, -1)):
            mixed = _mixed(colours, depths, lines, (t, line), here, there, step)
            marks[t[mixed], line[mixed], here[mixed]] = True
    return found


def _gaps(lines: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return frame, line, and the known pixels left and right of each gap of lines [T, L, N] bool, [n] each.

    A gap that reaches an end of its line is left out.
    """
    begins = (lines[..., :-1] & ~lines[..., 1:]).nonzero()
    ends = (~lines[..., :-1] & lines[..., 1:]).nonzero()
    _, count, length = lines.shape
    begin, end = ((at[:, 0] * count + at[:, 1]) * length + at[:, 2] for at in (begins, ends))
    if not len(end):
        return begins[:0, 0], begins[:0, 1], begins[:0, 2], begins[:0, 2]
    following = torch.searchsorted(end, begin).clamp_max(len(end) - 1)
    right = end[following] + 1
    closed = (right > begin) & (right // length == begin // length)
    t, line, left = begins[closed].unbind(1)
    return t, line, left, right[closed] % length


def _mixed(
    video: Tensor,
    depth: Tensor,
    known: Tensor,
    at: tuple[Tensor, Tensor],
    here: Tensor,
    there: Tensor,
    step: int,  # from `here` to `there`: 1 or -1
) -> Tensor:
    """Return [n] bool: which pixels `here`, of a gap to `there`, are background mixed with what is there."""
    t, line = at
    last = known.shape[2] - 1
    beyond, inner = there + step, here - INWARD * step
    behind = (beyond >= 0) & (beyond <= last) & (inner >= 0) & (inner <= last)
    beyond, inner = beyond.clamp(0, last), inner.clamp(0, last)
    own, other, within = (depth[t, line, place] for place in (here, there, inner))
    behind &= (other * HIDES < own) & known[t, line, beyond] & known[t, line, inner]
    behind &= (within * HIDES > own) & (within < own * HIDES)
    colour, front, background = (video[t, :, line, place] for place in (here, beyond, inner))
    towards = front - background
    share = ((colour - background) * towards).sum(1) / towards.square().sum(1).clamp_min(CONTRAST)
    return behind & (share >= MIXED[0]) & (share < MIXED[1])
