"""Detail of single frames: the variance of the Laplacian of their luma, by OpenCV."""

from collections.abc import Sequence

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
    found = torch.empty(len(video), *video.shape[2:], dtype=torch.uint8, device=video.device)
    for part in frame_parts(len(video), video.device):
        red, green, blue = video[part].detach().float().clamp(-1, 1).unbind(1)
        luma = red.double().mul_(127.5 * _REC_601[0])
        luma.add_(green, alpha=127.5 * _REC_601[1]).add_(blue, alpha=127.5 * _REC_601[2])
        found[part] = luma.add_(127.5 - 1e-9).round_()  # the grey of holes, 127.5, is always 127
    return np.asarray(found.cpu().numpy())


def to_colours(video: Tensor) -> np.ndarray:
    """Convert [T, 3, H, W] to float32 planes in host memory, cut to [-1, 1]; no copy where none is needed."""
    planes = video.detach().float().contiguous()
    lowest, highest = planes.aminmax()
    if float(lowest) < -1 or float(highest) > 1:
        planes = planes.clamp(-1, 1)
    if planes.device.type != "cuda":
        return np.asarray(planes.cpu().numpy())
    host = torch.empty(planes.shape, pin_memory=True)  # to which copies are several times as fast
    return np.asarray(host.copy_(planes).numpy())


def detail(grey: Sequence[np.ndarray]) -> np.ndarray:
    """Return each frame's variance of the Laplacian (cv2), [T], of luma frames [H, W] uint8."""
    return np.array(over_threads(lambda frame: _variance(_laplacian(frame)), list(grey)))


def sharpness(video: Tensor) -> float:
    """Return the mean variance of the Laplacian (cv2) of the luma in [0, 255]; noise raises it."""
    return float(detail(list(to_grey(video))).mean())


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
    return mean_over_frames(frame_hole_detail(to_grey(result), *inner_masks(visible.detach().cpu().numpy())))


def inner_masks(visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which visible [T, H, W] and which hole pixels have only neighbours of their kind, uint8."""
    seen = visible.view(np.uint8)
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
