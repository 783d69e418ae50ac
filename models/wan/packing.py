"""Temporal packing: finished frames of other trajectories as extra latent frames beside the clip's own.

Source: EasyCreator (Follow-Your-Creation), "temporal packing inference": the tokens of chosen frames join the
clip's along time, and the base's own self-attention takes over what they show. Which positions they have and
whether they are noised is not stated there; both are choices of this project, written down at `pack`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from recapture.models.wan.conditioning import Conditioning, Packed
from recapture.models.wan.load import Base
from recapture.models.wan.rotary import temporal_rows
from recapture.models.wan.vae import encode_video

Positions = Literal["appended", "time_aligned"]


@torch.no_grad()
def pack(
    base: Base,
    conditioning: Conditioning,
    frames: Tensor,  # [K, 3, H, W] in [-1, 1], of the clip's size
    times: Sequence[int],  # [K] the clip's frame, 0...T-1, that shows the same moment
    *,
    positions: Positions = "appended",
    generator: torch.Generator,
) -> Conditioning:
    """Return the conditioning of a clip with K finished frames packed in; `sample` does the rest.

    Each frame becomes one latent frame after the clip's, encoded alone, as the VAE encodes a first frame. It
    is known as that layout knows a frame: to Fun-InP and I2V by mask 1 and its latents in the masked video's
    channels, to VACE as `WanVACEPipeline` gives a reference picture (latents, zeros, mask 0), which it puts
    before the clip; text-to-video has no such input. Where the model has one timestep, the frame's own place
    holds its latents noised to each step's sigma by one fixed noise, drawn from `generator`; where it has one
    a token (expand_timesteps), the clean latents at timestep 0, as Wan2.2 TI2V is given its first frame.
    Source: VideoX-Fun appends and drops Phantom's subject latents likewise.

    positions: in time, of the rotary embedding. 'appended': T', T'+1, ...; 'time_aligned': that of the latent
    frame that holds `times`. No frames: the conditioning as it was. Raises ValueError for frames of another
    size and for times outside the clip.
    """
    if not len(frames):
        return conditioning
    if conditioning.leading:
        raise ValueError("packing: frames cannot be packed beside a reference picture; leave one of them out")
    _, length, height, width = conditioning.latent_shape
    space, time = base.vae.config.scale_factor_spatial, base.vae.config.scale_factor_temporal
    if frames.shape[1:] != (3, height * space, width * space):
        raise ValueError(
            f"packing: frames {list(frames.shape)} do not fit a clip of {height * space}x{width * space}"
            " pixels; pack frames of the clip's size"
        )
    last = time * (length - 1)
    if len(times) != len(frames) or not all(0 <= t <= last for t in times):
        raise ValueError(
            f"packing: {len(frames)} frames at times {list(times)} in a clip of frames 0...{last};"
            " give each frame a time inside the clip"
        )
    latents = encode_video(base.vae, frames.to(base.device)[:, None])[:, :, 0].transpose(0, 1)[None]
    noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents.device)
    aligned = tuple(latent_index(t, time) for t in times) if positions == "time_aligned" else None
    packed = Packed(latents, noise, aligned)
    if conditioning.channels is not None:
        known = torch.cat([latents.new_ones(1, time, *latents.shape[2:]), latents], 1)
        if base.layout == "control":  # its own control first, then as a start picture where it takes no mask
            masked = conditioning.channels.shape[1] > 2 * latents.shape[1]
            known = torch.cat([latents, known if masked else torch.zeros_like(latents)], 1)
        return replace(conditioning, channels=_after(conditioning.channels, known), packed=packed)
    if conditioning.control is not None:
        rest = latents.new_zeros(1, conditioning.control.shape[1] - latents.shape[1], *latents.shape[2:])
        known = torch.cat([latents, rest], 1)
        return replace(conditioning, control=_after(conditioning.control, known), packed=packed)
    return replace(conditioning, packed=packed)


def latent_index(frame: int, time: int = 4) -> int:
    """Return the latent frame that holds pixel frame `frame`: 0 for frame 0, then one per `time`."""
    return -(-frame // time)


def append_packed(base: Base, packed: Packed, latents: Tensor, sigma: float) -> Tensor:
    """Append the packed latents at noise level sigma to latents [B, z, T', h, w]: [B, z, T' + K, h, w].

    A base with one timestep per token gets them clean; see `pack`.
    """
    level = 0.0 if base.expand_timesteps else sigma
    noised = (1 - level) * packed.latents + level * packed.noise
    return torch.cat([latents, noised.to(latents).expand(len(latents), -1, -1, -1, -1)], dim=2)


@contextmanager
def rotary_positions(model: Any, length: int, packed: Packed | None) -> Iterator[None]:
    """Give latent frames from `length` on packed rotary positions in `model`, within the context.

    See `rotary.temporal_rows`. Nothing is touched without `packed` or with its positions 'appended', which is
    what the plain transformer does. Raises ValueError where the tables have too few rows.
    """
    if packed is None:
        yield
        return
    count, most = packed.latents.shape[2], model.rope.max_seq_len
    if length + count > most:
        raise ValueError(
            f"packing: {length} latent frames and {count} packed ones are more than the"
            f" {most} positions of this base; pack fewer or take a shorter window"
        )
    with temporal_rows(model, packed.positions and [*range(length), *packed.positions]):
        yield


def _after(own: Tensor, packed: Tensor) -> Tensor:
    return torch.cat([own, packed.to(own)], dim=2)
