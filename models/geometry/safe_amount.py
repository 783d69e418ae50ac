"""The largest amount of a camera move that leaves holes and stretch within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recapture.models.geometry.rasterize import SurfaceSettings, nearest_surface

STEPS = 7  # of bisection: amounts are multiples of the most / 128
COARSE_SIDE = 160  # pixels of a picture's shorter side
MOST_STRETCHED = 0.95  # of the visible pixels


@dataclass(frozen=True)
class Strain:
    """What a move does to the worst of its frames."""

    hole_share: float  # beyond what the source lacks
    stretch: float  # of MOST_STRETCHED of the visible pixels, in area

    def within(self, bound: Strain) -> bool:
        return self.hole_share <= bound.hole_share and self.stretch <= bound.stretch


@dataclass(frozen=True)
class Found:
    """An amount, and what it does."""

    amount: float
    strain: Strain


def largest_amount(strain: Callable[[float], Strain], most: float, bound: Strain) -> Found:
    """Return the largest amount up to `most` (of its sign) that is within the bound, found by bisection.

    The amount that is returned was tried, and a wider bound never gives a smaller one: both go the same way
    until they part. Raises ValueError if even the smallest amount that is tried is beyond the bound.
    """
    whole = strain(most)
    if whole.within(bound):
        return Found(most, whole)
    low, high, best = 0.0, 1.0, None
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = strain(most * middle)
        if tried.within(bound):
            low, best = middle, Found(most * middle, tried)
        else:
            high, smallest = middle, tried
    if best is None:
        raise ValueError(
            f"amount auto: even {most * high:.3g} gives a frame with {smallest.hole_share:.1%} holes and a "
            f"stretch of {smallest.stretch:.3g}, beyond bound.hole_share {bound.hole_share:g} or "
            f"bound.stretch {bound.stretch:g}; raise them, or choose another preset"
        )
    return best


@dataclass(frozen=True)
class CoarseScene:
    """A few frames of a clip at a coarse size, on the CPU whatever fills them: the same bytes everywhere."""

    depth: Tensor  # [n, h, w]
    known: Tensor  # [n, h, w] bool
    intrinsics: Tensor  # [n, 3, 3] of these pixels
    world_to_camera: Tensor  # [n, 4, 4]
    step: int  # pixels of the clip per coarse pixel

    @classmethod
    def of(cls, depth: Tensor, known: Tensor, intrinsics: Tensor, world_to_camera: Tensor) -> CoarseScene:
        """Return every step-th pixel of frames [n,H,W], so that the shorter side has about COARSE_SIDE."""
        step = max(1, round(min(depth.shape[1:]) / COARSE_SIDE))
        rows = slice(step // 2, None, step)
        coarse = (depth[:, rows, rows], known[:, rows, rows])
        return cls(*coarse, coarse_lens(intrinsics, step), world_to_camera, step)

    def strain(self, intrinsics: Tensor, world_to_camera: Tensor, surface: SurfaceSettings) -> Strain:
        """Return the strain of filming these frames with new cameras, whose lenses are of the clip's pixels.

        Holes are those of the move: what the source itself does not show, such as a body that a mask removes,
        does not count.
        Depth may jump by `step` times as much between coarse pixels before the surface is torn.
        """
        surface = replace(surface, break_ratio=surface.break_ratio * self.step)
        depth, stretch = nearest_surface(
            self.depth,
            self.intrinsics.float(),
            self.world_to_camera,
            coarse_lens(intrinsics, self.step).float(),
            world_to_camera,
            surface=surface,
            known=self.known,
        )
        visible = (stretch > 0) & torch.isfinite(depth)
        if surface.max_stretch is not None:
            visible &= stretch <= surface.max_stretch
        holes = (self.known.double().mean(dim=(1, 2)) - visible.double().mean(dim=(1, 2))).clamp(min=0)
        stretched = [
            float(one[seen].double().quantile(MOST_STRETCHED)) if bool(seen.any()) else float("inf")
            for one, seen in zip(stretch, visible)
        ]
        return Strain(float(holes.max()), max(stretched))


def coarse_lens(intrinsics: Tensor, step: int) -> Tensor:
    """Return the intrinsics [...,3,3] of every step-th pixel, from the step // 2-th on."""
    lens = intrinsics.double().clone()
    lens[..., :2, 2] -= step // 2 + 0.5
    lens[..., :2, :] /= step
    lens[..., :2, 2] += 0.5
    return lens
