"""What a camera does to the picture of a "world": focus, exposure, gamma, sensor noise. Depth stays exact."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recapture.datasets.scenes.layout import Scene

_KERNEL = (1.0, 4.0, 6.0, 4.0, 1.0)  # standard deviation 1 pixel


def develop(scene: Scene, video: Tensor, depth: Tensor, times: Tensor, focal: Tensor) -> Tensor:
    """Return the video as the scene's camera records it.

    video: [B, T, 3, H, W] in [0, 1]; depth: [B, T, H, W]; times: [B, T]; focal: [B, T] focal length in
    pixels.
    """
    assert scene.film is not None
    columns = scene.film[:, :, None].unbind(1)  # of [B, 1]
    exposure, period, phase, aperture, focus, speed, noise, grade = columns
    focus = (focus * (1 + speed * times).clamp(0.3, 3))[:, :, None, None]
    spread = (focal * aperture)[:, :, None, None] * (1 - focus / depth.clamp_min(1e-3)).abs() * 2
    video = _blurred(video, spread.clamp_max(3.0))
    gain = 1 + exposure * torch.sin(2 * torch.pi * (times / period + phase))
    video = (video * gain[:, :, None, None, None]).clamp(0, 1) ** grade[:, :, None, None, None]
    return (video + noise[:, :, None, None, None] * _noise(video, times, phase)).clamp(0, 1)


def _blurred(video: Tensor, spread: Tensor) -> Tensor:
    """Return the video blurred by a standard deviation of `spread` [B, T, H, W] pixels, up to 2."""
    once = _blur(video, 1)
    more = _blur(once, 2)
    first, second = spread.clamp(0, 1)[:, :, None], (spread - 1).clamp(0, 1)[:, :, None]
    mixed = video + (once - video) * first
    return mixed + (more - mixed) * second


def _blur(video: Tensor, gap: int) -> Tensor:
    kernel = video.new_tensor(_KERNEL) / sum(_KERNEL)
    flat = video.flatten(0, 1)
    pad = 2 * gap
    if min(flat.shape[-2:]) <= pad:
        return video
    flat = functional.pad(flat, (pad, pad, pad, pad), mode="replicate")
    height, width = video.shape[-2:]
    flat = torch.stack([kernel[k] * flat[..., gap * k : gap * k + height, :] for k in range(5)]).sum(0)
    flat = torch.stack([kernel[k] * flat[..., gap * k : gap * k + width] for k in range(5)]).sum(0)
    return flat.unflatten(0, video.shape[:2])


def _noise(video: Tensor, times: Tensor, phase: Tensor) -> Tensor:
    """Return noise [B, T, 3, H, W] of standard deviation 1, other in every frame, always the same."""
    _, _, channels, height, width = video.shape
    count = channels * height * width
    place = torch.arange(count, dtype=torch.float32, device=video.device).view(channels, height, width)
    start = (torch.sin(times * 12.9898 + phase * 78.233) * 437.5).to(torch.float32)
    seed = place * 0.7548777 + start[:, :, None, None, None]
    uniform = torch.frac(torch.sin(torch.remainder(seed, 6.2831853) * 91.3) * 4375.85).abs()
    return ((uniform - 0.5) * 3.4641016).to(video)
