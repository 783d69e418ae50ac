"""Composite masks: the holes of a camera move, editing masks, their union, and the base's own holes.

One fine-tuning on all of them teaches filling and editing at once (EasyCreator). An editing mask leaves the
first frame free, which is what guides an edit. Every function returns visible, True where known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.models.fill.inpaint import largest_within
from recapture.models.training.masks import SHARES as PRIOR_SHARES
from recapture.models.training.masks import boxes, draw_masks, ellipses, objects
from recapture.models.training.seeds import uniform

KINDS = ("point_cloud", "union", "edit", "prior")
SHARES: Mapping[str, float] = {"point_cloud": 0.50, "union": 0.25, "edit": 0.15, "prior": 0.10}
TRACKED = 0.5  # of editing masks, where the clip has tracked objects
FREE_FIRST_FRAME = 0.9  # of masks with point-cloud holes; a path that starts elsewhere has holes at once


@dataclass(frozen=True)
class Composite:
    """Drawn masks, and which kind each is."""

    visible: Tensor  # [B, T, H, W] bool
    kind: Tensor  # [B] int64, index into KINDS


def draw_composite(
    visible: Tensor,  # [B, T, H, W] bool, what a camera move leaves known
    random: torch.Generator,
    *,
    shares: Mapping[str, float] = SHARES,
    object_id: Tensor | None = None,  # [B, T, H, W] int64, 0 background, 1.. tracked objects
    free_first_frame: float = FREE_FIRST_FRAME,
) -> Composite:
    """Draw one mask per clip, its kind by `shares` of KINDS.

    point_cloud: `visible` as it is; edit: a tracked object with a margin, or drifting blobs; union: holes of
    both; prior: of the families that the base was trained on. Where point-cloud holes enter, a share
    `free_first_frame` of the masks shows the whole first frame. Raises ValueError for unusable shares.
    """
    check_shares(shares)
    batch, frames, height, width = visible.shape
    weights = torch.tensor([float(shares.get(kind, 0.0)) for kind in KINDS], device=random.device)
    kind = torch.multinomial(weights, batch, replacement=True, generator=random).to(visible.device)
    free = uniform(0, 1, (batch,), random).to(visible.device) < free_first_frame
    holes_of_move = visible.clone()
    holes_of_move[:, 0] |= free[:, None, None]
    edit = edit_visible(batch, (frames, height, width), random, object_id).to(visible.device)
    prior = prior_visible(batch, (frames, height, width), random, object_id).to(visible.device)
    choices = torch.stack([holes_of_move, holes_of_move & edit, edit, prior])
    return Composite(choices[kind, torch.arange(batch, device=visible.device)], kind)


def edit_visible(
    batch: int, size: tuple[int, int, int], random: torch.Generator, object_id: Tensor | None = None
) -> Tensor:
    """Editing masks [B, T, H, W]: one tracked object of the clip and a margin of 1/64 to 3/64 of the longer
    side, or one to four drifting boxes or ellipses. The first frame is free.
    """
    pick = uniform(0, 1, (2, batch, 1, 1, 1), random)
    visible = torch.where(pick[0] < 0.5, boxes(batch, size, random), ellipses(batch, size, random))
    if object_id is not None:
        object_id = object_id.to(random.device)
        tracked = objects(object_id, random)
        side = max(size[1:])
        margins = uniform(side / 64, 3 * side / 64, (batch,), random).round().int().tolist()
        wide = torch.stack([_shrunk(clip, margin) for clip, margin in zip(tracked, margins)])
        usable = (~tracked).flatten(1).any(1)[:, None, None, None] & (pick[1] < TRACKED)
        visible = torch.where(usable, wide, visible)
    visible[:, 0] = True
    return visible


def prior_visible(
    batch: int, size: tuple[int, int, int], random: torch.Generator, object_id: Tensor | None = None
) -> Tensor:
    """Draw masks [B, T, H, W] of the families that the embedded base was trained on, by their shares."""
    if object_id is None:
        shares = {name: share for name, share in PRIOR_SHARES.items() if name != "objects"}
        nowhere = torch.zeros((batch, *size), dtype=torch.int64, device=random.device)
        return draw_masks(nowhere, random, shares)
    return draw_masks(object_id.to(random.device), random)


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise ValueError unless the shares name KINDS alone, none is negative and some is positive."""
    unknown = sorted(set(shares) - set(KINDS))
    if unknown:
        raise ValueError(f"masks: no kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    if any(not 0 <= share < float("inf") for share in shares.values()) or not sum(shares.values()) > 0:
        raise ValueError(f"masks: shares {dict(shares)}; none may be negative and one must be positive")


def _shrunk(visible: Tensor, margin: int) -> Tensor:
    """Return visible [T, H, W] with its holes grown by `margin` pixels."""
    return largest_within((~visible).float(), margin) == 0
