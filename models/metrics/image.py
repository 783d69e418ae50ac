"""Fidelity of single frames: PSNR and SSIM, over whole frames or over a region of them.

Videos are float tensors [T, 3, H, W] in [-1, 1]; numbers are computed on the values mapped to [0, 1].
A region is a bool tensor [T, H, W]. A frame whose region is empty has no value (NaN) and is left out of the
mean over frames; a clip whose region is empty in every frame yields NaN, which the suite omits.

Pixels are float32, on the videos' device: centred on mid-grey, so that variances lose no digits. Sums over
pixels are float64.
"""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from recapture.conf.heartbeat import beating

PSNR_LIMIT = 100.0  # dB, what two identical frames score: an infinite value would swallow every mean
_K1, _K2 = 0.01, 0.03
_RADIUS, _SIGMA = 5, 1.5  # of SSIM's window
_AT_ONCE = 8  # frames at once on an accelerator; on a CPU one, which stays in its cache


def frame_parts(frames: int, device: torch.device) -> Iterator[slice]:
    """Cut frames into runs that are computed at once, and beat for each; no result depends on it."""
    step = 1 if device.type == "cpu" else _AT_ONCE
    for start in beating(range(0, frames, step)):
        yield slice(start, start + step)


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
    return psnr_of_regions(result, truth, [region])[0]


def psnr_of_regions(result: Tensor, truth: Tensor, regions: Sequence[Tensor | None]) -> list[np.ndarray]:
    """Return `frame_psnr` for each of several regions; the errors are computed once."""
    for region in regions:
        check_pair(result, truth, region)
    sums: list[list[Tensor]] = [[] for _ in regions]
    for part in frame_parts(len(result), result.device):
        error = _centred(result[part]).sub_(_centred(truth[part])).square_().mean(1)
        for found, region in zip(sums, regions):
            kept = error if region is None else error * region[part]
            found.append(kept.sum((1, 2), dtype=torch.float64))
    return [_decibel(torch.cat(found), result, region) for found, region in zip(sums, regions)]


def _decibel(error: Tensor, result: Tensor, region: Tensor | None) -> np.ndarray:
    """Return PSNR [T] from each frame's sum of squared errors; NaN for an empty region."""
    whole = result.shape[2] * result.shape[3]
    pixels = torch.full_like(error, whole) if region is None else region.sum((1, 2)).double()
    mse = (error / pixels).clamp_min(1e-12)  # NaN, where 0 / 0, stays
    return np.asarray((-10 * mse.log10()).clamp_max(PSNR_LIMIT).cpu().numpy())


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
    if region is None:
        _check_window(result)
    found = []
    for part in frame_parts(len(result), result.device):
        a, b = _centred(result[part]), _centred(truth[part])
        weight = None if region is None else region[part].to(a.dtype)
        sums = WindowSums.of(a, b, weight)
        found.append(sums.whole_mean() if region is None else sums.mean_over(region[part]))
    return np.asarray(torch.cat(found).cpu().numpy())


def ssim_of_regions(result: Tensor, truth: Tensor, visible: Tensor, seam: Tensor) -> list[np.ndarray]:
    """Return `frame_ssim` overall, on visible pixels, in holes and on the seam, in this order.

    Sums over a window are linear in the weights: those in holes are the overall ones less the visible ones.
    """
    for region in (visible, seam):
        check_pair(result, truth, region)
    _check_window(result)
    found: list[list[Tensor]] = [[], [], [], []]
    for part in frame_parts(len(result), result.device):
        a, b = _centred(result[part]), _centred(truth[part])
        overall = WindowSums.of(a, b, None)
        seen = WindowSums.of(a, b, visible[part].to(a.dtype))
        ring = WindowSums.of(a, b, seam[part].to(a.dtype))
        hole = WindowSums(overall.sums - seen.sums, overall.weight - seen.weight)
        found[0].append(overall.whole_mean())
        found[1].append(seen.mean_over(visible[part]))
        found[2].append(hole.mean_over(~visible[part]))
        found[3].append(ring.mean_over(seam[part]))
    return [np.asarray(torch.cat(values).cpu().numpy()) for values in found]


class WindowSums:
    """Weighted sums over SSIM's window around each pixel of two frames."""

    def __init__(self, sums: Tensor, weight: Tensor) -> None:
        self.sums = sums  # [5, n, 3, H, W] of a, b, a^2, b^2, ab
        self.weight = weight  # [n, 1, H, W]

    @classmethod
    def of(cls, a: Tensor, b: Tensor, weight: Tensor | None) -> "WindowSums":
        """Return the sums of two videos [n, 3, H, W] with weights [n, H, W] (None: 1 within the frame)."""
        n, _, height, width = a.shape
        if weight is None:
            moments = torch.stack([a, b, a * a, b * b, a * b])
            blurred = blur(a.new_ones(1, height, width)).expand(n, height, width)
        else:
            kept, other = a * weight[:, None], b * weight[:, None]
            moments = torch.stack([kept, other, kept * a, other * b, kept * b])
            blurred = blur(weight)
        return cls(blur(moments.flatten(0, 2)).view(5, *a.shape), blurred[:, None])

    def whole_mean(self) -> Tensor:
        """Return each frame's mean [n] over the pixels whose window is inside the frame."""
        inner = (..., slice(_RADIUS, -_RADIUS or None), slice(_RADIUS, -_RADIUS or None))
        return _ssim(self.sums[inner] / self.weight[inner]).mean((1, 2, 3), dtype=torch.float64)

    def mean_over(self, region: Tensor) -> Tensor:
        """Return each frame's mean [n] over a region [n, H, W], whose pixels have weight; NaN if empty."""
        found = []
        for sums, weight, inside in zip(self.sums.unbind(1), self.weight, region):
            picked = inside.flatten().nonzero()[:, 0]
            kept = sums.flatten(2)[..., picked] / weight.flatten()[picked]
            found.append(_ssim(kept).mean(dtype=torch.float64))
        return torch.stack(found)


def _ssim(moments: Tensor) -> Tensor:
    """Return SSIM from the windows' means of a, b, a^2, b^2, ab [5, ...], all less mid-grey."""
    mean_a, mean_b, square_a, square_b, product = moments
    c1, c2 = _K1**2, _K2**2
    variance = (square_a - mean_a * mean_a).clamp_min_(0) + (square_b - mean_b * mean_b).clamp_min_(0)
    covariance = product - mean_a * mean_b
    light_a, light_b = mean_a + 0.5, mean_b + 0.5
    similar = (2 * light_a * light_b).add_(c1).mul_(covariance.mul_(2).add_(c2))
    return similar.div_((light_a.square_() + light_b.square_()).add_(c1).mul_(variance.add_(c2)))


def _centred(video: Tensor) -> Tensor:
    """Return [-1, 1] as float32 [-0.5, 0.5]: [0, 1] less mid-grey."""
    return video.detach().float().clamp(-1, 1).div_(2)


def _check_window(result: Tensor) -> None:
    if min(result.shape[2:]) < 2 * _RADIUS + 1:
        size = f"{result.shape[2]}x{result.shape[3]}"
        raise ValueError(f"measure: SSIM needs frames of 11x11 pixels or more, got {size}")


def blur(planes: Tensor) -> Tensor:
    """Return float32 planes [n, H, W] under SSIM's Gaussian window; zero outside the frame.

    A pixel beyond the border counts like one outside the region. OpenCV on a CPU: 20 times as fast as torch.
    """
    side = 2 * _RADIUS + 1
    if planes.device.type == "cpu":
        blurred = np.empty(planes.shape, dtype=np.float32)
        for plane, target in zip(planes.contiguous().numpy(), blurred):
            cv2.GaussianBlur(plane, (side, side), _SIGMA, dst=target, borderType=cv2.BORDER_CONSTANT)
        return torch.from_numpy(blurred)
    window = torch.from_numpy(cv2.getGaussianKernel(side, _SIGMA, cv2.CV_32F)[:, 0]).to(planes)
    down = conv2d(planes[:, None], window.view(1, 1, side, 1), padding=(_RADIUS, 0))
    return conv2d(down, window.view(1, 1, 1, side), padding=(0, _RADIUS))[:, 0]


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


RegionMetric = Callable[[Tensor, Tensor, Tensor | None], float]


def by_region(
    name: str, metric: RegionMetric, result: Tensor, truth: Tensor, visible: Tensor, seam_pixels: int = 16
) -> dict[str, float]:
    """Return `metric` overall, when visible, in holes and on the seam: {name, name_visible, ...}."""
    regions = {"": None, "_visible": visible, "_hole": ~visible, "_seam": seam_ring(visible, seam_pixels)}
    return {f"{name}{region}": metric(result, truth, inside) for region, inside in regions.items()}
