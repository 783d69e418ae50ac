"""Training of the autoencoder's decoder alone, against an adversary: detail that a mean error blurs away.

The encoder stays, and with it every latent: what was trained on these latents stays valid.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from recapture.models.pretraining.adversary import Adversary
from recapture.models.pretraining.vae import Clips, Stage, augment, reconstruction_parts
from recapture.models.training.seeds import generator, uniform
from recapture.models.wan.parallel_vae import decode_latents, encode_moments

SHARPENING = (Stage(17, 64, 32, 0.7), Stage(17, 128, 8, 0.3))
NOISE = 0.03  # of the latents' deviation, at most
ADVERSE = 0.35  # length of each of the adversary's two gradients, in lengths of the reconstruction's
REST = 0.1  # of the steps, at first: the adversary learns alone, the decoder by reconstruction only


class SharpenLearner:
    """Trains `decoder` and `post_quant_conv`; the rest of the VAE is frozen."""

    def __init__(
        self,
        vae: AutoencoderKLWan,
        clips: Clips,
        steps: int,
        seed: int,
        adversary: Adversary,
        stages: tuple[Stage, ...] = SHARPENING,
    ) -> None:
        self.module = vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)
        vae.post_quant_conv.requires_grad_(True)
        self.companion = adversary
        self._clips, self._seed, self._stages, self._steps = clips, seed, stages, steps
        self._device = next(vae.parameters()).device
        self._cast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim >= 4 and parameter.shape[0] > 3

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        stage = self._stages[0] if step < self._stages[0].share * self._steps else self._stages[-1]
        random = generator(self._seed, step, self._device)
        video = augment(self._clips(step, stage), random)
        with self._cast:
            with torch.no_grad():
                latents = encode_moments(self.module, video)[0].float()
                spread = latents.std((0, 2, 3, 4), keepdim=True)
                amount = uniform(-NOISE, NOISE, (len(latents), 1, 1, 1, 1), random).clamp_min(0)
                noise = torch.randn(latents.shape, generator=random, device=self._device)
            result = decode_latents(self.module, latents + noise * amount * spread).float()
        parts = reconstruction_parts(result, video)
        loss = parts["l1"] + parts["mse"] + 0.5 * parts["coarse"]
        logged = {name: value.detach() for name, value in parts.items()}
        if step >= REST * self._steps:
            (pull,) = torch.autograd.grad(loss, result, retain_graph=True)
            adverse, said = self.companion.gradient(result, video)
            loss = loss + (result * (adverse * (ADVERSE * pull.norm()))).sum()
            logged |= said
        return loss, {**logged, **self.companion.learn(result, video)}
