"""The classical baseline: what other frames of the source saw, then OpenCV inpainting. No model."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.models.fill.inpaint import background_depth, inpaint
from recapture.models.fill.propagate import By, propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import SurfaceSettings, render

BLEND = 1 / 8  # of the longer side: how deep in a hole the shared background alone is left


@dataclass(frozen=True)
class ClassicalFiller:
    """`fill_classical` behind the `Filler` interface. caption and seed are not used."""

    surface: SurfaceSettings
    propagate: bool = True
    propagate_by: By = "cloud"
    inpaint_radius: float = 3.0

    def fill(self, view: RenderedView, source: SourceView, *, caption: str, seed: int) -> Tensor:
        del caption, seed
        return fill_classical(
            view,
            source,
            surface=self.surface,
            propagate=self.propagate,
            propagate_by=self.propagate_by,
            inpaint_radius=self.inpaint_radius,
        )


def fill_classical(
    view: RenderedView,
    source: SourceView | None,
    *,
    surface: SurfaceSettings,
    propagate: bool = True,
    propagate_by: By = "cloud",
    inpaint_radius: float = 3.0,
) -> Tensor:
    """Fill the holes of a rendered clip [T, 3, H, W]; visible pixels are returned bit for bit.

    1. Cracks are closed, and what other frames saw of a static scene is taken (`propagate_static`).

    2. What is still open is inpainted frame by frame (OpenCV, Telea). A frame of which nothing at all is
    known gets the mean known colour of the clip, else of the source, else grey.

    3. Deep inside a hole all frames share one picture: that of the frame with the largest remaining hole is
    given the depth of the background beside it and rendered into the others, as far as their poses are known
    relative to its own. It is blended in from the hole's edge over 1/8 of the frame's longer side, so that
    invented background keeps its place when the camera moves, while a narrow hole follows its own
    surroundings.
    """
    gathered = propagate_static(
        view,
        source if propagate else None,
        surface=surface,
        by=propagate_by,
        crack_radius=inpaint_radius,
    )
    video, known, depth = gathered.video, gathered.visible, gathered.depth
    if not known.all():
        filled = inpaint(video, known, depth, inpaint_radius, _mean_colour(video, known, source))
        if known.any():
            patch, share = _one_invented_background(view, filled, known, depth, surface)
            filled = torch.lerp(filled, patch, share[:, None])
        video = torch.where(known[:, None], video, filled)
    return torch.where(view.visible[:, None], view.video, video)


def _one_invented_background(
    view: RenderedView, filled: Tensor, known: Tensor, depth: Tensor, surface: SurfaceSettings
) -> tuple[Tensor, Tensor]:
    """Show the hole of the emptiest frame that knows anything to all cameras; also return its share.

    Each group of frames with related poses has an emptiest frame of its own; a frame alone has nothing to
    share, and a share of 0.
    """
    height, width = filled.shape[2:]
    chosen, shared = _emptiest(known, view.pose_group)
    inside = [cv2.distanceTransform(hole, cv2.DIST_L2, 5) for hole in (~known).byte().cpu().numpy()]
    share = (torch.from_numpy(np.stack(inside)).to(filled) / (BLEND * max(height, width))).clamp_max(1)
    patch, seen_there = filled.clone(), torch.zeros_like(known)
    if shared.any():
        own = chosen[shared]
        used, place = own.unique(return_inverse=True)
        behind = torch.stack([background_depth(depth[t], known[t]) for t in used.tolist()])
        seen = render(
            _each(filled[used], place),
            _each(behind, place),
            view.intrinsics[own],
            view.world_to_camera[own],
            view.intrinsics[shared],
            view.world_to_camera[shared],
            surface=surface,
            size=(height, width),
            known=_each(~known[used], place),
            wanted=~known[shared],
        )
        patch[shared], seen_there[shared] = seen.video, seen.visible
    return patch, share * seen_there


def _each(values: Tensor, place: Tensor) -> Tensor:
    """Return values[place], of a single value without copies."""
    return values[place] if len(values) > 1 else values.expand(len(place), *values.shape[1:])


def _emptiest(known: Tensor, pose_group: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the emptiest frame of each frame's group [T] int64, and whether that has others [T] bool."""
    holes = (~known).flatten(1).sum(1)
    holes[~known.flatten(1).any(1)] = -1
    if pose_group is None:
        return holes.argmax().expand(len(holes)), torch.ones_like(holes, dtype=torch.bool)
    alike = pose_group[:, None] == pose_group[None]
    return torch.where(alike, holes, -2).argmax(1), alike.sum(1) > 1


def _mean_colour(video: Tensor, known: Tensor, source: SourceView | None) -> Tensor:
    if known.any():
        return video.movedim(1, -1)[known].mean(0)
    if source is not None and source.known.any():
        return source.video.movedim(1, -1)[source.known].mean(0)
    return video.new_zeros(3)
