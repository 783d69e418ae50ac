"""What other frames of the source saw of a view's holes: the static scene, gathered over time."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.models.fill.inpaint import close_cracks, grown
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.backs import nearest_back
from recapture.models.geometry.backwarp import back_warp
from recapture.models.geometry.mesh import CameraPair
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.geometry.static_cloud import Frames, StaticCloud, key_frames, static_cloud

By = Literal["cloud", "frames"]

STATIC_COLOUR = 0.15  # of the range [-1, 1] per channel, mean over channels
OFFSETS = (4, 12)  # frames to look ahead and back, nearest first


def propagate_static(
    view: RenderedView,
    source: SourceView | None,
    *,
    surface: SurfaceSettings,
    by: By = "cloud",
    crack_radius: float = 3.0,
) -> RenderedView:
    """Return the view with fewer holes; visible pixels and `stretch` stay bit for bit.

    1. Cracks less than 3 pixels wide are closed from what surrounds them (`close_cracks`).

    2. by "cloud": what the clip's static point cloud shows of a hole is taken (`static_cloud`), which holds
    what any frame saw: but not what lies behind the back of a body (`nearest_back`), nor specks. Cracks that
    are left are closed. The cloud is the source's own (`SourceView.clouds`), else made of its frames.

    by "frames": the source frames 4 and 12 frames before and after the one shown, nearest first, are rendered
    into the target camera with their moving pixels left out (`static_pixels`); what they show of a hole is
    taken.

    Skipped where source is None, and between frames whose poses are not known relative to each other
    (`SourceView.pose_group`): there, other frames' pixels would be put in the wrong place.
    """
    video, known, depth = view.video.clone(), view.visible.clone(), view.depth.clone()
    close_cracks(video, known, depth, crack_radius)
    if source is not None and by == "cloud":
        _take_from_clouds(video, known, depth, view, source, surface)
        close_cracks(video, known, depth, crack_radius)
    elif source is not None:
        static = static_pixels(source, torch.arange(len(source.video), device=video.device))
        for offset in _offsets(source):
            if known.all():
                break
            _take(video, known, depth, *_from_other_frames(view, source, static, offset, surface, ~known))
    return replace(view, video=video, visible=known, depth=depth)


def static_clouds(source: SourceView, surface: SurfaceSettings) -> dict[int, StaticCloud]:
    """Return the cloud of what stands still in each group of frames with related poses, by its number.

    A clip whose poses are all related has one, number 0. Frames that are alone have none.
    """
    groups = source.pose_group
    if groups is None:
        groups = torch.zeros(len(source.video), dtype=torch.int64, device=source.video.device)
    found = {}
    for group, frames in key_frames(groups).items():
        part = source.at(frames)
        found[group] = static_cloud(Frames(*(getattr(part, name) for name in Frames._fields)), surface)
    return found


def _take_from_clouds(
    video: Tensor,
    known: Tensor,
    depth: Tensor,
    view: RenderedView,
    source: SourceView,
    surface: SurfaceSettings,
) -> None:
    """Write what the clouds show of the holes, in place."""
    clouds = static_clouds(source, surface) if source.clouds is None else source.clouds
    groups = torch.zeros_like(source.source_frame)
    if source.pose_group is not None:
        groups = source.pose_group[source.source_frame]
    for t, group in beating(list(enumerate(groups.tolist()))):
        if group not in clouds or bool(known[t].all()):
            continue
        cameras = view.intrinsics[t], view.world_to_camera[t]
        seen = clouds[group].seen_by(*cameras, ~known[t], surface.max_stretch)
        if seen.visible.any():
            one = slice(t, t + 1)
            shown = seen.visible & (seen.depth <= _back(view, source, t, surface))
            shown &= grown(~grown(~(shown | known[t])))  # less than 3 pixels wide is a speck
            _take(video[one], known[one], depth[one], seen.video[None], shown[None], seen.depth[None])


def _back(view: RenderedView, source: SourceView, t: int, surface: SurfaceSettings) -> Tensor:
    """Return how far frame t of the view looks before it meets the back of a body, [H, W]."""
    front = source.at(source.source_frame[t : t + 1])
    own = view.intrinsics[t : t + 1], view.world_to_camera[t : t + 1]
    cameras = CameraPair(front.intrinsics, front.world_to_camera, *own)
    size = (view.video.shape[2], view.video.shape[3])
    return nearest_back(front.depth, front.known, cameras, surface, size)[0]


def static_pixels(source: SourceView, frames: Tensor, *, apart: int = 4, tolerance: float = 0.03) -> Tensor:
    """Return which pixels of the source frames `frames` [n] show what stands still: bool [n, h, w].

    Each pixel is lifted and looked up in the frames `apart` earlier and later (those that exist). The other
    frame agrees when it has the same depth there (3 %) and the same colour (within 15 % of the range, mean
    over channels), and contradicts when it looks through the point (its depth is farther) or shows another
    colour at that depth. An occluder in front says nothing. Static = agreed by one at least, contradicted
    by none. Frames whose poses are not known relative to this one say nothing; a thing that rests for `apart`
    frames passes as static.
    """
    here = source.at(frames)
    agreed = torch.zeros_like(here.known)
    contradicted = torch.zeros_like(here.known)
    for step in (-apart, apart):
        there = frames + step
        exists = source.related(frames, there)
        other = source.at(there.clamp(0, len(source.video) - 1))
        seen = back_warp(
            other.video,
            other.depth,
            other.known,
            other.intrinsics,
            other.world_to_camera,
            torch.where(here.known, here.depth, torch.zeros_like(here.depth)),
            here.intrinsics,
            here.world_to_camera,
            tolerance=tolerance,
        )
        same_colour = (seen.video - here.video).abs().mean(1) <= 2 * STATIC_COLOUR
        exists = exists[:, None, None]
        agreed |= exists & seen.co_visible & same_colour
        looked_through = seen.inside & (seen.depth_ratio > 1 + tolerance)
        contradicted |= exists & (looked_through | (seen.co_visible & ~same_colour))
    # depth edges are contradicted by rounding alone; grown by a pixel, they take the flying pixels with them
    return here.known & agreed & ~grown(contradicted)


def _offsets(source: SourceView) -> list[int]:
    span = len(source.video)
    return [sign * offset for offset in OFFSETS if offset < span for sign in (1, -1)]


def _from_other_frames(
    view: RenderedView,
    source: SourceView,
    static: Tensor,
    offset: int,
    surface: SurfaceSettings,
    hole: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render the static source, `offset` frames away, where the view has holes: video, visible, depth."""
    wanted = source.source_frame + offset
    exists = source.related(source.source_frame, wanted)
    frames = wanted.clamp(0, len(source.video) - 1)
    other = source.at(frames)
    seen = render(
        other.video,
        other.depth,
        other.intrinsics,
        other.world_to_camera,
        view.intrinsics,
        view.world_to_camera,
        surface=surface,
        size=(view.video.shape[2], view.video.shape[3]),
        known=static[frames] & exists[:, None, None],
        wanted=hole,
    )
    return seen.video, seen.visible, seen.depth


def _take(
    video: Tensor, known: Tensor, depth: Tensor, new_video: Tensor, new_known: Tensor, new_depth: Tensor
) -> None:
    """Write what is newly known into the holes, in place."""
    taken = new_known & ~known
    video.copy_(torch.where(taken[:, None], new_video, video))
    depth.copy_(torch.where(taken, new_depth, depth))
    known |= taken
