"""The weight-free suite: every measurement of one recaptured clip that needs no model."""

import math
from typing import NamedTuple

from torch import Tensor

from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.metrics.camera import camera_following
from recapture.models.metrics.image import (
    by_region,
    hole_share,
    hole_sharpness_ratio,
    psnr,
    sharpness_ratio,
    ssim,
)
from recapture.models.metrics.temporal import (
    flicker_static_only,
    measurement_consistency,
    sync_offset,
    warp_error,
)


class Metric(NamedTuple):
    """How to print and read one number."""

    unit: str
    higher_is_better: bool | None  # None: says something about the clip, or is no verdict by itself
    definition: str


METRICS: dict[str, Metric] = {
    "psnr": Metric("dB", True, "PSNR against the truth, all pixels, mean over frames"),
    "psnr_visible": Metric("dB", True, "the same on pixels that the source saw"),
    "psnr_hole": Metric("dB", True, "the same in holes"),
    "psnr_seam": Metric("dB", True, "the same on a ring around the holes' boundary"),
    "ssim": Metric("", True, "SSIM against the truth (Gaussian 11x11, sigma 1.5), all pixels"),
    "ssim_visible": Metric("", True, "the same by partial convolution on visible pixels"),
    "ssim_hole": Metric("", True, "the same in holes"),
    "ssim_seam": Metric("", True, "the same on a ring around the holes' boundary"),
    "consistency_psnr": Metric("dB", True, "PSNR against the source looked up at co-visible target pixels"),
    "coverage": Metric("", None, "share of target pixels that are co-visible with the source"),
    "hole_share": Metric("", None, "share of target pixels that the source did not see"),
    "rotation_error_deg": Metric("deg", False, "camera rotation error by SIFT and PnP, registered frames"),
    "translation_error": Metric("", False, "camera position error / pivot depth, registered frames"),
    "pose_success": Metric("", True, "share of tried frames that could be registered"),
    "pose_accuracy": Metric("", True, "share of tried frames within 2 degrees and 5 % of the pivot depth"),
    "sync_offset_frames": Metric("frames", None, "frames the result runs ahead (+) of the source, by PSNR"),
    "sync_error_frames": Metric("frames", False, "absolute value of the sync offset"),
    "sync_margin_db": Metric("dB", None, "how far the best offset stands above the mean of the others"),
    "warp_error": Metric("", False, "squared error after DIS flow; rewards blur and stillness"),
    "flow_px": Metric("px", None, "mean length of the flow between frames; read it with warp_error"),
    "sharpness_ratio": Metric("", None, "Laplacian variance / the source's; below 1 blurred, above noisy"),
    "hole_sharpness_ratio": Metric("", None, "Laplacian variance in holes / on visible pixels"),
    "flicker_static_only": Metric("", None, "1 - mean frame difference; only for a still camera and scene"),
}


def measure(
    result: Tensor,  # [T, 3, H, W] in [-1, 1]
    source: SourceView,
    view: RenderedView,
    *,
    surface: SurfaceSettings,
    truth: Tensor | None = None,  # [T, 3, H, W] in [-1, 1]
    truth_depth: Tensor | None = None,  # [T, H, W]
    pivot_depth: float | None = None,
    seam_pixels: int = 16,
) -> dict[str, float]:
    """Return every metric of METRICS that this clip allows; what has no value (no truth) is absent.

    `view` is what was rendered (its visibility, target depth and cameras), `source` the clip it was
    rendered from. Consistency uses `truth_depth` where given, else the render's own depth, which holds no
    hole. `pivot_depth` (scene units) is what translation errors are a fraction of; by default the median
    known depth of the first source frame. Smoothness metrics reward doing nothing: print the copied source
    beside every result. Raises ValueError when the result does not have the view's shape.
    """
    if result.shape != view.video.shape:
        raise ValueError(
            f"measure: result {tuple(result.shape)} and render {tuple(view.video.shape)} differ in shape;"
            " measure a result at the size and length it was rendered for"
        )
    if len(source.source_frame) != len(result):
        raise ValueError(f"measure: source_frame names {len(source.source_frame)} frames for {len(result)}")
    scores = {"hole_share": hole_share(view.visible)}
    if truth is not None:
        scores |= by_region("psnr", psnr, result, truth, view.visible, seam_pixels)
        scores |= by_region("ssim", ssim, result, truth, view.visible, seam_pixels)
    depth = view.depth if truth_depth is None else truth_depth
    cameras = view.intrinsics, view.world_to_camera
    scores |= measurement_consistency(result, source, depth, *cameras)
    if pivot_depth is None:
        pivot_depth = median_depth(source)
    scores |= camera_following(result, source, *cameras, pivot_depth).scores()
    scores |= sync_offset(result, source, *cameras, surface=surface).scores()
    scores |= warp_error(result)
    scores["sharpness_ratio"] = sharpness_ratio(result, source.video)
    scores["hole_sharpness_ratio"] = hole_sharpness_ratio(result, view.visible)
    scores["flicker_static_only"] = flicker_static_only(result)
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def median_depth(source: SourceView) -> float:
    """Return the median known depth of the first source frame; NaN when nothing of it is known."""
    known = source.depth[0][source.known[0]]
    return float(known.median()) if known.numel() else float("nan")
