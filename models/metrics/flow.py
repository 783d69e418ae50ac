"""Temporal warp error by optical flow. OpenCV on CPU threads: it has no flow of this kind for GPUs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise

import cv2
import numpy as np
from torch import Tensor

from recapture.models.metrics.luma import to_colours, to_grey
from recapture.models.metrics.memo import Memo
from recapture.models.metrics.threads import over_threads

_KEPT = 1024  # pairs of frames of sources whose two numbers are kept


@dataclass(frozen=True)
class Frame:
    """What a frame's warp error is computed from."""

    grey: np.ndarray  # [H, W] uint8, the luma of `colours`
    colours: np.ndarray  # [3, H, W] float32 in [-1, 1]

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(repr(self.colours.shape).encode() + self.colours.tobytes()).digest()


_kept: Memo[tuple[float, float]] = Memo(_KEPT)


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow [H, W, 2] in pixels (x, y) between luma frames [H, W] uint8 (DIS, medium).

    OpenCV's object is made anew for every pair: small frames make it choose coarser settings, which it keeps.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(first, second, None))


class WarpErrors:
    """The warp errors of a video that is given part by part; the pair across two parts counts too."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._errors: list[float] = []
        self._lengths: list[float] = []

    def pairs(self, grey: np.ndarray, colours: np.ndarray) -> list[tuple[Frame, Frame]]:
        """Return the pairs that the next frames add: luma [t, H, W] uint8 and colours [t, 3, H, W]."""
        frames = [*([] if self._last is None else [self._last]), *map(Frame, grey, colours)]
        self._last = Frame(grey[-1].copy(), colours[-1].copy())
        return list(pairwise(frames))

    def add(self, found: Sequence[tuple[float, float]]) -> None:
        """Take what `pair_errors` returns of the pairs."""
        self._errors += [error for error, _ in found if error == error]  # NaN: no pixel was trusted
        self._lengths += [length for _, length in found]

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
    errors.add(pair_errors({"": errors.pairs(to_grey(video), to_colours(video))})[""])
    return errors.scores()


def pair_errors(
    pairs: Mapping[str, Sequence[tuple[Frame, Frame]]], source: str | None = None
) -> dict[str, list[tuple[float, float]]]:
    """Return warp error (NaN where no pixel is trusted) and mean flow length of the pairs of several videos.

    source: which of the videos is the source, that other calls look at too. What is found of it is kept.
    """
    given = [(name == source, *pair) for name, of_video in pairs.items() for pair in of_video]
    found = iter(over_threads(lambda of: (_kept_error if of[0] else _pair_error)(*of[1:]), given))
    return {name: list(islice(found, len(of_video))) for name, of_video in pairs.items()}


def _kept_error(one: Frame, two: Frame) -> tuple[float, float]:
    """Return `_pair_error` of two frames, and keep it for the next call."""
    key = one.digest, two.digest
    found = _kept.get(key)
    if found is None:
        found = _pair_error(one, two)
        _kept.put(key, found)
    return found


def _pair_error(one: Frame, two: Frame) -> tuple[float, float]:
    """Return the warp error of two frames (NaN where no pixel is trusted) and the mean length of the flow."""
    forward, backward = optical_flow(one.grey, two.grey), optical_flow(two.grey, one.grey)
    height, width = one.grey.shape
    fx, fy = cv2.split(forward)
    u, v = fx + np.arange(width, dtype=np.float32), fy + np.arange(height, dtype=np.float32)[:, None]
    bx, by = (cv2.remap(part, u, v, cv2.INTER_LINEAR) for part in cv2.split(backward))
    there = fx * fx + fy * fy
    limit = 0.01 * (there + (bx * bx + by * by)) + 0.5
    fx += bx
    fy += by
    trusted = fx * fx + fy * fy < limit
    trusted &= (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    length = float(np.sqrt(there).mean(dtype=np.float64))
    count = np.count_nonzero(trusted)
    if not count:
        return float("nan"), length
    error = 0.0
    for here, beyond in zip(one.colours, two.colours):
        warped = cv2.remap(beyond, u, v, cv2.INTER_LINEAR)
        error += float(cv2.norm(here, warped, cv2.NORM_L2SQR, trusted.view(np.uint8)))
    return error / (12 * count), length
