"""What moves in a clip, measured on its pictures: regions with a colour, an outline and a motion. OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

LONG_SIDE = 192  # pixels; frames are shrunk to it before they are measured
REACH = 0.004  # of the longer side per pair of frames: residual motion above it belongs to a moving body
CAMERA_REACH = 0.004  # of the longer side: how far the median pixel moves under a moving camera
SMALLEST, LARGEST = 0.002, 0.5  # share of the picture that a region may have
MOST = 4  # regions, the largest ones


@dataclass(frozen=True)
class Region:
    """A body that moves: its colour, its outline in the picture and how it moves.

    Lengths are shares of the longer side of the picture, motions are per pair of frames.
    """

    share: float  # of the picture
    colour: tuple[float, float, float]  # hue in degrees, saturation and value 0 to 1
    fill: float  # share of its upright bounding box that it covers
    aspect: float  # height over width of that box
    across: float  # motion to the right
    down: float
    growth: float  # relative change of its size; above 0 it comes closer


@dataclass(frozen=True)
class Seen:
    """What was measured on a clip: its regions, the largest first, and whether the camera moves."""

    regions: tuple[Region, ...]
    camera_moves: bool
    textures: tuple[float, float]  # median contrast of small patches of the upper and lower half, 0 to 1


def look_at_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Seen:
    """Measure pairs of neighbouring frames [H,W,3] uint8; without a pair nothing moves.

    The motion of the camera is taken for one affine map per pair, found robustly on the optical flow; what
    departs from it is a body. The pair in which the most moves shows the bodies.
    """
    best: list[Region] = []
    steps, textures = [], []
    for before, after in pairs:
        first, second = _small(before), _small(after)
        flow = _flow(first, second)
        camera, step = _camera_flow(flow)
        regions = _regions(first, flow - camera)
        steps.append(step)
        textures.append(_textures(first))
        if sum(one.share for one in regions) > sum(one.share for one in best):
            best = regions
    upper, lower = np.mean(textures, axis=0) if textures else (0.0, 0.0)
    moves = bool(steps) and float(np.median(steps)) > CAMERA_REACH
    return Seen(tuple(best), moves, (float(upper), float(lower)))


def _small(frame: np.ndarray) -> np.ndarray:
    factor = LONG_SIDE / max(frame.shape[:2])
    if factor >= 1:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the optical flow [H,W,2] as shares of the longer side."""
    before, after = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (first, second))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None)
    return np.asarray(flow) / max(first.shape[:2])


def _camera_flow(flow: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the affine part [H,W,2] of a flow that most pixels follow, and the length of its median."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    design = np.stack([columns, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3)
    wanted = flow.reshape(-1, 2)
    weights = np.ones(len(design), dtype=np.float32)
    fitted = np.zeros_like(wanted)
    for _ in range(8):  # reweighted least squares: the weight of a pixel falls with its residual
        weighted = design * weights[:, None]
        solved = np.linalg.lstsq(weighted.T @ design, weighted.T @ wanted, rcond=None)[0]
        fitted = design @ solved
        residual = np.linalg.norm(wanted - fitted, axis=1)
        weights = (1 / (1 + (residual / (REACH / 2)) ** 2)).astype(np.float32)
    step = float(np.median(np.linalg.norm(fitted, axis=1)))
    return fitted.reshape(flow.shape), step


def _regions(frame: np.ndarray, residual: np.ndarray) -> list[Region]:
    moving = (np.linalg.norm(residual, axis=-1) > REACH).astype(np.uint8)
    moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving)
    found = []
    for label in range(1, count):
        _, _, width, height, area = (int(value) for value in stats[label])
        share = area / labels.size
        if not SMALLEST <= share <= LARGEST:
            continue
        inside = labels == label
        motion = residual[inside]
        across, down = (float(value) for value in np.median(motion, axis=0))
        found.append(
            Region(
                share=share,
                colour=_colour(frame[inside]),
                fill=area / (width * height),
                aspect=height / width,
                across=across,
                down=down,
                growth=_growth(inside, residual),
            )
        )
    return sorted(found, key=lambda one: -one.share)[:MOST]


def _colour(pixels: np.ndarray) -> tuple[float, float, float]:
    """Return hue in degrees, saturation and value of the colour that most of the pixels [N,3] have."""
    hsv = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    vivid = hsv[:, 1] >= np.median(hsv[:, 1])  # lights and the background at the rim are paler
    bins = np.histogram(hsv[vivid, 0], bins=24, range=(0, 360), weights=hsv[vivid, 1] * hsv[vivid, 2])[0]
    peak = int(np.argmax(bins))
    near = vivid & (np.abs((hsv[:, 0] - (peak * 15 + 7.5) + 180) % 360 - 180) <= 15)
    chosen = hsv[near] if near.any() else hsv
    hue = float((peak * 15 + 7.5 + np.median((chosen[:, 0] - peak * 15 - 7.5 + 180) % 360 - 180)) % 360)
    return hue, float(np.median(chosen[:, 1])), float(np.percentile(chosen[:, 2], 75))


def _growth(inside: np.ndarray, residual: np.ndarray) -> float:
    """Return how much a region [H,W] grows: the slope of its motion over the place, mean of both axes."""
    rows, columns = np.nonzero(inside)
    slopes = []
    for axis, places in ((0, columns), (1, rows)):
        centred = places / max(inside.shape) - places.mean() / max(inside.shape)
        motion = residual[inside][:, axis]
        slopes.append(float((centred * (motion - motion.mean())).sum() / max(1e-9, (centred**2).sum())))
    return float(np.mean(slopes))


def _textures(frame: np.ndarray) -> tuple[float, float]:
    """Return the median contrast of 8x8 patches of the upper and of the lower half, 0 to 1."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    spread = np.sqrt(np.maximum(0, cv2.blur(grey**2, (8, 8)) - cv2.blur(grey, (8, 8)) ** 2))
    half = len(spread) // 2
    return float(np.median(spread[:half])), float(np.median(spread[half:]))
