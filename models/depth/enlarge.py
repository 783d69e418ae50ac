"""Depth enlarged to the size of a sharper picture, with nothing between an object and what is behind it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

COLOUR = 0.15  # difference of colour, in the range [-1, 1], that counts as much as a pixel of depth away


def enlarge_depth(
    depth: Tensor,  # [T, h, w]
    small: Tensor,  # [T, 3, h, w] in [-1, 1], the picture at the depth's size
    large: Tensor,  # [T, 3, H, W] in [-1, 1], the same picture, sharper
    break_ratio: float,
) -> Tensor:
    """Return depth [T, H, W]; 0 where none of the four nearest pixels of depth is finite and positive.

    Within a surface, nearness (1 / depth) is interpolated bilinearly, so planes stay planes. Where the four
    pixels around a place differ by more than `break_ratio`, or some have no depth, the place is given the
    depth of one of them: the nearest one, by distance and by colour. (Joint bilateral upsampling, Kopf et
    al. 2007, with the vote of one.) Pixel centres are at +0.5.
    """
    frames, height, width = depth.shape
    size = large.shape[2:]
    usable = torch.isfinite(depth) & (depth > 0)
    nearness = torch.where(usable, 1 / depth, 0.0)
    rows, row_share = _places(height, size[0], depth.device)
    columns, column_share = _places(width, size[1], depth.device)
    cost = torch.full((frames, *size), torch.inf, device=depth.device)
    blended, chosen = torch.zeros_like(cost), torch.zeros_like(cost)
    least, most = torch.full_like(cost, torch.inf), torch.zeros_like(cost)
    for row in (0, 1):
        for column in (0, 1):
            at = (slice(None), rows[row][:, None], columns[column])
            here = nearness[at]
            down = (row_share - (1 - row)).abs()[:, None]  # the weight; the distance is what is left to 1
            along = (column_share - (1 - column)).abs()
            blended += here * down * along
            least, most = torch.minimum(least, here), torch.maximum(most, here)
            away = (1 - down).square() + (1 - along).square()
            unlike = sum((large[:, c] - small[:, c][at]).square() for c in range(3))
            price = torch.where(here > 0, away + unlike / (3 * COLOUR**2), torch.inf)
            chosen = torch.where(price < cost, here, chosen)
            cost = torch.minimum(cost, price)
    whole = (least > 0) & (most <= (1 + break_ratio) * least)
    found = torch.where(whole, blended, chosen)
    return torch.where(found > 0, 1 / found, 0.0).to(depth.dtype)


def enlarge_video(video: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a video [T, 3, h, w] in [-1, 1] at another size by bicubic interpolation (Keys, a = -1/2).

    It keeps ramps; the kernel that torch uses without antialiasing does not.
    """
    return interpolate(video, size, mode="bicubic", antialias=True).clamp(-1, 1)


def _places(small: int, large: int, device: torch.device) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the two pixels around each of `large` places, and the share of the second."""
    place = (torch.arange(large, device=device) + 0.5) * (small / large) - 0.5
    first = place.floor()
    share = place - first
    both = first.long().clamp(0, small - 1), (first.long() + 1).clamp(0, small - 1)
    return both, share
