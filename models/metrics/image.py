"""Fidelity of single frames: PSNR, SSIM and sharpness, over whole frames or over a region of them.

Videos are float tensors [T, 3, H, W] in [-1, 1]; numbers are computed on the values mapped to [0, 1].
A region is a bool tensor [T, H, W]. A frame whose region is empty has no value (NaN) and is left out of the
mean over frames; a clip whose region is empty in every frame yields NaN, which the suite omits.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from recapture.conf.heartbeat import beating

PSNR_LIMIT = 100.0  # dB, what two identical frames score: an infinite value would swallow every mean
_K1, _K2 = 0.01, 0.03


def to_unit(video: Tensor) -> np.ndarray:
    """Convert [..., 3, H, W] in [-1, 1] to float64 [..., H, W, 3] in [0, 1], clamped."""
    last = video.detach().cpu().movedim(-3, -1).contiguous()
    unit = torch.empty_like(last, dtype=torch.float64).copy_(last)
    return unit.clamp_(-1, 1).add_(1).div_(2).numpy()  # in place: copies of this size are what takes time


def to_grey(video: Tensor) -> np.ndarray:
    """Convert [..., 3, H, W] in [-1, 1] to uint8 [..., H, W], Rec. 601 luma."""
    luma = to_unit(video) @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint(luma * 255), dtype=np.uint8)


def check_pair(result: Tensor, truth: Tensor, region: Tensor | None = None) -> None:
    """Raise ValueError where the two videos (and the region) are not frames of one size and count."""
    if result.ndim != 4 or result.shape[1] != 3 or result.shape != truth.shape:
        raise ValueError(
            f"measure: result {tuple(result.shape)} and reference {tuple(truth.shape)} must both be"
            " [T, 3, H, W] of one size; crop or resample them before measuring"
        )
    if region is not None and region.shape != (result.shape[0], *result.shape[2:]):
        raise ValueError(f"measure: region {tuple(region.shape)} does not fit frames {tuple(result.shape)}")


def mean_over_frames(values: np.ndarray) -> float:
    """Return the mean of [T] values without the NaN ones; NaN when none is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


def frame_psnr(result: Tensor, truth: Tensor, region: Tensor | None = None) -> np.ndarray:
    """Return each frame's PSNR in dB, [T]: -10 log10 of the squared error over channels and region.

    result, truth: [T, 3, H, W]; region: [T, H, W] bool or None for the whole frame (mPSNR of DyCheck, Gao
    et al. 2022, which is the masked MSE). Capped at PSNR_LIMIT; NaN where the region of a frame is empty.
    """
    check_pair(result, truth, region)
    squared = ((to_unit(result) - to_unit(truth)) ** 2).mean(-1)  # [T, H, W]
    weight = np.ones(squared.shape) if region is None else region.detach().cpu().numpy().astype(np.float64)
    pixels = weight.sum((1, 2))
    values = np.full(len(squared), np.nan)
    some = pixels > 0
    mse = (squared * weight).sum((1, 2))[some] / pixels[some]
    values[some] = np.minimum(-10 * np.log10(np.maximum(mse, 1e-12)), PSNR_LIMIT)
    return values


def psnr(result: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Return the mean over frames of `frame_psnr` (not the PSNR of the pooled error), dB."""
    return mean_over_frames(frame_psnr(result, truth, region))


def frame_ssim(result: Tensor, truth: Tensor, region: Tensor | None = None) -> np.ndarray:
    """Return the SSIM of each frame, [T], mean over the three channels.

    Wang et al. 2004: Gaussian 11x11 window with sigma 1.5, K = (.01, .03), population covariance, range 1.
    Without a region it is scikit-image's `structural_similarity` with these settings (5 border pixels are
    left out). With one it is mSSIM by partial convolution, after DyCheck: every window takes its statistics
    from region pixels only (blurred z*m divided by blurred m), and the map is averaged over the region, so
    that nothing outside the region enters. NaN where the region of a frame is empty.
    """
    check_pair(result, truth, region)
    a, b = to_unit(result), to_unit(truth)
    if region is None:
        if min(a.shape[1:3]) < 11:
            raise ValueError(
                f"measure: SSIM needs frames of 11x11 pixels or more, got {a.shape[1]}x{a.shape[2]}"
            )
        values = [
            structural_similarity(
                x,
                y,
                data_range=1.0,
                channel_axis=-1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for x, y in beating(zip(a, b))
        ]
        return np.array(values, dtype=np.float64)
    inside = region.detach().cpu().numpy()
    return np.array(
        [ssim_map(x, y, m)[m].mean() if m.any() else np.nan for x, y, m in beating(zip(a, b, inside))],
        dtype=np.float64,
    )


def ssim_map(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the SSIM [H, W, 3] of two frames in [0, 1] from pixels of region [H, W] alone; 0 outside."""
    weight = region.astype(np.float64)[..., None]
    total = np.maximum(_blur(weight)[..., None], 1e-12)

    def local_mean(z: np.ndarray) -> np.ndarray:
        return _blur(z * weight) / total

    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a = np.maximum(local_mean(a * a) - mean_a**2, 0)
    var_b = np.maximum(local_mean(b * b) - mean_b**2, 0)
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = _K1**2, _K2**2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return np.asarray(score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)) * weight)


def _blur(z: np.ndarray) -> np.ndarray:
    # zero outside the frame: a pixel beyond the border counts like one outside the region
    return np.asarray(cv2.GaussianBlur(z, (11, 11), 1.5, borderType=cv2.BORDER_CONSTANT))


def ssim(result: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Return the mean over frames of `frame_ssim`."""
    return mean_over_frames(frame_ssim(result, truth, region))


def seam_ring(visible: Tensor, width: int = 16) -> Tensor:
    """Return the band [T, H, W] of `width` pixels around the boundaries of the holes, half on either side.

    A pixel belongs to it when the nearest pixel of the other kind is at most width / 2 away (Euclidean,
    between pixel centres). A frame without holes, or without visible pixels, has no boundary and an empty
    ring.
    """
    rings = []
    for seen in beating(visible.detach().cpu().numpy().astype(np.uint8)):
        if seen.min() == seen.max():
            rings.append(np.zeros(seen.shape, dtype=bool))
            continue
        to_hole = cv2.distanceTransform(seen, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        to_visible = cv2.distanceTransform(1 - seen, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        rings.append(np.maximum(to_hole, to_visible) <= width / 2)
    return torch.from_numpy(np.stack(rings)).to(visible.device)


def hole_share(visible: Tensor) -> float:
    """Return the share of all pixels [T, H, W] that the source did not see, 0...1."""
    return float((~visible).double().mean())


def coverage(known: Tensor) -> float:
    """Return the share of all pixels [T, H, W] that a comparison reached, 0...1."""
    return float(known.double().mean())


def sharpness(video: Tensor) -> float:
    """Return the mean variance of the Laplacian (cv2) of the luma in [0, 255]; noise raises it."""
    return float(np.mean([cv2.Laplacian(frame, cv2.CV_64F).var() for frame in to_grey(video)]))


def sharpness_ratio(result: Tensor, source: Tensor) -> float:
    """Return `sharpness` of the result divided by that of the source; NaN for a flat source.

    1 = as sharp as the source. Below: blurred. Well above: noise. The videos may differ in length, and in
    size only as far as their pixels show the world at a like scale.
    """
    reference = sharpness(source)
    return sharpness(result) / reference if reference > 0 else float("nan")


def hole_sharpness_ratio(result: Tensor, visible: Tensor) -> float:
    """Return the variance of the luma's Laplacian in holes over that on visible pixels.

    1 = holes are as detailed as what is known, near 0 = smeared or flat. A pixel counts when its eight
    neighbours are of its own kind, so that the seam itself is not taken for detail. NaN where every frame
    lacks either kind.
    """
    window = np.ones((3, 3), dtype=np.uint8)
    ratios = []
    seen_by_frame = visible.detach().cpu().numpy().astype(np.uint8)
    for frame, seen in beating(zip(to_grey(result), seen_by_frame)):
        detail = cv2.Laplacian(frame, cv2.CV_64F)
        known, hole = (detail[cv2.erode(kind, window) > 0] for kind in (seen, 1 - seen))
        ratios.append(hole.var() / known.var() if hole.size and known.size and known.var() > 0 else np.nan)
    return mean_over_frames(np.array(ratios))


RegionMetric = Callable[[Tensor, Tensor, Tensor | None], float]


def by_region(
    name: str, metric: RegionMetric, result: Tensor, truth: Tensor, visible: Tensor, seam_pixels: int = 16
) -> dict[str, float]:
    """Return `metric` overall, when visible, in holes and on the seam: {name, name_visible, ...}."""
    return {
        name: metric(result, truth, None),
        f"{name}_visible": metric(result, truth, visible),
        f"{name}_hole": metric(result, truth, ~visible),
        f"{name}_seam": metric(result, truth, seam_ring(visible, seam_pixels)),
    }
