"""Depth of a video by latent diffusion in overlapping windows, after DepthCrafter (arXiv 2409.02095).

Windows of `window` frames start `window - overlap` frames apart. Frame f starts from the same noise in every
window that holds it, noise[f mod window]. Where a window overlaps the one before it, it starts from that
one's result with noise of the first sigma on top, which anchors its scale and shift; the results are then
cross-faded linearly there. Everything streams: what is held does not grow with the clip.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.models.depth.video_load import VideoDepthModel

TIME_IDS = (7.0, 127.0)  # Stable Video Diffusion's rate and motion bucket, with which DepthCrafter works


@dataclass(frozen=True)
class FrameCondition:
    """The UNet's conditioning of each frame."""

    latents: Tensor  # [T, c, h, w] of the VAE
    embeddings: Tensor  # [T, d] of CLIP


def encode_frames(
    model: VideoDepthModel,
    frames: Tensor,  # [T, 3, H, W] in [-1, 1], H and W multiples of model.side_multiple
    noise: Tensor,  # [T, 3, H, W] added to what the VAE sees
) -> FrameCondition:
    """Return CLIP embeddings of the frames, and VAE latents (modes, unscaled as in SVD) of frames + noise."""
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
        _resize_with_antialiasing,  # the filter that SVD's image conditioning was trained with
    )

    side = model.image_encoder.config.image_size
    unit = (_resize_with_antialiasing(frames, (side, side)) + 1) / 2
    mean, std = (
        torch.tensor(value, device=unit.device).view(3, 1, 1) for value in (model.image_mean, model.image_std)
    )
    pixels = ((unit - mean) / std).to(model.image_encoder.dtype)
    embeddings = model.image_encoder(pixels).image_embeds
    latents = model.vae.encode((frames + noise).to(model.vae.dtype)).latent_dist.mode()
    return FrameCondition(latents.float(), embeddings)


def denoise_window(
    model: VideoDepthModel,
    condition: FrameCondition,
    noise: Tensor,  # [T, c, h, w]
    *,
    steps: int,
    noise_augmentation: float,
    before: Tensor | None = None,  # [n, c, h, w] the previous window's result for the first n frames
) -> Tensor:
    """Return a window's depth latents [T, c, h, w] float32: Euler steps without guidance (scale 1)."""
    scheduler, dtype = model.scheduler, model.unet.dtype
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    if before is not None:
        count = len(before)
        latents = torch.cat([before + noise[:count] * scheduler.sigmas[0], latents[count:]])
    time_ids = torch.tensor([[*TIME_IDS, noise_augmentation]], device=noise.device, dtype=dtype)
    with _embedding_per_frame(model.unet, condition.embeddings) as first:
        for timestep in beating(scheduler.timesteps):
            scaled = scheduler.scale_model_input(latents, timestep)
            given = torch.cat([scaled, condition.latents], dim=1)[None].to(dtype)
            velocity = model.unet(given, timestep, first, added_time_ids=time_ids, return_dict=False)[0][0]
            latents = scheduler.step(velocity.float(), timestep, latents, return_dict=False)[0]
    return latents


def denoise_clip(
    model: VideoDepthModel,
    conditions: Iterable[FrameCondition],
    noise: Tensor,  # [window, c, h, w]
    *,
    overlap: int,
    steps: int,
    noise_augmentation: float,
) -> Iterator[Tensor]:
    """Yield the depth latents of a clip of any length in order, after each window what is final.

    A clip of at most `window` frames is one window. Raises ValueError for a result that is not finite.
    """
    tail: Tensor | None = None
    for start, condition in cut_windows(conditions, len(noise), overlap):
        frames = torch.arange(start, start + len(condition.latents))
        latents = denoise_window(
            model,
            condition,
            noise[frames.to(noise.device) % len(noise)],
            steps=steps,
            noise_augmentation=noise_augmentation,
            before=tail,
        )
        if not torch.isfinite(latents).all():
            raise ValueError(
                f"depth: the video depth model gave values that are not finite in frames {start}..."
                f"{int(frames[-1])}; set depth.video.precision to 'float32', or choose another depth.model"
            )
        if tail is not None:
            later = torch.linspace(0, 1, overlap, device=latents.device).view(-1, 1, 1, 1)
            faded = latents[:overlap] * later + tail * (1 - later)
            latents = torch.cat([faded, latents[overlap:]])
        kept = len(latents) - overlap if overlap else len(latents)
        if kept > 0:
            yield latents[:kept]
        tail = latents[max(kept, 0) :] if overlap else None
    if tail is not None:
        yield tail


def cut_windows(
    conditions: Iterable[FrameCondition], window: int, overlap: int
) -> Iterator[tuple[int, FrameCondition]]:
    """Yield (first frame, condition) of each window; the last one is shorter where the clip ends."""
    held: FrameCondition | None = None
    start = 0
    for condition in conditions:
        held = condition if held is None else _joined(held, condition)
        while len(held.latents) >= window:
            yield start, _cut(held, 0, window)
            start += window - overlap
            held = _cut(held, window - overlap, None)
    if held is not None and len(held.latents) > (overlap if start else 0):
        yield start, held


def decode_depth(model: VideoDepthModel, latents: Tensor) -> Tensor:
    """Return inverse depth [T, H, W] in [0, 1] up to scale and shift: mean decoded colour, near = 1."""
    scaled = (latents / model.vae.config.scaling_factor).to(model.vae.dtype)
    decoded = model.vae.decode(scaled, num_frames=len(latents)).sample
    return (decoded.float() / 2 + 0.5).clamp(0, 1).mean(dim=1)


def in_batches(chunks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the same rows in tensors of `size`, the last one shorter, however they come."""
    held: Tensor | None = None
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk])
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held is not None and len(held):
        yield held


def _joined(first: FrameCondition, second: FrameCondition) -> FrameCondition:
    return FrameCondition(
        torch.cat([first.latents, second.latents]), torch.cat([first.embeddings, second.embeddings])
    )


def _cut(condition: FrameCondition, start: int, stop: int | None) -> FrameCondition:
    return FrameCondition(condition.latents[start:stop], condition.embeddings[start:stop])


@contextmanager
def _embedding_per_frame(unet: Any, embeddings: Tensor) -> Iterator[Tensor]:
    """Let cross-attention see each frame's own embedding [T, d], where the class repeats a single one.

    Gives that single one, [1, 1, d], which the class asks for.
    """
    from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel

    context = embeddings[:, None]

    def replaced(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"encoder_hidden_states": context}

    hooks = [
        module.register_forward_pre_hook(replaced, with_kwargs=True)
        for module in unet.modules()
        if isinstance(module, TransformerSpatioTemporalModel)
    ]
    try:
        yield context[:1]
    finally:
        for hook in hooks:
            hook.remove()
