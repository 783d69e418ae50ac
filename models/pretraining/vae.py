"""Training of the embedded video autoencoder: architecture, start values, loss and colour augmentation.

The recipe was found by trial: small convolutional autoencoders lose colour, since colour differs between
scenes and brightness within them. Muon, an identity-like start of the time convolutions and a loss in
opponent colours keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from recapture.models.pretraining.captured import Batch
from recapture.models.training.masks import boxes, brushes
from recapture.models.training.seeds import generator, uniform
from recapture.models.wan.parallel_vae import decode_latents, encode_moments, make_parallel

ARCHITECTURE = {
    "base_dim": 16,
    "decoder_base_dim": 24,
    "z_dim": 16,
    "dim_mult": [1, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 8,
    "scale_factor_temporal": 4,
}
_KL = 1e-5


@dataclass(frozen=True)
class Stage:
    """A stretch of the training: crops of frames x side x side, `batch` at once, for a share of the steps."""

    frames: int
    side: int
    batch: int
    share: float


# First all sizes of clips, then long clips alone. Noise: of the latents' deviation, at most, which the
# decoder learns to undo; it makes latents that a transformer can hit, and costs detail, so later there is
# little of it.
STAGES = (Stage(1, 64, 384, 0.20), Stage(5, 64, 96, 0.25), Stage(17, 64, 48, 0.40), Stage(17, 128, 12, 0.15))
REFINING = (Stage(17, 64, 48, 0.5), Stage(17, 128, 12, 0.5))
NOISE, REFINING_NOISE = 0.1, 0.04
Clips = Callable[[int, Stage], Tensor]  # step, stage -> video [B, 3, T, H, W]


def shrink_stages(stages: tuple[Stage, ...], scale: float) -> tuple[Stage, ...]:
    """Return stages with batches and crops times `scale`; crops multiples of 32, batches at least 2."""
    return tuple(
        replace(s, side=max(32, round(s.side * scale / 32) * 32), batch=max(2, round(s.batch * scale)))
        for s in stages
    )


def build_vae(seed: int, device: torch.device | str, **changes: object) -> AutoencoderKLWan:
    """Build a VAE of ARCHITECTURE with the recipe's start values, in the whole-clip path."""
    torch.manual_seed(seed)
    vae = make_parallel(AutoencoderKLWan(**{**ARCHITECTURE, **changes}))
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3):
                module.weight[:, :, :2] = 0
                module.weight[:, :, 2] *= 3**0.5
        for module in vae.modules():
            mode = getattr(module, "mode", "")
            if mode in ("downsample3d", "upsample3d"):
                _identity_in_time(module.time_conv, mode)
        channels = vae.config.z_dim
        vae.quant_conv.weight[channels:] *= 0.1
        vae.quant_conv.bias[channels:] = -6.0
    return vae.to(device)


def _identity_in_time(conv: nn.Conv3d, mode: str) -> None:
    conv.weight *= 0.1
    assert conv.bias is not None
    conv.bias.zero_()
    channels = conv.in_channels
    eye = torch.eye(channels)
    if mode == "downsample3d":
        conv.weight[..., 0, 0] += eye[:, :, None] / 3
    else:
        for half in range(2):
            conv.weight[half * channels : (half + 1) * channels, :, 2, 0, 0] += eye


class VaeLearner:
    """Learns to give back crops of clips; a quarter of them with grey holes, as masked videos have."""

    def __init__(
        self,
        vae: AutoencoderKLWan,
        clips: Clips,
        steps: int,
        seed: int,
        stages: tuple[Stage, ...] = STAGES,
        noise: float = NOISE,
    ) -> None:
        self.module = vae
        self.companion = None
        self._clips, self._seed, self._stages, self._noise = clips, seed, stages, noise
        ends, share = [], 0.0
        for stage in stages:
            share += stage.share
            ends.append(round(share * steps))
        self._ends = ends
        device = next(vae.parameters()).device
        self._device = device
        self._cast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim >= 4 and parameter.shape[0] > 3

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return next((s for s, end in zip(self._stages, self._ends) if step < end), self._stages[-1])

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.forward(self.draw(step))

    def draw(self, step: int) -> Batch:
        """Return the clips [B, 3, T, S, S] of a step, and the noise of their latents [B, z, t, s, s]."""
        stage = self.stage_at(step)
        random = generator(self._seed, step, self._device)
        video = augment(self._clips(step, stage), random)
        video = _punched(video, random)
        shape = latent_shape(self.module, video)
        noise = torch.randn(shape, generator=random, device=self._device)
        amount = uniform(-self._noise, self._noise, (len(video), 1, 1, 1, 1), random).clamp_min(0)
        return {"video": video, "noise": noise, "amount": amount}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of what `draw` returned."""
        video = batch["video"]
        with self._cast:
            mean, log_variance = encode_moments(self.module, video)
            mean, log_variance = mean.float(), log_variance.float().clamp(-30, 20)
            spread = mean.detach().std((0, 2, 3, 4), keepdim=True)
            latents = mean + batch["noise"] * (torch.exp(0.5 * log_variance) + batch["amount"] * spread)
            result = decode_latents(self.module, latents)
        parts = reconstruction_parts(result.float(), video)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        total = parts["l1"] + parts["mse"] + 0.5 * parts["coarse"] + _KL * divergence
        return total, {**parts, "divergence": divergence}


def latent_shape(vae: AutoencoderKLWan, video: Tensor) -> tuple[int, ...]:
    """Return the shape [B, z, t, h, w] of the latents of videos [B, 3, T, H, W]."""
    batch, _, frames, height, width = video.shape
    time, space = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    return batch, vae.config.z_dim, (frames - 1) // time + 1, height // space, width // space


def reconstruction_parts(result: Tensor, video: Tensor) -> dict[str, Tensor]:
    """Return L1 in opponent colours (chroma twice), MSE, and that L1 after 8 x 8 averaging."""
    difference = opponent(result) - opponent(video)
    coarse = avg_pool2d(difference.transpose(1, 2).flatten(0, 1), 8)
    return {
        "l1": _chroma_twice(difference.abs().mean((0, 2, 3, 4))),
        "mse": (result - video).square().mean(),
        "coarse": _chroma_twice(coarse.abs().mean((0, 2, 3))),
    }


def _chroma_twice(parts: Tensor) -> Tensor:
    return (parts[0] + 2 * parts[1] + 2 * parts[2]) / 3


def opponent(video: Tensor) -> Tensor:
    """Return mean, red-green and blue-yellow of [B, 3, T, H, W]."""
    red, green, blue = video.unbind(1)
    return torch.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], dim=1)


def augment(video: Tensor, random: torch.Generator) -> Tensor:
    """Flip half the clips; give half of them other colours (channel order, hue, saturation, gain, offset)."""
    batch = len(video)
    shape = (batch, 1, 1, 1, 1)
    for axis in (3, 4):
        video = torch.where(uniform(0, 1, shape, random) < 0.5, video.flip(axis), video)
    order = torch.rand((batch, 3), generator=random, device=random.device).argsort(1)
    permutation = torch.eye(3, device=video.device)[order]  # [B, 3, 3]
    angle = uniform(-torch.pi, torch.pi, (batch,), random)
    matrix = _hue_rotation(angle, uniform(0.5, 2.1, (batch,), random)) @ permutation
    matrix = matrix * uniform(0.8, 1.2, (batch, 1, 1), random)
    offset = uniform(-0.15, 0.15, shape, random)
    coloured = (torch.einsum("boc,bcthw->bothw", matrix, video) + offset).clamp(-1, 1)
    return torch.where(uniform(0, 1, shape, random) < 0.5, coloured, video)


def _hue_rotation(angle: Tensor, saturation: Tensor) -> Tensor:
    """Return [B, 3, 3]: a turn about the grey axis, with the part across it scaled."""
    grey = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / 3**0.5
    eye = torch.eye(3, device=angle.device)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return grey + saturation[:, None, None] * (cosine * (eye - grey) + sine * cross)


def _punched(video: Tensor, random: torch.Generator) -> Tensor:
    batch, _, frames, height, width = video.shape
    size = (frames, height, width)
    half = batch // 2
    visible = torch.cat([boxes(half, size, random), brushes(batch - half, size, random)])
    whole = uniform(0, 1, (batch, 1, 1, 1), random) > 0.25
    return video * (visible | whole)[:, None]


def reconstruction_quality(result: Tensor, video: Tensor) -> dict[str, Tensor]:
    """Return the PSNR (dB, range 2), chroma R2 and sharpness ratio, each [B], of clips [B, 3, T, H, W].

    Chroma is RGB minus its mean over channels; R2 is the share of its variance over the clip, about the
    clip's mean chroma, that the result explains. Sharpness is the variance of the Laplacian of luma; the
    ratio is the result's to the clip's, below 1 where detail is lost.
    """
    error = (result - video).square().mean((1, 2, 3, 4))
    chroma, guess = (x - x.mean(1, keepdim=True) for x in (video, result))
    about = chroma - chroma.mean((2, 3, 4), keepdim=True)
    explained = 1 - (guess - chroma).square().sum((1, 2, 3, 4)) / about.square().sum((1, 2, 3, 4)).clamp_min(
        1e-9
    )
    ratio = _sharpness(result) / _sharpness(video).clamp_min(1e-9)
    return {
        "psnr": 10 * torch.log10(4 / error.clamp_min(1e-10)),
        "chroma_r2": explained,
        "sharpness": ratio,
    }


def _sharpness(video: Tensor) -> Tensor:
    luma = (video * video.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1, 1)).sum(1)  # [B, T, H, W]
    inner = luma[..., 1:-1, 1:-1]
    around = luma[..., :-2, 1:-1] + luma[..., 2:, 1:-1] + luma[..., 1:-1, :-2] + luma[..., 1:-1, 2:]
    return (around - 4 * inner).flatten(1).var(1)
