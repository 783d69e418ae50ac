"""Where a camera of unknown poses stands still, measured on the picture frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

LONG_SIDE = 640  # pixels; larger frames are shrunk to it before they are measured
BLOCK = 16  # pixels, side of the blocks that are compared; half of it in frames below half of LONG_SIDE
REACH = 0.3  # pixels of the measured frame by which a block of a still camera may be displaced
CERTAINTY = 0.1  # pixels, standard deviation of a block's displacement above which it has no vote
UNLIKE = 0.2  # of a block's variance: what displacement and exposure may leave unexplained
STILL_SHARE = 0.5  # of the votes, over the whole frame and along its border
FEWEST = 8  # votes; fewer decide nothing


class StillStretches:
    """Numbers the stretches of a clip within which the camera stands still, one frame after the other.

    A frame belongs to a stretch if it stands still against the stretch's first frame: so a slow drift ends a
    stretch as soon as it exceeds REACH. A frame that moved begins a stretch of its own; one that is back at
    the longest stretch so far, for example after somebody covered the lens, joins that again. Memory and time
    per frame do not depend on the length of the clip.
    """

    def __init__(self) -> None:
        self.groups: list[int] = []  # of each frame
        self.still_shares: list[float] = []  # of each frame against the first one of its stretch
        self._stretches: list[_Stretch] = []  # the longest and the current one
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 [H, W, 3], without padding."""
        measured = Measured.of(frame)
        for stretch in reversed(self._stretches):
            share = still_share(stretch.first, measured)
            if share >= STILL_SHARE:
                break
        else:
            stretch, share = _Stretch(self._count, measured), 1.0
            self._count += 1
            longest = max(self._stretches, key=lambda one: one.frames, default=None)
            self._stretches = [stretch] if longest is None else [longest, stretch]
        stretch.frames += 1
        self.groups.append(stretch.number)
        self.still_shares.append(share)


@dataclass
class _Stretch:
    number: int
    first: Measured
    frames: int = 0


@dataclass(frozen=True)
class Measured:
    """A frame as it is compared: smoothed, in blocks."""

    blocks: np.ndarray  # [rows, columns, pixels] float32 grey levels
    smooth: np.ndarray  # [h, w] float32
    noise: float  # grey levels, standard deviation of a pixel before smoothing

    @classmethod
    def of(cls, frame: np.ndarray) -> Measured:
        """Measure a frame, uint8 [H, W, 3]."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        factor = LONG_SIDE / max(grey.shape)
        if factor < 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(grey.astype(np.float32), (5, 5), 1.0)
        return cls(_blocks(smooth), smooth, _noise(grey))

    @property
    def pixels(self) -> int:
        """Return how many pixels a block has."""
        return int(self.blocks.shape[2])

    @cached_property
    def changes(self) -> np.ndarray:
        """Return [rows, columns, 3, pixels]: what one pixel to the right, down, and contrast add."""
        slopes = [cv2.Sobel(self.smooth, cv2.CV_32F, *axes, scale=-1 / 8) for axes in ((1, 0), (0, 1))]
        return np.stack([*map(_blocks, slopes), self.blocks], axis=2)

    @cached_property
    def centred(self) -> np.ndarray:
        """Return `changes` without each block's mean, which exposure explains too."""
        return _without_mean(self.changes)

    @cached_property
    def products(self) -> np.ndarray:
        """Return [rows, columns, 3, 3], the products of `centred`; a little is added to invert flat ones."""
        return _products(self.centred) + 1e-3 * np.eye(3)

    @cached_property
    def steepest(self) -> np.ndarray:
        """Return [rows, columns], the larger eigenvalue of the products of the slopes, means included."""
        return np.asarray(np.linalg.eigvalsh(_products(self.changes[..., :2, :]))[..., 1])


def still_share(first: Measured, later: Measured) -> float:
    """Return the share of the blocks that stand still between two frames, 0...1; 0 with fewer than FEWEST.

    A block that became something else counts half: a thing that moves changes two places, where it was and
    where it is. The smaller share is taken of the whole frame and of its border: where the camera follows
    something, the border is what moves.
    """
    if first.smooth.shape != later.smooth.shape or not first.blocks.size:
        return 0.0
    votes, explained, near = _displaced(first, later)
    still = np.where(votes, explained & near, _unchanged(first, later))
    weight = np.where(votes & ~explained, 0.5, 1.0) * (votes | still)
    border = np.ones(votes.shape, dtype=bool)
    rows, columns = (max(1, side // 10) for side in votes.shape)
    border[rows : votes.shape[0] - rows, columns : votes.shape[1] - columns] = False
    shares = [
        still[part].sum() / weight[part].sum()
        for part in (np.ones_like(border), border)
        if np.count_nonzero(weight[part]) >= FEWEST
    ]
    return float(min(shares, default=0.0))


def _displaced(first: Measured, later: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which blocks [rows, columns] have a vote, are explained, and moved by at most REACH.

    The difference of a block is explained, by least squares, as a displacement and a change of exposure and
    contrast (Lucas and Kanade, 1981), if hardly anything else is left of it. A block votes where its texture,
    against the frame's noise, determines the displacement along at least one direction to CERTAINTY pixels;
    other directions are left out.
    """
    difference = _without_mean(later.blocks - first.blocks)
    found = np.einsum("rcap,rcp->rca", first.centred, difference, optimize=True).astype(np.float64)
    products = first.products
    moved = np.linalg.solve(products, found[..., None])[..., 0]
    left = _energy(difference) - (moved * found).sum(-1)
    # the products of the displacement, without what a change of contrast explains
    side = products[..., :2, 2:]
    shift = products[..., :2, :2] - side * side.swapaxes(-1, -2) / products[..., 2:, 2:]
    strength, directions = np.linalg.eigh(shift)
    noise = max(first.noise, later.noise)
    determined = strength >= 2 * (noise / CERTAINTY) ** 2
    along = np.abs(np.einsum("rcab,rca->rcb", directions, moved[..., :2]))
    explained = left <= first.pixels * noise**2 + UNLIKE * _energy(first.centred[..., 2, :])
    return np.asarray(determined.any(-1)), explained, ~(determined & (along > REACH)).any(-1)


def _unchanged(first: Measured, later: Measured) -> np.ndarray:
    """Return which blocks [rows, columns] changed less than a displacement of REACH would change them.

    Of a smooth shade, whose displacement looks like a change of exposure, this alone can be told.
    """
    noise = max(first.noise, later.noise)
    difference = _energy(later.blocks - first.blocks)
    allowed = 2 * first.pixels * noise**2 / (4 * np.pi)  # smoothing leaves 1 / 4 pi of the noise's variance
    steep = first.steepest >= 2 * (noise / CERTAINTY) ** 2
    return np.asarray(steep & (difference <= allowed + REACH**2 * first.steepest))


def _blocks(image: np.ndarray) -> np.ndarray:
    """Cut [h, w] into [rows, columns, pixels] of each block; what is left over right and below is dropped."""
    block = BLOCK if max(image.shape) >= LONG_SIDE / 2 else BLOCK // 2
    rows, columns = (side // block for side in image.shape)
    cut = image[: rows * block, : columns * block].reshape(rows, block, columns, block).swapaxes(1, 2)
    return np.ascontiguousarray(cut).reshape(rows, columns, block**2)


def _without_mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values - values.mean(-1, keepdims=True))


def _products(values: np.ndarray) -> np.ndarray:
    """Return the inner products [..., n, n] float64 of values [..., n, p]."""
    return np.asarray((values @ values.swapaxes(-1, -2)).astype(np.float64))


def _energy(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("...p,...p->...", values, values).astype(np.float64))


def _noise(grey: np.ndarray) -> float:
    """Return the standard deviation of the noise of [h, w] uint8, at least 0.5 grey levels.

    The median of what is left by a filter that removes every plane and edge along an axis. Source: J.
    Immerkaer, Fast Noise Variance Estimation, 1996, with the median in place of the mean.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    left = np.abs(cv2.filter2D(grey, cv2.CV_16S, kernel)[1:-1, 1:-1])
    return max(0.5, float(np.median(left)) / (6 * 0.6745)) if left.size else 0.5
