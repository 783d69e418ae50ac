"""AutoencoderKLWan over all frames at once: what its chunked path computes, fit for training and faster.

diffusers encodes and decodes four frames at a time through a feature cache, and leaves the time
convolutions of its resampling blocks out where there is no cache. Here those blocks see the whole clip: the
first frame passes alone, the rest through the same causal convolutions. Memory grows with the clip's length.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from torch import Tensor


def make_parallel(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Teach the resampling blocks of a VAE to work without a cache; the chunked path stays as it was."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            module.forward = MethodType(_resample, module)
    return vae


def encode_moments(vae: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance [B, z, (T-1)/4+1, H/8, W/8] of videos [B, 3, T, H, W], T = 4n+1.

    The VAE must have gone through `make_parallel`. Latents are raw, not normalised.
    """
    if (video.shape[2] - 1) % vae.config.scale_factor_temporal:
        raise ValueError(f"encode: {video.shape[2]} frames are not 4n+1; pad or window the clip")
    if vae.config.patch_size is not None:
        video = patchify(video, patch_size=vae.config.patch_size)
    mean, log_variance = vae.quant_conv(vae.encoder(video)).chunk(2, dim=1)
    return mean, log_variance


def decode_latents(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode raw latents [B, z, t, h, w] to videos [B, 3, 4t-3, 8h, 8w], not clamped."""
    video = vae.decoder(vae.post_quant_conv(latents), first_chunk=True)
    if vae.config.patch_size is not None:
        video = unpatchify(video, patch_size=vae.config.patch_size)
    return video


def _resample(module: WanResample, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Tensor:
    if feat_cache is not None:
        return WanResample.forward(module, x, feat_cache, feat_idx)
    if module.mode == "upsample3d" and x.shape[2] > 1:
        rest = module.time_conv(x[:, :, 1:])
        even, odd = rest.chunk(2, dim=1)
        rest = torch.stack([even, odd], dim=3).flatten(2, 3)
        x = torch.cat([x[:, :, :1], rest], dim=2)
    batch, _, frames, _, _ = x.shape
    x = module.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
    if module.mode == "downsample3d" and frames > 1:
        x = torch.cat([x[:, :, :1], module.time_conv(x)], dim=2)
    return x
