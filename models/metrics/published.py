"""Frame metrics exactly as published evaluation code computes them, where that differs from image.py.

Videos are [T, 3, H, W] in [-1, 1]; numbers are computed on the values mapped to [0, 1], in float64.
"""

from __future__ import annotations

import cv2
import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.models.metrics.image import check_pair
from recapture.models.metrics.perceptual import Lpips

_SIDE, _SIGMA = 11, 1.5  # of DyCheck's window
_C1, _C2 = 0.01**2, 0.03**2


def frame_box_ssim(result: Tensor, truth: Tensor) -> np.ndarray:
    """Return the SSIM of each frame [T] as GCD computes it (arXiv 2405.14868, scripts/test.py).

    scikit-image's defaults: a uniform window of 7x7, sample covariance, mean over the three channels.
    """
    check_pair(result, truth)
    pairs = zip(_unit(result), _unit(truth))
    return np.array([structural_similarity(a, b, data_range=1.0, channel_axis=0) for a, b in beating(pairs)])


def frame_mssim(result: Tensor, truth: Tensor, seen: Tensor) -> np.ndarray:
    """Return DyCheck's mSSIM of each frame [T] (arXiv 2210.13445, dycheck/core/metrics/image.py).

    seen: [T, H, W] bool, the co-visible pixels. A Gaussian 11x11 window, along x and then along y, is a
    partial convolution: the sum over seen pixels times 11 / their number in the window. The map of all
    windows inside the frame is averaged, those without a seen pixel included, which count as 1. (The windows
    of `image.frame_ssim` are divided by their weight, and its mean is over the region.) NaN where nothing is
    seen.
    """
    check_pair(result, truth, seen)
    values = []
    for a, b, inside in beating(zip(_unit(result), _unit(truth), seen.cpu().numpy())):
        values.append(_mssim(a, b, inside.astype(np.float64)) if inside.any() else float("nan"))
    return np.array(values)


def frame_mlpips(network: Lpips, result: Tensor, truth: Tensor, seen: Tensor) -> np.ndarray:
    """Return DyCheck's mLPIPS of each frame [T] (as `frame_mssim`): LPIPS per pixel, mean over the seen ones.

    Both pictures are black outside seen [T, H, W]. NaN where nothing is seen.
    """
    check_pair(result, truth, seen)
    values = []
    for a, b, inside in beating(zip(result, truth, seen)):
        kept = [(((x.float() + 1) / 2 * inside) * 2 - 1)[None] for x in (a, b)]
        distance = network.maps(*kept)[0]
        values.append(float(distance[inside.cpu()].mean()) if bool(inside.any()) else float("nan"))
    return np.array(values)


def _unit(video: Tensor) -> np.ndarray:
    return np.asarray(((video.detach().double() + 1) / 2).clamp(0, 1).cpu().numpy())


def _mssim(a: np.ndarray, b: np.ndarray, seen: np.ndarray) -> float:
    """Return mSSIM of two pictures [3, H, W] with weights [H, W]."""
    mean_a, mean_b = _blurred(a, seen), _blurred(b, seen)
    variance_a = np.maximum(0, _blurred(a * a, seen) - mean_a**2)
    variance_b = np.maximum(0, _blurred(b * b, seen) - mean_b**2)
    covariance = _blurred(a * b, seen) - mean_a * mean_b
    bound = np.sqrt(variance_a * variance_b)
    covariance = covariance.clip(-bound, bound)
    similar = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((similar / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))).mean())


def _blurred(planes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return planes [3, H, W] under the partial convolution, [3, H - 10, W - 10]."""
    once, kept = zip(*(_partial(plane, seen, (1, _SIDE)) for plane in planes))
    return np.stack([_partial(plane, kept[0], (_SIDE, 1))[0] for plane in once])


def _partial(plane: np.ndarray, seen: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a plane under half of the window, inside the frame, and 1 where a seen pixel was in it."""
    window = cv2.getGaussianKernel(_SIDE, _SIGMA, cv2.CV_64F).reshape(shape)
    down, right = shape[0] // 2, shape[1] // 2
    inner = slice(down, plane.shape[0] - down), slice(right, plane.shape[1] - right)
    total = cv2.filter2D(plane * seen, cv2.CV_64F, window, borderType=cv2.BORDER_CONSTANT)[inner]
    number = cv2.filter2D(seen, cv2.CV_64F, np.ones(shape), borderType=cv2.BORDER_CONSTANT)[inner].round()
    based = number > 0
    return np.where(based, total * _SIDE / np.maximum(number, 1), 0), based.astype(np.float64)
