"""Where the bodies of a known scene are in a generated clip, found without learned weights.

Bodies have plain colours that nothing else in their room has. A pixel belongs to the body whose true colours
it is nearest to, unless the room's true pixel there (or beside it) is nearer. Positions are centroids.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

SHADES = 8  # of a body's colour, from its darkest to its brightest pixels
FARTHEST = 0.7  # a pixel this far from a body's colours, in [-1, 1] and over three channels, is none of it
LEAST = 12  # pixels that must show of a body for it to have a place
NO_COLOUR = 1e3  # of a body that the truth shows in no frame
PIECE = 0.25  # of the largest piece; smaller ones are not the body


@dataclass(frozen=True)
class MotionTruth:
    """What a clip ought to show."""

    video: Tensor  # [T, 3, H, W] in [-1, 1]
    background: Tensor  # [T, 3, H, W], the same without its bodies
    parts: Tensor  # [N, T, H, W] bool, where each tracked body (or part of a figure) shows
    owner: tuple[int, ...] = ()  # [N] the body of each part; (): each is one

    @property
    def bodies(self) -> int:
        """Return the number of bodies."""
        return len(set(self.owner)) if self.owner else len(self.parts)


@dataclass(frozen=True)
class Found:
    """Where bodies are."""

    place: Tensor  # [N, T, 2] x and y of the centroids in pixels; of a body that is not there, its last place
    area: Tensor  # [N, T] pixels
    masks: Tensor  # [N, T, H, W] bool

    @property
    def there(self) -> Tensor:
        """Return [N, T] bool, where enough of a body shows."""
        return self.area >= LEAST


def true_places(truth: MotionTruth) -> Found:
    """Return where the bodies truly are."""
    return _placed(truth.parts)


def find_bodies(video: Tensor, truth: MotionTruth) -> Found:
    """Return where the truth's bodies are in a clip [T, 3, H, W] of the same scene.

    Raises: ValueError for a clip of another shape.
    """
    if video.shape != truth.video.shape:
        raise ValueError(
            f"motion: the clip is {list(video.shape)}, its truth {list(truth.video.shape)}; give both alike"
        )
    to_room = _room_distance(video, truth.background)
    to_bodies = torch.stack([_shade_distance(video, shades) for shades in shades_of(truth)])
    nearest = to_bodies.min(0)
    is_body = (nearest.values < to_room) & (nearest.values < FARTHEST)
    masks = torch.stack([is_body & (nearest.indices == number) for number in range(len(truth.parts))])
    pieces = [np.stack([_large_pieces(frame) for frame in body]) for body in masks.cpu().numpy()]
    return _placed(torch.from_numpy(np.stack(pieces)))


def shades_of(truth: MotionTruth) -> list[Tensor]:
    """Return the shades [SHADES, 3] of each body, from its own pixels in the true clip."""
    inner = -max_pool2d(-truth.parts.float(), 3, 1, 1) > 0
    found = []
    for own, all_of in zip(inner, truth.parts):
        chosen = own if own.any() else all_of
        pixels = truth.video.movedim(1, -1)[chosen]
        if not len(pixels):  # such as a leg behind the other one: it is not looked for, and not scored
            found.append(torch.full((1, 3), NO_COLOUR))
            continue
        order = pixels[pixels.sum(-1).argsort()]
        found.append(torch.stack([part.mean(0) for part in order.tensor_split(min(SHADES, len(order)))]))
    return found


def _shade_distance(video: Tensor, shades: Tensor) -> Tensor:
    """Return the distance [T, H, W] of each pixel to the nearest of shades [S, 3]."""
    away = torch.stack([(video - shade[:, None, None]).square().sum(1) for shade in shades])
    return away.min(0).values.sqrt()


def _room_distance(video: Tensor, background: Tensor) -> Tensor:
    """Return the distance [T, H, W] of each pixel to the nearest of the room's 3 x 3 around it."""
    height, width = video.shape[-2:]
    around = pad(background, (1, 1, 1, 1), mode="replicate")
    away = [
        (video - around[:, :, y : y + height, x : x + width]).square().sum(1)
        for y in range(3)
        for x in range(3)
    ]
    return torch.stack(away).min(0).values.sqrt()


def _large_pieces(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a mask [H, W], and those not much smaller."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= max(PIECE * areas.max(), 1))[labels]


def _placed(masks: Tensor) -> Found:
    height, width = masks.shape[-2:]
    weight = masks.double()
    area = weight.sum((-1, -2))
    x = torch.arange(width, dtype=torch.float64) + 0.5
    y = torch.arange(height, dtype=torch.float64) + 0.5
    sums = torch.stack([(weight.sum(-2) * x).sum(-1), (weight.sum(-1) * y).sum(-1)], dim=-1)
    place = sums / area.clamp_min(1)[..., None]
    for body, seen in zip(place, area >= LEAST):
        last = int(seen.nonzero()[0]) if seen.any() else 0
        for frame in range(len(body)):
            last = frame if seen[frame] else last
            body[frame] = body[last]
    return Found(place, area, masks)
