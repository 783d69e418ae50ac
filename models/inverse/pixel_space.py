"""Data consistency in pixels: what the latent solvers are measured against. Each step runs the VAE."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from recapture.models.inverse.consistency import prior_variance
from recapture.models.wan.sampling import Step
from recapture.models.wan.vae import decode_latents, encode_video


@dataclass(frozen=True)
class KnownPixels:
    """The warped clip itself, with the VAE that leads to it."""

    vae: Any
    video: Tensor  # [T, 3, H, W] in [-1, 1], finite where visible
    visible: Tensor  # [T, H, W] bool

    def paste(self, generated: Tensor) -> Tensor:
        """Put every known pixel into the generated clip [B, T, 3, H, W]."""
        if generated.shape[1:] != self.video.shape:
            raise ValueError(
                f"inverse: the latents decode to {list(generated.shape[1:])}, the known pixels are"
                f" {list(self.video.shape)}; take them from the very window that is sampled"
            )
        return torch.where(self.visible[:, None], self.video.to(generated), generated)


def pixel_replacement(clean: Tensor, pixels: KnownPixels, step: Step, *, lowpass: float = 2.0) -> Tensor:
    """Decode, paste the known pixels, smooth, encode: the move that makes, [B, z, T', h, w].

    In the manner of VISION-XL (arXiv 2412.00156), without its start from an inverted measurement. lowpass:
    the Gaussian's variance, in pixels squared, at sigma 1; it falls with the variance of x0 given the
    latents. One decoding and one encoding per step.
    """
    if not pixels.visible.any():
        return torch.zeros_like(clean)
    with torch.no_grad():
        pasted = pixels.paste(decode_latents(pixels.vae, clean))
        smooth = _gaussian_blur(pasted, math.sqrt(lowpass * prior_variance(step.sigma)))
        return encode_video(pixels.vae, smooth) - clean


def pixel_gradient(
    clean: Tensor, pixels: KnownPixels, step: Step, *, omega: float = 1.0, gamma: float = 1.0
) -> Tensor:
    """Step down omega |M (D(x0) - y)| + gamma |E(M y + (1 - M) D(x0)) - x0|: [B, z, T', h, w].

    In the manner of PSLD (arXiv 2307.00619): the gradient is taken with respect to x0, not through the
    transformer to the noisy latents, whose Jacobian is left out (as FlowChef does). Its weights, 0.1
    and less, are for 1000 steps on an image; these are for the few steps of a flow. The norms are not
    squared, so the move's length hardly depends on how far off the estimate is. One decoding and one encoding
    a step, each with its backward pass, which keeps all activations of the clip in memory.
    """
    if not pixels.visible.any():
        return torch.zeros_like(clean)
    with torch.enable_grad():
        latents = clean.detach().requires_grad_(True)
        generated = decode_latents(pixels.vae, latents)
        pasted = pixels.paste(generated)
        unlike = torch.linalg.vector_norm((pasted - generated).flatten(1), dim=1)
        unglued = torch.linalg.vector_norm((encode_video(pixels.vae, pasted) - latents).flatten(1), dim=1)
        loss = (omega * unlike + gamma * unglued).sum()
        (slope,) = torch.autograd.grad(loss, latents)
    return -slope


def _gaussian_blur(video: Tensor, deviation: float) -> Tensor:
    """Blur the frames of a video [..., H, W] by a Gaussian, in pixels; edges are mirrored."""
    radius = min(math.ceil(3 * deviation), min(video.shape[-2:]) - 1)
    if radius == 0:
        return video
    offsets = torch.arange(-radius, radius + 1, device=video.device, dtype=video.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    frames = pad(video.reshape(-1, 1, *video.shape[-2:]), (radius,) * 4, mode="reflect")
    return conv2d(conv2d(frames, kernel), kernel.transpose(2, 3)).reshape(video.shape)
