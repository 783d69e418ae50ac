"""Copies of a reference with the same motion and another look, so that an adapter learns the motion alone.

A single clip offers two shortcuts: its colours, and where in the picture things are. Copies in other colours,
moved and zoomed by one amount in all frames, remove both. They are never flipped or reversed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from recapture.models.training.seeds import uniform

Colour = Literal["none", "permute", "jitter"]
_PERMUTATIONS = tuple(permutations(range(3)))


@dataclass(frozen=True)
class Augmentation:
    """How far copies may differ from the reference.

    colour: permuted channels, whose colours are unnatural, or a hue turned by up to a third of the circle.
    light: largest relative change of contrast, and change of brightness. shift: largest share of the sides by
    which a copy is moved. zoom: largest relative change of size, to either side.
    """

    colour: Colour
    light: float
    shift: float
    zoom: float


def copies(
    video: Tensor,  # [T, 3, H, W] in [-1, 1]
    visible: Tensor,  # [T, H, W] bool
    count: int,
    augmentation: Augmentation,
    random: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `count` copies of a clip and of what is visible of it; the permutations take turns.

    What comes in from outside the picture is mirrored at its edge.
    """
    order = torch.randperm(len(_PERMUTATIONS), generator=random, device=random.device).tolist()
    for number in range(count):
        colours = _colours(augmentation, _PERMUTATIONS[order[number % len(order)]], random)
        gain, lift = (float(uniform(-1, 1, (1,), random)) * augmentation.light for _ in range(2))
        looked = torch.einsum("cd,tdhw->tchw", colours.to(video), video) * (1 + gain) + lift
        yield _moved(looked.clamp(-1, 1), visible, augmentation, random)


def _colours(augmentation: Augmentation, permutation: tuple[int, ...], random: torch.Generator) -> Tensor:
    """Return a [3, 3] matrix of colours: the identity, a permutation, or a turn about the grey axis."""
    if augmentation.colour == "permute":
        return torch.eye(3)[list(permutation)]
    if augmentation.colour == "none":
        return torch.eye(3)
    angle = float(uniform(-1, 1, (1,), random)) * 2 * math.pi / 3
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    grey = torch.full((3, 3), 1 / 3)
    return math.cos(angle) * torch.eye(3) + (1 - math.cos(angle)) * grey + math.sin(angle) * axis


def _moved(
    video: Tensor, visible: Tensor, augmentation: Augmentation, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the clip and its visible part under one zoom and shift of all frames."""
    across, down, nearer = (float(uniform(-1, 1, (1,), random)) for _ in range(3))
    size = (1 + augmentation.zoom) ** -nearer
    matrix = torch.tensor(
        [[size, 0, -2 * across * augmentation.shift], [0, size, -2 * down * augmentation.shift]]
    )
    frames, _, height, width = video.shape
    grid = affine_grid(matrix[None].to(video), [1, 3, height, width], align_corners=False)
    grid = grid.expand(frames, -1, -1, -1)
    made = grid_sample(video, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    seen = grid_sample(
        visible[:, None].to(video), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return made, seen[:, 0] > 0.999
