"""A reference picture for VACE: latent frames before the clip's, which are sampled along and dropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recapture.models.wan.vae import encode_video


def on_canvas(picture: Tensor, height: int, width: int) -> Tensor:
    """Return a picture [3, h, w] in [-1, 1] of any size, scaled evenly into the middle of a white canvas.

    As `WanVACEPipeline.preprocess_conditions` does it with sides that are multiples of 8; it would
    stretch others to such first.
    """
    scale = min(height / picture.shape[1], width / picture.shape[2])
    inner = max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[2] * scale))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = torch.ones(3, height, width, dtype=picture.dtype, device=picture.device)
    canvas[:, top : top + inner[0], left : left + inner[1]] = interpolate(
        picture[None], inner, mode="bilinear", align_corners=False
    )[0]
    return canvas


def with_reference(vae: Any, control: Tensor, picture: Tensor) -> Tensor:
    """Put a reference picture [3, H, W] in [-1, 1] before control channels [1, C, T', h, w] of VACE.

    Its latents are known, nothing of it is to be redrawn, and its mask is 0: [1, C, T' + 1, h, w].
    """
    latents = encode_video(vae, picture[None].to(control))[None]  # [1, z, 1, h, w]
    rest = latents.new_zeros(1, control.shape[1] - latents.shape[1], *latents.shape[2:])
    return torch.cat([torch.cat([latents, rest], dim=1), control], dim=2)
