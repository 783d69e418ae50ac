"""What holds between frames: fidelity to the measurement, timing, flicker."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from recapture.models.fill.view import SourceView
from recapture.models.geometry.backwarp import BackWarp, back_warp
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.metrics.image import coverage, frame_parts, frame_psnr, mean_over_frames, psnr

SYNC_SIDE = (
    160  # frames are shrunk to about this before timing is measured; 2 * max_offset + 1 renders are needed
)
SYNC_OFFSET, SYNC_FRAMES = 4, 16
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
    warped = looked_up(source, target_depth, intrinsics, world_to_camera)
    return {
        "consistency_psnr": psnr(result, warped.video, warped.co_visible),
        "coverage": coverage(warped.co_visible),
    }


def looked_up(
    source: SourceView, target_depth: Tensor, intrinsics: Tensor, world_to_camera: Tensor
) -> BackWarp:
    """Return the source as looked up from the target's pixels; depends on no result."""
    shown = source.at(source.source_frame)
    return back_warp(
        shown.video,
        shown.depth,
        shown.known,
        shown.intrinsics,
        shown.world_to_camera,
        target_depth,
        intrinsics,
        world_to_camera,
    )


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
    max_offset: int = SYNC_OFFSET,
    max_frames: int = SYNC_FRAMES,
) -> Sync:
    """Return how many frames the result is ahead (+) of or behind (-) the source: argmax over offsets d.

    For each d, source frame source_frame[t] + d is rendered into the target camera of frame t and compared
    with result frame t by PSNR, on moving pixels: seen at every d, and differing by more than 5 % of the
    range (3x3 mean) between d = 0 and some other. Only frames t for which every d exists are used, at most
    `max_frames` of them, evenly spaced; frames are shrunk to about 160 pixels first. In a clip too short
    for `max_offset` that is lowered. -3: the result shows what the source showed 3 frames earlier.
    """
    offsets, frames = sync_frames(source.source_frame, len(source.video), max_offset, max_frames)
    if not len(frames):
        return Sync(offsets, np.array([]))
    shown = ShownAtOffsets.of(source, frames, offsets, intrinsics, world_to_camera, surface, result.shape[2:])
    return Sync(offsets, np.array([mean_over_frames(values) for values in shown.frame_psnr(result[frames])]))


def sync_frames(
    shows: Tensor, count: int, max_offset: int = SYNC_OFFSET, max_frames: int = SYNC_FRAMES
) -> tuple[np.ndarray, Tensor]:
    """Return the offsets that a clip's timing is measured at, and the frames [n] it is measured on.

    shows: the source frame [T], 0...count-1, shown by each frame. No frames, where no offset exists.
    """
    max_offset = min(max_offset, (count - 1) // 2)
    usable = torch.nonzero((shows >= max_offset) & (shows < count - max_offset)).flatten()
    offsets = np.arange(-max_offset, max_offset + 1)
    if max_offset < 1 or not len(usable):
        return offsets, usable[:0]
    return offsets, usable[torch.linspace(0, len(usable) - 1, min(len(usable), max_frames)).round().long()]


@dataclass(frozen=True)
class ShownAtOffsets:
    """What some frames would show of the source at each time offset; depends on no result."""

    candidates: Tensor  # [D, n, 3, h, w], per offset, shrunken
    moving: Tensor  # [n, h, w] bool

    @classmethod
    def of(
        cls,
        source: SourceView,
        frames: Tensor,  # [n] of the view
        offsets: np.ndarray,  # odd in number, 0 in the middle
        intrinsics: Tensor,  # [T, 3, 3]
        world_to_camera: Tensor,  # [T, 4, 4]
        surface: SurfaceSettings,
        size: Sequence[int],  # (H, W) of the view
    ) -> "ShownAtOffsets":
        """Render the source frames around those shown, all of which must exist, for the frames' cameras."""
        factor = _factor(size)
        small = (size[0] // factor, size[1] // factor)
        shows, cameras = source.source_frame[frames], world_to_camera[frames]
        wanted = (shows[None] + torch.as_tensor(offsets, device=shows.device)[:, None]).flatten()
        shown = _shrink_source(source).at(wanted)
        seen = render(
            shown.video,
            shown.depth,
            shown.intrinsics,
            shown.world_to_camera,
            _shrink_intrinsics(intrinsics[frames], factor).repeat(len(offsets), 1, 1),
            cameras.repeat(len(offsets), 1, 1),
            surface=surface,
            size=small,
            known=shown.known,
        )
        candidates = seen.video.view(len(offsets), len(frames), *seen.video.shape[1:])
        visible = seen.visible.view(len(offsets), len(frames), *small).all(0)
        now = candidates[len(offsets) // 2]
        change = torch.stack([avg_pool2d((other - now).abs().mean(1), 3, 1, 1) for other in candidates])
        return cls(candidates, visible & (change.amax(0) / 2 > MOVING_CONTRAST))

    def frame_psnr(self, result: Tensor) -> np.ndarray:
        """Return the PSNR [D, n] of result frames [n, 3, H, W] against each offset's; NaN: nothing moves."""
        small = avg_pool2d(result, _factor(result.shape[2:]))
        return np.stack([frame_psnr(small, candidate, self.moving) for candidate in self.candidates])


def _factor(size: Sequence[int]) -> int:
    return max(1, math.ceil(max(size) / SYNC_SIDE))


def _shrink_intrinsics(intrinsics: Tensor, factor: int) -> Tensor:
    scaled = intrinsics.clone()
    scaled[:, :2] /= factor
    return scaled


def _shrink_source(source: SourceView) -> SourceView:
    factor = _factor(source.video.shape[2:])
    video = avg_pool2d(source.video, factor)
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


def flicker_static_only(video: Tensor) -> float:
    """Return 1 - mean |V_t - V_{t+1}| in [0, 1] (VBench's temporal flickering); NaN for a single frame.

    Meaningful only for a still camera before a still scene: it rewards not moving, hence the name.
    """
    return 1 - float(frame_changes(video).mean()) / 2 if len(video) > 1 else float("nan")


def frame_changes(video: Tensor) -> np.ndarray:
    """Return the mean absolute difference of each frame to the one before it, float64 [T-1]."""
    changes = [
        (video[1:][part] - video[:-1][part]).abs_().sum((1, 2, 3), dtype=torch.float64)
        for part in frame_parts(len(video) - 1, video.device)
    ]
    found = torch.cat(changes) if changes else torch.zeros(0)
    return np.asarray((found / video[0].numel()).cpu().numpy())
