"""The blocks of AutoencoderKLWan as plain functions of tensors: frames, and what was seen of those before.

Each returns its output and its memory: the last input frames of its convolutions in time, which it is given
with the next frames; zeros before the first ones, as the library pads. Functions, not methods, so that one
compiled function serves all blocks of a shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv3d, interpolate

Memory = tuple[Tensor, ...]


def residual(block: Any, x: Tensor, before: Memory) -> tuple[Tensor, Memory]:
    """Return `WanResidualBlock`; before: two frames for each of its convolutions."""
    shortcut = block.conv_shortcut(x)
    seen = torch.cat([before[0], block.nonlinearity(block.norm1(x))], 2)
    hidden = convolve(block.conv1, seen)
    later = torch.cat([before[1], block.nonlinearity(block.norm2(hidden))], 2)
    return convolve(block.conv2, later) + shortcut, (_last(seen, 2), _last(later, 2))


def head(part: Any, x: Tensor, before: Memory) -> tuple[Tensor, Memory]:
    """Return the last norm and convolution of an encoder or decoder."""
    seen = torch.cat([before[0], part.nonlinearity(part.norm_out(x))], 2)
    return convolve(part.conv_out, seen), (_last(seen, 2),)


def upsample(block: Any, x: Tensor, before: Memory) -> tuple[Tensor, Memory]:
    """Return `WanResample` up, of frames after the first; before: two frames where it doubles time, too."""
    memory: Memory = ()
    if block.mode == "upsample3d":
        seen = torch.cat([before[0], x], 2)
        memory = (_last(seen, 2),)
        even, odd = convolve(block.time_conv, seen).chunk(2, dim=1)
        x = torch.stack([even, odd], dim=3).flatten(2, 3)
    return larger(block, x), memory


def larger(block: Any, x: Tensor) -> Tensor:
    """Return frames of twice the sides: nearest neighbours, which any precision copies as they are."""
    frames = interpolate(_as_frames(x), scale_factor=2.0, mode="nearest-exact")
    return _as_video(block.resample[1](frames), len(x))


def downsample(block: Any, x: Tensor, before: Memory) -> tuple[Tensor, Memory]:
    """Return `WanResample` down, of frames after the first; before: one frame where it halves time, too."""
    x = smaller(block, x)
    if block.mode != "downsample3d":
        return x, ()
    seen = torch.cat([before[0], x], 2)
    return convolve(block.time_conv, seen), (_last(seen, 1),)


def smaller(block: Any, x: Tensor) -> Tensor:
    """Return frames of half the sides."""
    return _as_video(block.resample(_as_frames(x)), len(x))


def convolve(conv: Any, seen: Tensor) -> Tensor:
    """Return a causal convolution of frames that its memory has been put before; it pads in space alone."""
    left, _, top, _, _, _ = conv._padding
    return conv3d(seen, conv.weight, conv.bias, conv.stride, (0, top, left), conv.dilation, conv.groups)


def zeros(like: Tensor, channels: int, frames: int = 2) -> Tensor:
    """Return the memory before the first frame, in the layout of `like` [B, C, T, H, W]."""
    batch, _, _, height, width = like.shape
    made = like.new_zeros(batch, channels, frames, height, width)
    return made.contiguous(memory_format=torch.channels_last_3d)


def _last(frames: Tensor, count: int) -> Tensor:
    return frames[:, :, -count:].clone()  # a view would keep all of them


def _as_frames(video: Tensor) -> Tensor:
    return video.transpose(1, 2).flatten(0, 1)


def _as_video(frames: Tensor, batch: int) -> Tensor:
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)
