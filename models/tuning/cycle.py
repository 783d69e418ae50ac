"""The next round's data: a recaptured video is lifted, filmed from the source's camera, and compared with it.

As flow matching, "back at the source the video must be the source" is one more pair: the recaptured video
seen from the source camera is the degraded clip, the real source the target. No gradient goes through
sampling, and supervision is always real pixels. (EasyCreator names a spatio-temporal consistency MSE; this
form of it is this project's reading.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recapture.models.depth.alignment import MIN_AGREEMENT, fit_disparity, follow_scale
from recapture.models.fill.inpaint import background_depth
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import Rendered, SurfaceSettings, render
from recapture.models.metrics.image import psnr
from recapture.models.tuning.pairs import Move, Pair, move_path

LIMIT = 25.0  # largest completed depth, as a multiple of the median known one

Fill = Callable[[RenderedView], Tensor]  # the view's video [T, 3, H, W] without holes
PredictDepth = Callable[[Tensor], Tensor]  # [T, H, W] of a video [T, 3, H, W], non-finite = unknown


@dataclass(frozen=True)
class RoundTrip:
    """A clip recaptured by a move, and what comes back of it."""

    view: RenderedView
    video: Tensor  # [T, 3, H, W] in [-1, 1], the view filled
    returned: Rendered  # seen from the source's cameras again
    quality: float  # cycle quality, dB


def round_trip(
    source: SourceView,
    pivot_depth: float,
    move: Move,
    fill: Fill,
    *,
    surface: SurfaceSettings,
    predict_depth: PredictDepth | None = None,
    kind: Literal["inverse", "metric"] = "inverse",
) -> RoundTrip:
    """Recapture a clip by a move with `fill`, and film the result from the source's cameras again.

    predict_depth, kind: see `filled_depth`.
    """
    path = move_path(source, pivot_depth, move)
    target = path.intrinsics.to(source.depth), path.world_to_camera.to(source.depth)
    cameras = source.intrinsics, source.world_to_camera, *target
    seen = render(source.video, source.depth, *cameras, surface=surface, known=source.known)
    view = RenderedView(
        seen.video, seen.visible, seen.depth, seen.stretch, *target, pose_group=source.pose_group
    )
    video = fill(view)
    depth = filled_depth(view, None if predict_depth is None else predict_depth(video), kind)
    returned = cycle_back(source, view, video, depth, surface)
    return RoundTrip(view, video, returned, cycle_quality(source, returned))


def filled_depth(
    view: RenderedView,
    prediction: Tensor | None = None,  # [T, H, W] of the filled video, non-finite = unknown
    kind: Literal["inverse", "metric"] = "inverse",
) -> Tensor:
    """Return z-depth [T, H, W] of a filled view: as rendered where visible, completed in holes.

    A depth model's prediction (kind as in `align_depth`) is fitted to the rendered depth frame by frame on
    visible pixels, in disparity. Without one, or where fewer than half of a frame's visible pixels agree with
    the fit, a hole takes the depth of the background beside it.
    """
    known = view.visible & torch.isfinite(view.depth) & (view.depth > 0)
    if not known.any():
        raise ValueError("tuning: the rendered view has no visible pixel with depth; choose a smaller angle")
    farthest = LIMIT * float(view.depth[known].median())
    completed = []
    for t in range(len(view.depth)):
        depth = torch.where(known[t], view.depth[t], torch.full_like(view.depth[t], torch.nan))
        guess = None if prediction is None else _fitted(prediction[t], depth, kind, farthest)
        if guess is None and known[t].any():
            guess = background_depth(view.depth[t], known[t])
        if guess is None:
            guess = torch.full_like(depth, farthest)
        completed.append(torch.where(known[t], view.depth[t], guess.to(depth.dtype)))
    return torch.stack(completed)


def cycle_back(
    source: SourceView, view: RenderedView, video: Tensor, depth: Tensor, surface: SurfaceSettings
) -> Rendered:
    """Film the filled view (video [T, 3, H, W], depth [T, H, W]) from the source's cameras again.

    Frame t of the view must show frame t of the source.
    """
    return render(
        video,
        depth,
        view.intrinsics,
        view.world_to_camera,
        source.intrinsics,
        source.world_to_camera,
        surface=surface,
        size=(source.depth.shape[1], source.depth.shape[2]),
    )


def cycle_quality(source: SourceView, returned: Rendered) -> float:
    """Return the PSNR in dB of the returned video against the source where visible; NaN for nothing."""
    return psnr(returned.video, source.video, returned.visible & source.known)


def cycle_pair(source: SourceView, returned: Rendered, angle: float, weight: float = 1.0) -> Pair:
    """Pair the returned video, with its holes, with the real source as the target."""
    return Pair(returned.video, returned.visible, source.video, "cycle", angle, weight)


def pseudo_pair(view: RenderedView, video: Tensor, angle: float, weight: float) -> Pair:
    """Pair the rendered view, with its holes, with what the tuned model made of it [T, 3, H, W].

    The target shows the render's own pixels where visible, so that nothing but the holes is learned from it.
    """
    target = torch.where(view.visible[:, None], view.video, video)
    return Pair(view.video, view.visible, target, "pseudo", angle, weight)


def quality_weight(quality: float, threshold: float, full: float) -> float:
    """Return a self-made pair's weight: 0 up to `threshold` dB (and for NaN), linear to 1 at `full`."""
    if full < threshold:
        raise ValueError(f"tuning: full weight at {full:g} dB is below the threshold {threshold:g}")
    if math.isnan(quality) or quality <= threshold:
        return 0.0
    return 1.0 if quality >= full else (quality - threshold) / (full - threshold)


def _fitted(
    prediction: Tensor, depth: Tensor, kind: Literal["inverse", "metric"], farthest: float
) -> Tensor | None:
    """Fit one frame's prediction to depth [H, W] (NaN: unknown); None where they disagree."""
    usable = torch.isfinite(prediction) & ((prediction > 0) if kind == "metric" else True)
    raw = torch.where(usable, prediction.double(), torch.nan)
    reference = 1 / depth.double()
    if kind == "metric":
        raw = 1 / raw
        gain = follow_scale(raw, reference)
        fitted = gain * raw
        common = ~raw.isnan() & ~reference.isnan()
        spread = float(reference[common].std(correction=0)) if common.any() else 0.0
        close = (fitted - reference)[common].abs() <= 0.25 * spread + 1e-12
        agreement = float(close.double().mean()) if common.any() else 0.0
    else:
        a, b, agreement = fit_disparity(raw, reference)
        fitted = a * raw + b
    if agreement < MIN_AGREEMENT:
        return None
    return 1 / torch.where(fitted.isnan(), 1 / farthest, fitted).clamp_min(1 / farthest)
