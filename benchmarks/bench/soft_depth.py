"""Depth as models predict it: soft edges, an unknown scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad


def soften(depth: Tensor, width: float) -> Tensor:
    """Blur disparity [T, H, W] so that an edge becomes a ramp about `width` pixels wide."""
    sigma = width / 2.5
    reach = int(3 * sigma) + 1
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    disparity = pad(1 / depth[:, None], (reach, reach, reach, reach), mode="replicate")
    return 1 / conv2d(conv2d(disparity, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


def fitted(predicted: Tensor, depth: Tensor, least: float) -> Tensor:
    """Return predicted depth with the one scale and shift of 1/depth that fit best.

    least: the smallest disparity that is returned, so that nothing comes to lie behind the camera.
    """
    disparity = 1 / predicted
    columns = torch.stack([disparity.flatten(), torch.ones(disparity.numel())], 1)
    scale, shift = torch.linalg.lstsq(columns, 1 / depth.flatten()[:, None]).solution[:, 0]
    return 1 / (disparity * scale + shift).clamp_min(least)
