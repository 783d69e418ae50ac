"""Look up one trajectory's fill from another trajectory, to measure how far two fills agree."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.models.fill.view import RenderedView
from recapture.models.geometry.backwarp import back_warp


def looked_up(
    earlier: Tensor,  # [T, 3, H, W], the fill of `first`
    first: RenderedView,
    first_depth: Tensor,  # [T, H, W] true, inf where the room is not shown
    second: RenderedView,
    second_depth: Tensor,  # [T, H, W]
) -> tuple[Tensor, Tensor]:
    """Return the earlier fill as the second view sees it, and where both were invented, bool [T, H, W]."""
    new = torch.where(first.visible, 0.0, 1.0)[:, None].expand_as(earlier)
    there, invented = (
        back_warp(
            video,
            first_depth,
            torch.isfinite(first_depth),
            first.intrinsics,
            first.world_to_camera,
            second_depth,
            second.intrinsics,
            second.world_to_camera,
        )
        for video in (earlier, new)
    )
    return there.video, ~second.visible & there.co_visible & (invented.video[:, 0] > 0.999)
