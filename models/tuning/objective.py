"""The objective of tuning: flow matching on the velocity, holes weighing more.

With x_s = (1-s) x0 + s e the velocity is e - x0 (Lipman et al., arXiv 2210.02747; Wan2.1 predicts it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recapture.models.training.noise_levels import NoiseLevels
from recapture.models.wan.load import Base


@dataclass(frozen=True)
class Objective:
    """What the loss of a step is made of.

    sigma: noise levels uniform, logit-normal, or half of each, under a timestep shift (of 'mixed', only the
    logit-normal half is shifted). hole_weight: a latent with a hole weighs 1 + hole_weight, another 1.
    caption_dropout: share of samples that see the empty prompt, which guidance needs.
    """

    sigma: NoiseLevels
    shift: float
    hole_weight: float
    caption_dropout: float

    def __post_init__(self) -> None:
        if not self.shift > 0 or self.hole_weight < 0 or not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"tuning: {self} is unusable; shift > 0, hole_weight >= 0, dropout in 0...1")


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return x_s [B, z, t, h, w] of clean latents at noise levels sigma [B]."""
    level = sigma.view(-1, 1, 1, 1, 1)
    return (1 - level) * clean + level * noise


def velocity_of(
    base: Base,
    noised: Tensor,  # [B, z, t, h, w] float32
    sigma: Tensor,  # [B]
    channels: Tensor,  # [B, 4 + z, t, h, w]
    text: Tensor,  # [B, L, text_dim]
    image: Tensor | None = None,  # [B, 257, image_dim]
    packed: Tensor | None = None,  # [B, z, K, h, w] clean latents of packed frames
    packed_noise: Tensor | None = None,  # [B, z, K, h, w]
) -> Tensor:
    """Predict the velocity [B, z, t, h, w] float32 with an inpainting base, with gradients.

    Packed frames are appended as in sampling (`packing.pack`): noised to sigma, known by mask 1 and their
    clean latents, at the positions behind the clip's; what is predicted for them is dropped.
    """
    model, dtype, length = base.transformer, base.dtype, noised.shape[2]
    if packed is not None:
        assert packed_noise is not None
        count = channels.shape[1] - packed.shape[1]
        known = torch.cat([packed.new_ones(len(packed), count, *packed.shape[2:]), packed], dim=1)
        channels = torch.cat([channels, known.to(channels)], dim=2)
        noised = torch.cat([noised, add_noise(packed, packed_noise, sigma).to(noised)], dim=2)
    given: dict[str, Any] = {} if image is None else {"encoder_hidden_states_image": image.to(dtype)}
    velocity: Tensor = model(
        hidden_states=torch.cat([noised, channels.to(noised.dtype)], dim=1).to(dtype),
        timestep=sigma * 1000,
        encoder_hidden_states=text.to(dtype),
        return_dict=False,
        **given,
    )[0]
    return velocity[:, :, :length].float()


def flow_matching_loss(
    velocity: Tensor,  # [B, z, t, h, w]
    clean: Tensor,  # [B, z, t, h, w]
    noise: Tensor,  # [B, z, t, h, w]
    hole: Tensor,  # [B, t, h, w] bool
    hole_weight: float,
) -> tuple[Tensor, Tensor]:
    """Return each sample's loss [B], and its part in holes [B] (0 without any): weighted means.

    Each sample is normalised by its own weights, so a batch's loss is the mean over its samples however it
    is split among workers.
    """
    error = (velocity - (noise - clean)).square().mean(1)
    weight = 1 + hole_weight * hole.to(error.dtype)
    loss = (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
    inside = (error * hole).flatten(1).sum(1) / hole.flatten(1).sum(1).clamp_min(1)
    return loss, inside


def latent_holes(channels: Tensor, mask_channels: int) -> Tensor:
    """Return bool [B, t, h, w] of channels [B, 4 + z, t, h, w]: True where any frame has a hole."""
    return channels[:, :mask_channels].amin(1) < 1
