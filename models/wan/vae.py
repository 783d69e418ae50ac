"""Video to normalised latents and back, in a Wan VAE."""

from typing import Any

import torch
from torch import Tensor


def encode_video(vae: Any, video: Tensor) -> Tensor:
    """Encode a video [..., T, 3, H, W] in [-1, 1] to latents [..., z, T', h, w] float32.

    The mode of the posterior, normalised per channel by the VAE's `latents_mean` and `latents_std`. T must be
    4n+1 and the sides multiples of the VAE's factor (ValueError): the VAE itself would drop what is over.
    """
    check_size(vae, video)
    batch = video.shape[:-4]
    frames = video.reshape(-1, *video.shape[-4:]).transpose(1, 2).to(vae.device, vae.dtype)
    latents = vae.encode(frames).latent_dist.mode().float()
    mean, std = _statistics(vae, latents.device)
    return ((latents - mean) / std).reshape(*batch, *latents.shape[1:])


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Decode normalised latents [..., z, T', h, w] to a video [..., T, 3, H, W] float32 in [-1, 1]."""
    batch = latents.shape[:-4]
    flat = latents.reshape(-1, *latents.shape[-4:]).to(vae.device, torch.float32)
    mean, std = _statistics(vae, flat.device)
    video = vae.decode((flat * std + mean).to(vae.dtype), return_dict=False)[0].float().transpose(1, 2)
    return video.reshape(*batch, *video.shape[1:])


def check_size(vae: Any, video: Tensor) -> None:
    """Raise ValueError unless the video [..., T, 3, H, W] has a length and sides that the VAE keeps whole."""
    frames, channels, height, width = video.shape[-4:]
    time, space = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    if channels != 3:
        raise ValueError(f"vae: a video is [..., T, 3, H, W], not {list(video.shape)}")
    if frames % time != 1 % time:
        raise ValueError(f"vae: {frames} frames are not {time}n+1; pad the window")
    if height % space or width % space:
        raise ValueError(f"vae: {height}x{width} pixels are no multiples of {space}; pad the frames")


def _statistics(vae: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, device=device, dtype=torch.float32)
    std = torch.tensor(vae.config.latents_std, device=device, dtype=torch.float32)
    return mean.view(shape), std.view(shape)
