"""The first frame as Wan2.2 TI2V is given it: clean latents at timestep 0, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.wan.vae import encode_video


@dataclass(frozen=True)
class FirstFrame:
    """What is known of the first latent frame."""

    latents: Tensor  # [1, z, 1, h, w] normalised
    known: Tensor  # [h, w] bool, whole tokens

    def shown_in(self, latents: Tensor) -> Tensor:
        """Return latents [B, z, T', h, w] with the known ones in the first frame."""
        first = torch.where(self.known, self.latents.to(latents), latents[:, :, :1])
        return torch.cat([first, latents[:, :, 1:]], dim=2)

    def times(self, times: Tensor, patch: tuple[int, int]) -> Tensor:
        """Return timesteps [B, N] of all tokens, 0 for the known ones; patch: of a token, in latents."""
        tokens = self.known[:: patch[0], :: patch[1]].flatten()
        times = times.clone()
        times[:, : len(tokens)] = torch.where(tokens, 0.0, times[:, : len(tokens)])
        return times

    def held(self, velocity: Tensor, latents: Tensor, sigma: float) -> Tensor:
        """Return the velocity that leads from latents at noise level sigma to the known ones in the end."""
        towards = (latents[:, :, :1] - self.latents.to(latents)) / sigma
        first = torch.where(self.known, towards, velocity[:, :, :1])
        return torch.cat([first, velocity[:, :, 1:]], dim=2)


def first_frame(vae: Any, frame: Tensor, visible: Tensor, side: int) -> FirstFrame | None:
    """Return what is known of a first frame [3, H, W], None if no token is; visible: [H, W] bool.

    side: pixels of a token. A token is known if all its pixels are, and, where the frame has holes, those of
    its neighbours: the VAE carries grey from a hole so far. With the whole frame known this is the condition
    of `WanImageToVideoPipeline.prepare_latents` with expand_timesteps.
    """
    hole = max_pool2d((~visible)[None, None].float(), side)
    known = max_pool2d(hole, 3, 1, 1)[0, 0] == 0
    if not known.any():
        return None
    grey = torch.where(visible, frame, 0.0)
    latents = encode_video(vae, grey[None])[None]
    times = latents.shape[3] // known.shape[0], latents.shape[4] // known.shape[1]
    return FirstFrame(latents, known.repeat_interleave(times[0], 0).repeat_interleave(times[1], 1))
