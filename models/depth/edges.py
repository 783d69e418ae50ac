"""Soft depth edges made sharp: each pixel of a ramp between two surfaces is given the depth of one of them.

Depth models blur the edge of an object over several pixels. Lifted as it is, such a ramp is torn into a comb
of points that hang between the object and what is behind it. A ramp is where disparity is much steeper than
on firm ground on both sides; it is told apart from a slanted surface, which is as steep everywhere. On which
side a pixel belongs is voted by its firm neighbours, each with the weight of its likeness in colour, and by
where the ramp puts it. The votes of the frame before count where the picture has not changed, so that an edge
does not flicker. What a pixel is given is the mean of those neighbours on the side that won.

Ideas: bilateral voting on depth (Q. Yang et al., Spatial-depth super resolution for range images, 2007); the
rest is our own. Everything is a matter of depth ratios: the scale of depth does not matter.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

JUMP = 0.08  # logarithm of the least depth ratio across an edge
FIRM = 0.35  # of the steepest change nearby: less steep pixels lie on one of the two surfaces
RISE = 0.04  # of the way from one surface to the other, at least, to a pixel and on from it
BETWEEN = 0.05  # of the way from one surface to the other; who is closer to one lies on it
COLOUR = 0.24  # standard deviation of colour within a surface, in the range [-1, 1], over three channels
WITHIN_RAMP = 1.5  # weight of the place in the ramp against the likeness in colour, both in log odds
BEFORE = 0.5  # weight of the frame before
LEAST = 2  # pixels of reach: what is narrower is not told from the surface itself
STEPS = 4  # rows and columns to each side whose pixels vote: all that are within reach, or as many apart


class SharpEdges:
    """Sharpens the depth of one clip, which is given in order, in chunks of any lengths.

    share: how far a ramp may reach, as a share of the frame's longer side. 0 changes nothing, nor does a
    reach of less than LEAST pixels.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._last: tuple[Tensor, Tensor] | None = None  # the frame before [3, H, W], and its votes [H, W]

    def sharpen(self, depth: Tensor, video: Tensor) -> Tensor:
        """Return depth [t, H, W] of the next frames, whose picture is video [t, 3, H, W] in [-1, 1].

        Only pixels of ramps change. What is not finite and positive is no surface, and stays.
        """
        reach = round(self._share * max(depth.shape[1:]))
        if reach < LEAST:
            return depth
        return torch.stack([self._frame(*pair, reach) for pair in zip(depth, video.to(depth.device))])

    def _frame(self, depth: Tensor, picture: Tensor, reach: int) -> Tensor:
        nearness = torch.where(torch.isfinite(depth) & (depth > 0), -torch.log(depth), torch.nan)
        low, high, firm = _surfaces(nearness, reach)
        span = high - low
        ramp = ~firm & (span > JUMP) & (_rise(nearness) > RISE * span)
        ramp &= (nearness > low + BETWEEN * span) & (nearness < high - BETWEEN * span)
        votes, sharp = torch.zeros_like(depth), depth
        if ramp.any():
            place = ramp.flatten().nonzero()[:, 0]
            middle = ((low + high) / 2).flatten()[place]
            chosen, near, far = self._vote(nearness, picture, firm, place, middle, span, low, reach)
            votes.view(-1)[place] = chosen
            found = torch.where(chosen > 0, near, far)
            sharp = depth.flatten().index_copy(0, place, torch.exp(-found).to(depth.dtype)).view_as(depth)
        self._last = picture, votes
        return sharp

    def _vote(
        self,
        nearness: Tensor,  # [H, W]
        picture: Tensor,  # [3, H, W]
        firm: Tensor,  # [H, W]
        place: Tensor,  # [N] pixels of ramps
        middle: Tensor,  # [N] between the two surfaces
        span: Tensor,  # [H, W]
        low: Tensor,  # [H, W]
        reach: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log odds [N] that pixels belong to the nearer surface, and the nearness of both [N]."""
        height, width = nearness.shape
        row, column = place // width, place % width
        table = torch.cat([picture.flatten(1), torch.where(firm, nearness, torch.nan).flatten()[None]]).T
        own = table[place, :3]
        sums = torch.zeros(6, len(place), device=place.device)  # near, far: alike, all, alike x nearness
        for down, right in _neighbours(reach):
            there = (row + down).clamp(0, height - 1) * width + (column + right).clamp(0, width - 1)
            neighbour = table[there]
            value = neighbour[:, 3]
            counts = ~value.isnan()
            closeness = math.exp(-1.125 * (down**2 + right**2) / reach**2)
            likeness = torch.exp(-(neighbour[:, :3] - own).square().sum(1) / (2 * COLOUR**2)) + 1e-9
            for side, on_it in ((0, counts & (value > middle)), (1, counts & (value <= middle))):
                weight = torch.where(on_it, closeness * likeness, 0.0)
                sums[side] += weight
                sums[side + 2] += torch.where(on_it, closeness, 0.0)
                sums[side + 4] += torch.where(on_it, weight * value, 0.0)
        alike = sums[:2] / sums[2:4].clamp_min(1e-9)
        share = ((nearness.flatten()[place] - low.flatten()[place]) / span.flatten()[place]).clamp(0.02, 0.98)
        odds = torch.log((alike[0] + 1e-4) / (alike[1] + 1e-4)) + WITHIN_RAMP * torch.logit(share)
        odds = odds + self._before(picture, place)
        near, far = sums[4:] / sums[:2]
        odds = torch.where(sums[0] == 0, -torch.inf, torch.where(sums[1] == 0, torch.inf, odds))
        none = (sums[0] == 0) & (sums[1] == 0)  # between the neighbours that are asked: it stays
        stays = nearness.flatten()[place]
        return odds, torch.where(none, stays, near), torch.where(none, stays, far)

    def _before(self, picture: Tensor, place: Tensor) -> Tensor | float:
        """Return what the frame before adds to the odds [N]."""
        if self._last is None:
            return 0.0
        earlier, votes = self._last
        change = (picture.flatten(1)[:, place] - earlier.flatten(1)[:, place]).square().sum(0)
        return BEFORE * votes.flatten()[place].clamp(-10, 10) * torch.exp(-change / (2 * COLOUR**2))


def _surfaces(nearness: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the nearness of the farthest and the nearest firm pixel around each, and which pixels are firm.

    Pixels that are unknown (NaN) are not firm. NaN where nothing around is firm.
    """
    unknown = nearness.isnan()
    around = _largest(torch.where(unknown, -torch.inf, nearness), 1)
    steepness = around + _largest(torch.where(unknown, -torch.inf, -nearness), 1)
    firm = ~unknown & (steepness <= FIRM * _largest(steepness, reach))
    low = -_largest(torch.where(firm, -nearness, -torch.inf), reach + 1)
    high = _largest(torch.where(firm, nearness, -torch.inf), reach + 1)
    found = torch.isfinite(low) & torch.isfinite(high)
    return torch.where(found, low, torch.nan), torch.where(found, high, torch.nan), firm


def _rise(nearness: Tensor) -> Tensor:
    """Return how much nearness [H, W] rises to a pixel and on from it, along a row, column or diagonal.

    The smaller of the two. At a sharp edge it is what the surface itself rises by; at the frame's edge 0.
    """
    height, width = nearness.shape
    padded = torch.full((height + 2, width + 2), torch.nan, dtype=nearness.dtype)
    padded[1:-1, 1:-1] = nearness
    rise = torch.zeros_like(nearness)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        before = nearness - padded[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        after = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width] - nearness
        least = torch.where(before * after > 0, torch.minimum(before.abs(), after.abs()), 0.0)
        rise = torch.maximum(rise, least)
    return rise


def _largest(values: Tensor, reach: int) -> Tensor:
    """Return the largest value [H, W] within `reach` rows and columns of each pixel."""
    around = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    return torch.from_numpy(cv2.dilate(values.numpy(), around))


def _neighbours(reach: int) -> list[tuple[int, int]]:
    """Return the offsets of the pixels that vote, up to one pixel beyond the reach of a ramp."""
    count = min(STEPS, reach + 1)
    steps = sorted({round((reach + 1) * step / count) for step in range(-count, count + 1)})
    return [(down, right) for down in steps for right in steps]
