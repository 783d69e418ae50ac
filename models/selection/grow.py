"""What a box or a point means in every frame, without a model: grown in one frame, then carried by motion.

In the prompt's frame the body is cut out of its surroundings (GrabCut, Rother et al. 2004, of OpenCV) on
colour, and on depth where it is known. From frame to frame the optical flow carries the mask, and a band
along its outline is cut again. OpenCV on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from recapture.conf.heartbeat import beat
from recapture.models.selection.prompt import Frames, NotFound, Prompt

LONG_SIDE = 416  # pixels; larger frames are shrunk to it before they are cut
BAND = 0.012  # of the longer side: how far from the carried outline it is cut again
SEED = 0.012  # of the longer side: radius of what a point certainly means
NEAR = 0.08  # of the depth of a point: what is that near belongs to the same body
STEP = 0.03  # of depth between neighbouring pixels above which a body ends
GROWN = 4  # times the area of the seeds that a region must have to be believed
ROOM = 0.3  # of the root of a region's area: how far beyond it the body may reach
AROUND = 0.06  # of the longer side of a bounding box: how far beyond it the body may reach
MOVES = 0.003  # of the longer side: residual motion of a point above which its body is taken to move
KEPT = 0.5  # a new cut must keep this share of the carried mask, and not exceed it by the inverse
_ROUNDS = 4  # of GrabCut in the prompt's frame


@dataclass(frozen=True)
class Look:
    """A frame as it is cut."""

    features: np.ndarray  # [h, w, 3] uint8
    grey: np.ndarray  # [h, w] uint8
    depth: np.ndarray | None  # [h, w] float32, NaN where unknown


@dataclass(frozen=True)
class GrowingSelector:
    """The embedded selector; the fields turn its parts off, to be measured (benchmarks/masks.md)."""

    refined: bool = True  # whether the outline is cut again in every frame
    deep: bool = True  # whether depth is looked at
    moving: bool = True  # whether a point's body is grown by motion

    def select(self, frames: Frames, prompt: Prompt) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (frame, mask [H,W] bool) of every frame once: from the prompt's on, then those before it.

        Raises NotFound for words, for a prompt outside the picture, and where nothing is left of the cut.
        """
        height, width = frames.rgb(prompt.frame).shape[:2]
        scale = min(1.0, LONG_SIDE / max(height, width))
        first = self._look(frames, prompt.frame, scale)
        mask = self._grown(frames, first, prompt, scale)
        if not mask.any():
            raise NotFound("nothing stands out there from its surroundings")
        yield prompt.frame, _enlarged(mask, height, width)
        ways = (range(prompt.frame + 1, len(frames)), range(prompt.frame - 1, -1, -1))
        for way in ways:
            before, carried = first, mask
            for number in way:
                beat()
                look = self._look(frames, number, scale)
                carried = self._carried(before, look, carried)
                yield number, _enlarged(carried, height, width)
                before = look

    def _look(self, frames: Frames, number: int, scale: float) -> Look:
        rgb = frames.rgb(number)
        depth = frames.depth(number) if self.deep else None
        if scale < 1:
            rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if depth is not None:
            depth = cv2.resize(depth, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.float32)
            depth[~np.isfinite(depth) | (depth <= 0)] = np.nan
            depth = None if np.isnan(depth).all() else depth
        return Look(_features(rgb, depth), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), depth)

    def _grown(self, frames: Frames, look: Look, prompt: Prompt, scale: float) -> np.ndarray:
        """Return the mask [h,w] of what the prompt means in its frame.

        Of points, what is around them is cut out first; then that and its bounding box, as a box would be.
        """
        seeds = _discs(prompt.points, scale, look)
        others = _discs(prompt.others, scale, look)
        labels = np.full(look.grey.shape, cv2.GC_BGD, dtype=np.uint8)
        if prompt.box is not None:
            labels[_box(prompt.box, scale, look.grey.shape)] = cv2.GC_PR_FGD
        else:
            region = self._around(frames, look, prompt, scale)
            reach = max(2 * _pixels(BAND, look), int(ROOM * region.sum() ** 0.5))
            labels[_dilated(region, reach)] = cv2.GC_PR_BGD
            labels[region] = cv2.GC_PR_FGD
            labels[seeds], labels[others] = cv2.GC_FGD, cv2.GC_BGD
            labels = _boxed(_cut(look, labels, _ROUNDS) | region | seeds)
        labels[seeds], labels[others] = cv2.GC_FGD, cv2.GC_BGD
        mask = _cut(look, labels, _ROUNDS)
        return _connected(mask, seeds) if prompt.points else mask

    def _around(self, frames: Frames, look: Look, prompt: Prompt, scale: float) -> np.ndarray:
        """Return what is connected to the points: by motion, else by depth, else by look."""
        seeds = _discs(prompt.points, scale, look)
        regions = []
        if self.moving and len(frames) > 1:
            other = prompt.frame + 1 if prompt.frame + 1 < len(frames) else prompt.frame - 1
            away = _residual(look, self._look(frames, other, scale))
            pace = np.median(away[seeds], axis=0)
            if np.linalg.norm(pace) > MOVES * max(look.grey.shape):
                regions.append(np.linalg.norm(away - pace, axis=-1) < 0.5 * np.linalg.norm(pace))
        regions += [_near(look, seeds), _alike(look, seeds)]
        for region in regions:
            found = _connected(_opened(region) | seeds, seeds)
            if found.sum() > GROWN * seeds.sum():
                break
        return found

    def _carried(self, before: Look, after: Look, mask: np.ndarray) -> np.ndarray:
        """Return a mask [h,w] of one frame in the next, whichever way the clip is gone through."""
        if not mask.any():
            return mask
        rows, columns = np.indices(mask.shape, dtype=np.float32)
        flow = _flow(after.grey, before.grey)
        places = columns + flow[..., 0], rows + flow[..., 1]
        moved = cv2.remap(mask.astype(np.float32), *places, cv2.INTER_LINEAR, borderValue=0) > 0.5
        if not self.refined or not moved.any():
            return moved
        reach = _pixels(BAND, after)
        labels = np.where(moved, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[~_dilated(moved, reach)] = cv2.GC_BGD
        inner = ~_dilated(~moved, reach)
        labels[inner if inner.any() else moved] = cv2.GC_FGD
        cut = _cut(after, labels, 1)
        alike = KEPT * moved.sum() < cut.sum() < moved.sum() / KEPT
        return cut if alike else moved


def _features(rgb: np.ndarray, depth: np.ndarray | None) -> np.ndarray:
    """Return what pixels are told apart by [h,w,3] uint8: colour, or the main axes of colour and depth."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    if depth is None:
        return np.asarray(lab)
    inverse = np.nan_to_num(1 / depth, nan=0.0)
    low, high = np.percentile(inverse, [1, 99])
    steps = 255 * np.clip((inverse - low) / max(1e-9, high - low), 0, 1)
    stacked = np.concatenate([lab.astype(np.float32), steps[..., None]], axis=-1).reshape(-1, 4)
    stacked -= stacked.mean(0)
    axes = np.linalg.eigh(stacked.T @ stacked)[1][:, :0:-1]
    found = stacked @ axes
    spread = np.percentile(np.abs(found), 99.5)
    return np.clip(127.5 + 127.5 * found / max(1e-6, spread), 0, 255).astype(np.uint8).reshape(rgb.shape)


def _cut(look: Look, labels: np.ndarray, rounds: int) -> np.ndarray:
    """Return the mask [h,w] of GrabCut, without both kinds of pixels what is probable; labels stay."""
    likely = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)
    if not likely.any() or likely.all():
        return likely
    rows, columns = (np.flatnonzero(likely.any(axis)) for axis in (1, 0))
    margin = 4 + max(rows[-1] - rows[0], columns[-1] - columns[0]) // 2
    part = (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )
    given = labels[part].copy()
    if not ((given == cv2.GC_BGD) | (given == cv2.GC_PR_BGD)).any():
        return likely
    cv2.setRNGSeed(0)  # GrabCut begins with k-means at random places
    picture = np.ascontiguousarray(look.features[part])
    cv2.grabCut(picture, given, None, np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros_like(likely)
    mask[part] = (given == cv2.GC_FGD) | (given == cv2.GC_PR_FGD)
    return mask


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None))


def _residual(look: Look, other: Look) -> np.ndarray:
    """Return the flow [h,w,2] to another frame without its median, which is the camera's."""
    flow = _flow(look.grey, other.grey)
    return flow - np.median(flow.reshape(-1, 2), axis=0)


def _alike(look: Look, seeds: np.ndarray) -> np.ndarray:
    """Return where features are like those of the seeds."""
    values = look.features[seeds].astype(np.float32)
    away = np.linalg.norm(look.features.astype(np.float32) - np.median(values, axis=0), axis=-1)
    return away < 20 + 2 * float(np.median(away[seeds]))


def _near(look: Look, seeds: np.ndarray) -> np.ndarray:
    """Return where depth is like that of the seeds; nowhere if it is unknown there."""
    known = look.depth is not None and bool(np.isfinite(look.depth[seeds]).any())
    if look.depth is None or not known:
        return np.zeros_like(seeds)
    near = np.abs(look.depth / float(np.nanmedian(look.depth[seeds])) - 1) < NEAR
    return near & ~_edges(look.depth)


def _edges(depth: np.ndarray) -> np.ndarray:
    wide = cv2.dilate(depth, np.ones((3, 3))), cv2.erode(depth, np.ones((3, 3)))
    return np.asarray(wide[0] / np.maximum(wide[1], 1e-9) > 1 + STEP) | np.isnan(depth)


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the parts of a mask that touch the seeds."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    touched = np.unique(labels[seeds & mask])
    return np.asarray(np.isin(labels, touched[touched > 0]))


def _opened(mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0)


def _dilated(mask: np.ndarray, reach: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _pixels(share: float, look: Look) -> int:
    return max(2, round(share * max(look.grey.shape)))


def _box(box: tuple[float, float, float, float], scale: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    x, y, width, height = (value * scale for value in box)
    return (
        slice(max(0, int(y)), min(shape[0], int(np.ceil(y + height)))),
        slice(max(0, int(x)), min(shape[1], int(np.ceil(x + width)))),
    )


def _boxed(mask: np.ndarray) -> np.ndarray:
    """Return labels [h,w] in which the bounding box of a mask, and a little around it, may be meant."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    margin = max(2, int(AROUND * max(len(rows), len(columns))))
    labels = np.full(mask.shape, cv2.GC_BGD, dtype=np.uint8)
    above, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    labels[above : rows[-1] + margin + 1, left : columns[-1] + margin + 1] = cv2.GC_PR_FGD
    return labels


def _discs(points: tuple[tuple[float, float], ...], scale: float, look: Look) -> np.ndarray:
    marked = np.zeros(look.grey.shape, dtype=np.uint8)
    for x, y in points:
        cv2.circle(marked, (int(x * scale), int(y * scale)), max(1, _pixels(SEED, look) // 2), 1, -1)
    return marked > 0


def _enlarged(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    if mask.shape == (height, width):
        return mask
    return np.asarray(
        cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    )
