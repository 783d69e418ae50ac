"""Detail of single frames: the variance of the Laplacian of their luma, by OpenCV."""

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.models.metrics.image import frame_parts, mean_over_frames
from recapture.models.metrics.threads import over_threads

_REC_601 = (0.299, 0.587, 0.114)


def to_grey(video: Tensor) -> np.ndarray:
    """Convert [..., 3, H, W] in [-1, 1] to uint8 [..., H, W], Rec. 601 luma."""
    if video.ndim == 3:
        return np.asarray(to_grey(video[None])[0])
    found = []
    for part in frame_parts(len(video), video.device):
        unit = video[part].detach().to(torch.float64, copy=True).clamp_(-1, 1).add_(1).div_(2)
        red, green, blue = unit.unbind(-3)
        luma = red.mul_(_REC_601[0]).add_(green.mul_(_REC_601[1])).add_(blue.mul_(_REC_601[2]))
        found.append(luma.mul_(255).round_().to(torch.uint8))
    return np.asarray(torch.cat(found).cpu().numpy())


def detail(grey: np.ndarray) -> np.ndarray:
    """Return each frame's variance of the Laplacian (cv2), [T], of luma frames [T, H, W] uint8."""
    return np.array(over_threads(lambda frame: _variance(_laplacian(frame)), list(grey)))


def sharpness(video: Tensor) -> float:
    """Return the mean variance of the Laplacian (cv2) of the luma in [0, 255]; noise raises it."""
    return float(detail(to_grey(video)).mean())


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
    return mean_over_frames(frame_hole_detail(to_grey(result), *inner_masks(visible)))


def inner_masks(visible: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return which visible and which hole pixels have only neighbours of their kind, uint8 [T, H, W]."""
    seen = visible.detach().cpu().numpy().view(np.uint8)
    window = np.ones((3, 3), dtype=np.uint8)
    eroded = over_threads(lambda kind: np.asarray(cv2.erode(kind, window)), [*seen, *(1 - seen)])
    return np.stack(eroded[: len(seen)]), np.stack(eroded[len(seen) :])


def frame_hole_detail(grey: np.ndarray, known: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return each frame's `hole_sharpness_ratio` [T]; NaN for a frame that lacks a kind."""

    def ratio(of_frame: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
        frame, seen, unseen = of_frame
        if not seen.any() or not unseen.any():
            return float("nan")
        laplacian = _laplacian(frame)
        reference = _variance(laplacian, seen)
        return _variance(laplacian, unseen) / reference if reference > 0 else float("nan")

    return np.array(over_threads(ratio, list(zip(grey, known, hole))))


def _laplacian(frame: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.Laplacian(frame, cv2.CV_16S))


def _variance(values: np.ndarray, where: np.ndarray | None = None) -> float:
    return float(cv2.meanStdDev(values, mask=where)[1][0, 0] ** 2)
