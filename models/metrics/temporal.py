"""What holds between frames: fidelity to the measurement, timing, temporal warp error, flicker."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from recapture.conf.heartbeat import beating
from recapture.models.fill.view import SourceView
from recapture.models.geometry.backwarp import back_warp
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.metrics.image import coverage, frame_psnr, mean_over_frames, psnr, to_grey, to_unit

SYNC_SIDE = (
    160  # frames are shrunk to about this before timing is measured; 2 * max_offset + 1 renders are needed
)
SYNC_MARGIN = 1.0  # dB above the mean of the other offsets; a lower peak says nothing about time
MOVING_CONTRAST = 0.05  # of the range [0, 1]; less than this is resampling, not motion


def measurement_consistency(
    result: Tensor,  # [T, 3, H, W] in [-1, 1]
    source: SourceView,
    target_depth: Tensor,  # [T, H, W], inf where unknown
    intrinsics: Tensor,  # [T, 3, 3]
    world_to_camera: Tensor,  # [T, 4, 4]
) -> dict[str, float]:
    """Return the PSNR against the source looked up at co-visible target pixels, and their share.

    `back_warp` says what co-visible means. The ceiling is set by resampling (36 dB for the truth itself on
    a textured scene). A method that pastes the render scores high here: read it with the hole and sharpness
    metrics.
    """
    shown = source.at(source.source_frame)
    warped = back_warp(
        shown.video,
        shown.depth,
        shown.known,
        shown.intrinsics,
        shown.world_to_camera,
        target_depth,
        intrinsics,
        world_to_camera,
    )
    return {
        "consistency_psnr": psnr(result, warped.video, warped.co_visible),
        "coverage": coverage(warped.co_visible),
    }


@dataclass(frozen=True)
class Sync:
    """PSNR of the result against the source at each time offset."""

    offsets: np.ndarray  # [D] frames
    psnr: np.ndarray  # [D] dB on moving pixels; empty or NaN where nothing moves

    def scores(self) -> dict[str, float]:
        """Return the best offset, where it stands out by 1 dB (a wrong view's does not), and by how much."""
        if not self.psnr.size or np.isnan(self.psnr).any():
            return {}
        best = int(self.psnr.argmax())
        others = np.delete(self.psnr, best)
        margin = float(self.psnr[best] - others.mean())
        scores = {"sync_margin_db": margin}
        if margin >= SYNC_MARGIN:
            scores["sync_offset_frames"] = float(self.offsets[best])
            scores["sync_error_frames"] = float(abs(self.offsets[best]))
        return scores


def sync_offset(
    result: Tensor,  # [T, 3, H, W] in [-1, 1]
    source: SourceView,
    intrinsics: Tensor,  # [T, 3, 3]
    world_to_camera: Tensor,  # [T, 4, 4]
    *,
    surface: SurfaceSettings,
    max_offset: int = 4,
    max_frames: int = 16,
) -> Sync:
    """Return how many frames the result is ahead (+) of or behind (-) the source: argmax over offsets d.

    For each d, source frame source_frame[t] + d is rendered into the target camera of frame t and compared
    with result frame t by PSNR, on moving pixels: seen at every d, and differing by more than 5 % of the
    range (3x3 mean) between d = 0 and some other. Only frames t for which every d exists are used, at most
    `max_frames` of them, evenly spaced; frames are shrunk to about 160 pixels first. In a clip too short
    for `max_offset` that is lowered. -3: the result shows what the source showed 3 frames earlier.
    """
    count = len(source.video)
    max_offset = min(max_offset, (count - 1) // 2)
    shows = source.source_frame
    usable = torch.nonzero((shows >= max_offset) & (shows < count - max_offset)).flatten()
    offsets = np.arange(-max_offset, max_offset + 1)
    if max_offset < 1 or not len(usable):
        return Sync(offsets, np.array([]))
    chosen = usable[torch.linspace(0, len(usable) - 1, min(len(usable), max_frames)).round().long()]
    height, width = result.shape[2:]
    small, factor = _shrink(result[chosen])
    target_intrinsics = _shrink_intrinsics(intrinsics[chosen], factor)
    candidates, visible = (
        [],
        torch.ones(len(chosen), *small.shape[2:], dtype=torch.bool, device=result.device),
    )
    for offset in offsets:
        shown = _shrink_source(source.at(shows[chosen] + int(offset)))
        seen = render(
            shown.video,
            shown.depth,
            shown.intrinsics,
            shown.world_to_camera,
            target_intrinsics,
            world_to_camera[chosen],
            surface=surface,
            size=(height // factor, width // factor),
            known=shown.known,
        )
        candidates.append(seen.video)
        visible &= seen.visible
    now = candidates[max_offset]
    change = torch.stack([avg_pool2d((other - now).abs().mean(1), 3, 1, 1) for other in candidates])
    moving = visible & (change.amax(0) / 2 > MOVING_CONTRAST)
    return Sync(offsets, np.array([mean_over_frames(frame_psnr(small, c, moving)) for c in candidates]))


def _shrink(video: Tensor) -> tuple[Tensor, int]:
    factor = max(1, math.ceil(max(video.shape[2:]) / SYNC_SIDE))
    return avg_pool2d(video, factor), factor


def _shrink_intrinsics(intrinsics: Tensor, factor: int) -> Tensor:
    scaled = intrinsics.clone()
    scaled[:, :2] /= factor
    return scaled


def _shrink_source(source: SourceView) -> SourceView:
    video, factor = _shrink(source.video)
    height, width = video.shape[2:]
    # depth is picked, not averaged: a mean across an edge is on neither surface
    picked = (
        slice(None),
        slice(factor // 2, factor * height, factor),
        slice(factor // 2, factor * width, factor),
    )
    return SourceView(
        video,
        source.depth[picked],
        source.known[picked],
        _shrink_intrinsics(source.intrinsics, factor),
        source.world_to_camera,
        source.source_frame,
    )


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow [H, W, 2] in pixels (x, y) between luma frames [H, W] uint8 (DIS, medium)."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(first, second, None))


def warp_error(video: Tensor) -> dict[str, float]:
    """Return the temporal warp error with the flow's magnitude, to be read together and with sharpness.

    After Lai et al. 2018: E = sum M |V_t - w(V_{t+1}, f)|^2 / sum M in [0, 1], squared error meaned over
    channels; f = DIS flow t -> t+1, M = pixels that pass the forward-backward check |f + b|^2 < .01 (|f|^2
    + |b|^2) + .5 and land inside the frame; mean over pairs. `flow_px` is the mean length of f over all
    pixels. It rewards blur and standing still, so it never judges a method alone. Nothing for a single
    frame.
    """
    grey, colour = to_grey(video), to_unit(video).astype(np.float32)
    errors, magnitudes = [], []
    height, width = grey.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    for t in beating(range(len(grey) - 1)):
        forward, backward = optical_flow(grey[t], grey[t + 1]), optical_flow(grey[t + 1], grey[t])
        u, v = x + forward[..., 0], y + forward[..., 1]
        returning = cv2.remap(backward, u, v, cv2.INTER_LINEAR)
        lengths = (forward**2).sum(-1), (returning**2).sum(-1)
        trusted = ((forward + returning) ** 2).sum(-1) < 0.01 * (lengths[0] + lengths[1]) + 0.5
        trusted &= (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
        magnitudes.append(float(np.sqrt(lengths[0]).mean()))
        warped = cv2.remap(colour[t + 1], u, v, cv2.INTER_LINEAR)
        if trusted.any():
            errors.append(float(((colour[t] - warped) ** 2).mean(-1)[trusted].mean()))
    if not errors:
        return {}
    return {"warp_error": float(np.mean(errors)), "flow_px": float(np.mean(magnitudes))}


def flicker_static_only(video: Tensor) -> float:
    """Return 1 - mean |V_t - V_{t+1}| in [0, 1] (VBench's temporal flickering); NaN for a single frame.

    Meaningful only for a still camera before a still scene: it rewards not moving, hence the name.
    """
    if len(video) < 2:
        return float("nan")
    return 1 - float((video[1:] - video[:-1]).abs().double().mean()) / 2
