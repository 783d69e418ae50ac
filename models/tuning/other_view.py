"""What the clip of a pair looks like from another camera, to be packed beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from recapture.models.fill.classical import fill_classical
from recapture.models.fill.packed import (
    FinishedView,
    Packing,
    finished_view,
    packed_frames,
    packed_in,
    packing_candidates,
)
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.fill.windows import Window
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.tuning.pairs import Move, Pair, move_path


def other_view(source: SourceView, pivot_depth: float, move: Move, surface: SurfaceSettings) -> FinishedView:
    """Return the source seen by a move's cameras, its holes filled without a model.

    It stands for an earlier trajectory's fill: what the source knows is exact in it, the rest is a guess.
    """
    path = move_path(source, pivot_depth, move)
    target = path.intrinsics.to(source.depth), path.world_to_camera.to(source.depth)
    cameras = source.intrinsics, source.world_to_camera
    seen = render(source.video, source.depth, *cameras, *target, surface=surface, known=source.known)
    view = RenderedView(
        seen.video, seen.visible, seen.depth, seen.stretch, *target, pose_group=source.pose_group
    )
    times = torch.arange(len(source.video))
    filled = fill_classical(view, None, surface=surface, propagate=False)
    return finished_view(view, filled, times)


def frames_beside(
    source: SourceView, pair: Pair, other: FinishedView, packing: Packing, surface: SurfaceSettings
) -> Tensor | None:
    """Return the frames [K, 3, H, W] of another view that are packed beside a pair's clip, or None.

    Chosen as when a clip is filled: by what they show of the pair's holes, spaced in time.
    """
    shown = RenderedView(
        pair.degraded,
        pair.visible,
        torch.where(pair.visible, source.depth, torch.inf),
        torch.ones_like(source.depth),
        source.intrinsics,
        source.world_to_camera,
    )
    frames = len(pair.visible)
    chosen = packed_in(packing_candidates([other], shown, surface), packing, Window(0, frames, frames))
    return packed_frames([other], chosen)
