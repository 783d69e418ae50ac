"""Temporal warp error by optical flow. OpenCV on CPU threads: it has no flow of this kind for GPUs."""

from itertools import pairwise

import cv2
import numpy as np
from torch import Tensor

from recapture.models.metrics.luma import to_grey
from recapture.models.metrics.threads import over_threads


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow [H, W, 2] in pixels (x, y) between luma frames [H, W] uint8 (DIS, medium).

    OpenCV's object is made anew for every pair: small frames make it choose coarser settings, which it keeps.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(first, second, None))


class WarpErrors:
    """The warp errors of a video that is given part by part; the pair across two parts counts too."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # luma and colours of the last frame
        self._errors: list[float] = []
        self._lengths: list[float] = []

    def add(self, grey: np.ndarray, video: Tensor) -> None:
        """Take the next frames: luma [t, H, W] uint8 and colours [t, 3, H, W] in [-1, 1]."""
        colours = video.detach().float().cpu().numpy()
        frames = [*([] if self._last is None else [self._last]), *zip(grey, colours)]
        found = over_threads(_pair_error, [(*one, *two) for one, two in pairwise(frames)])
        self._errors += [error for error, _ in found if error == error]  # NaN: no pixel was trusted
        self._lengths += [length for _, length in found]
        self._last = grey[-1].copy(), colours[-1].copy()

    def scores(self) -> dict[str, float]:
        """Return what `warp_error` returns."""
        if not self._errors:
            return {}
        return {"warp_error": float(np.mean(self._errors)), "flow_px": float(np.mean(self._lengths))}


def warp_error(video: Tensor) -> dict[str, float]:
    """Return the temporal warp error with the flow's magnitude, to be read together and with sharpness.

    After Lai et al. 2018: E = sum M |V_t - w(V_{t+1}, f)|^2 / sum M in [0, 1], squared error meaned over
    channels; f = DIS flow t -> t+1, M = pixels that pass the forward-backward check |f + b|^2 < .01 (|f|^2
    + |b|^2) + .5 and land inside the frame; mean over pairs. `flow_px` is the mean length of f over all
    pixels. It rewards blur and standing still, so it never judges a method alone. Nothing for a single
    frame.
    """
    errors = WarpErrors()
    errors.add(to_grey(video), video)
    return errors.scores()


def _pair_error(pair: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return the warp error of two frames (NaN where no pixel is trusted) and the mean length of the flow."""
    grey, colour, next_grey, next_colour = pair
    forward, backward = optical_flow(grey, next_grey), optical_flow(next_grey, grey)
    height, width = grey.shape
    fx, fy = cv2.split(forward)
    u, v = fx + np.arange(width, dtype=np.float32), fy + np.arange(height, dtype=np.float32)[:, None]
    # looked up as cv2.remap does, in 1/32 pixels; prepared once for the five lookups
    whole, parts = cv2.convertMaps(u, v, cv2.CV_16SC2)
    bx, by = cv2.split(cv2.remap(backward, whole, parts, cv2.INTER_LINEAR))
    there, back = fx * fx + fy * fy, bx * bx + by * by
    trusted = (fx + bx) ** 2 + (fy + by) ** 2 < 0.01 * (there + back) + 0.5
    trusted &= (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    length = float(np.sqrt(there).mean(dtype=np.float64))
    count = np.count_nonzero(trusted)
    if not count:
        return float("nan"), length
    error = np.zeros_like(u)
    for here, beyond in zip(colour, next_colour):
        warped = cv2.remap(beyond.clip(-1, 1), whole, parts, cv2.INTER_LINEAR)
        error += (here.clip(-1, 1) - warped) ** 2
    return float(error[trusted].sum(dtype=np.float64)) / (12 * count), length
