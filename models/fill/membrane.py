"""A difference that is known outside of holes, continued smoothly into them, in space and over frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate, pad


def membrane(difference: Tensor, known: Tensor) -> Tensor:
    """Continue a difference [T, C, H, W] from where it is known [T, H, W] into the holes.

    Returns [T, C, H, W], the difference itself where it is known. Each frame's mean over its known pixels is
    taken as it is, so that whatever shifts a frame as a whole is continued exactly; what is left is continued
    by pull-push (Gortler et al., The Lumigraph, 1996) over blocks of two frames, rows and columns, so that it
    is steady in time. The mean of a frame of which nothing is known is 0. What stands in holes of
    `difference`, even NaN, never enters.
    """
    share = known[None, None].to(difference.dtype)  # [1, 1, T, H, W]
    inside = share.sum((3, 4)).clamp_min(1)  # [1, 1, T]
    shares = _halved([share])
    filled = torch.empty_like(difference)
    for channel in range(difference.shape[1]):  # one by one: a third of the memory
        values = torch.where(known, difference[:, channel], 0.0)
        mean = (values.sum((1, 2)) / inside[0, 0])[:, None, None]
        rest = torch.where(known, values - mean, 0.0)
        filled[:, channel] = mean + _pull_push(rest[None, None], shares)
    return torch.where(known[:, None], difference, filled)


def _halved(levels: list[Tensor]) -> list[Tensor]:
    """Append means over blocks of 2 x 2 x 2 until one row and column is left; beyond the video are zeros."""
    while max(levels[-1].shape[3:]) > 1:
        frames, height, width = levels[-1].shape[2:]
        block = tuple(min(2, side) for side in (frames, height, width))
        odd = [side % over for side, over in zip((width, height, frames), reversed(block))]
        padded = pad(levels[-1], (0, odd[0], 0, odd[1], 0, odd[2]))
        levels.append(avg_pool3d(padded, block))
    return levels


def _pull_push(values: Tensor, shares: list[Tensor]) -> Tensor:
    """Return values [1, 1, T, H, W], 0 in holes, holes filled; shares: of known pixels, level by level."""
    levels = _halved([values])
    filled = torch.where(shares[-1] > 0, levels[-1] / shares[-1], 0.0)
    for level, share in zip(levels[-2::-1], shares[-2::-1]):
        frames, height, width = level.shape[2:]
        ratio = [2.0 if side > 1 else 1.0 for side in (frames, height, width)]
        above = interpolate(filled, scale_factor=ratio, mode="trilinear")[:, :, :frames, :height, :width]
        filled = level + (1 - share) * above
    return filled[0, 0]
