"""Training of the embedded transformer and text encoder: flow matching as a general video inpainter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from recapture.models.pretraining.captured import Batch
from recapture.models.training.masks import draw_masks
from recapture.models.training.noise_levels import draw_sigma
from recapture.models.training.parallel import ALONE, Workers
from recapture.models.training.seeds import generator, uniform
from recapture.models.wan.conditioning import pool_visible
from recapture.models.wan.parallel_vae import encode_moments

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 10,
    "attention_head_dim": 32,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 128,
    "freq_dim": 128,
    "ffn_dim": 1024,
    "num_layers": 7,
}
TEXT = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4}
CAPTION_DROP = 0.12
SHIFT = 2.0  # timestep shift of the logit-normal half of the noise levels
SHOWN_WEIGHT = 0.3  # of known latents in the loss; holes weigh 1
ENCODE_AT_ONCE = 24  # clips through the autoencoder


@dataclass(frozen=True)
class Bucket:
    """A shape of clips, and its share of the steps."""

    frames: int
    height: int
    width: int
    share: float


BUCKETS = (
    Bucket(17, 128, 128, 0.46),
    Bucket(17, 96, 160, 0.14),
    Bucket(17, 160, 96, 0.08),
    Bucket(33, 96, 112, 0.10),
    Bucket(49, 80, 96, 0.08),
    Bucket(21, 128, 176, 0.14),
)


def shrink_buckets(buckets: tuple[Bucket, ...], scale: float) -> tuple[Bucket, ...]:
    """Return the buckets with sides times `scale`, in multiples of 16 and at least 32."""

    def side(pixels: int) -> int:
        return max(32, round(pixels * scale / 16) * 16)

    return tuple(replace(b, height=side(b.height), width=side(b.width)) for b in buckets)


@dataclass(frozen=True)
class Clips:
    """Rendered clips of one bucket: video [B, 3, T, H, W], object_id [B, T, H, W], tokens [B, L] int64."""

    video: Tensor
    object_id: Tensor
    tokens: Tensor


Source = Callable[[int, int, Bucket], Clips]  # seed, count, bucket


@dataclass(frozen=True)
class Pool:
    """Encoded clips of one bucket: latents [N, 16, t, h, w], channels [N, M, 20, t, h, w], tokens [N, L]."""

    latents: Tensor
    channels: Tensor
    tokens: Tensor


def build_transformer(seed: int, device: torch.device | str, **changes: Any) -> WanTransformer3DModel:
    """Build a transformer of TRANSFORMER with random start values."""
    torch.manual_seed(seed)
    return WanTransformer3DModel(**{**TRANSFORMER, **changes}).to(device)


def build_text_encoder(words: int, seed: int, device: torch.device | str, **changes: Any) -> UMT5EncoderModel:
    """Build a text encoder of TEXT for a vocabulary of `words` words."""
    torch.manual_seed(seed)
    return UMT5EncoderModel(UMT5Config(vocab_size=words, dropout_rate=0.0, **{**TEXT, **changes})).to(device)


class Inpainter(nn.Module):
    """Transformer and text encoder as one module: tokens in, velocity out."""

    def __init__(self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder

    def forward(self, latents: Tensor, channels: Tensor, sigma: Tensor, tokens: Tensor) -> Tensor:
        """Predict velocity [B, 16, t, h, w] of latents at sigma [B], tokens [B, L] padded by 0."""
        known = tokens > 0
        text = self.text_encoder(input_ids=tokens, attention_mask=known.long()).last_hidden_state
        text = text * known[..., None]  # pipelines pad embeddings by zeros, not tokens
        joined = torch.cat([latents, channels], dim=1)
        return self.transformer(joined, sigma * 1000, text, return_dict=False)[0]


@torch.no_grad()
def encode_pool(
    vae: AutoencoderKLWan,
    clips: Clips,
    masks: int,
    random: torch.Generator,
    mean: Tensor,  # [16]
    deviation: Tensor,  # [16]
) -> Pool:
    """Encode clips and `masks` masked versions of each, normalised, in bfloat16 (float32 on a CPU)."""
    device = clips.video.device
    kept = torch.bfloat16 if device.type == "cuda" else torch.float32
    mean, deviation = mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)

    def encode(video: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            parts = [encode_moments(vae, part)[0].float() for part in video.split(ENCODE_AT_ONCE)]
        return ((torch.cat(parts) - mean) / deviation).to(kept)

    latents = encode(clips.video)
    channels = []
    for _ in range(masks):
        visible = draw_masks(clips.object_id, random)
        masked = encode(clips.video * visible[:, None])
        joined = torch.cat([mask_channels(visible).to(kept), masked], dim=1)
        anything = visible.flatten(1).any(1).to(kept)
        channels.append(joined * anything.view(-1, 1, 1, 1, 1))
    return Pool(latents, torch.stack(channels, dim=1), clips.tokens)


def mask_channels(visible: Tensor) -> Tensor:
    """Return [B, 4, t, h, w] of visible [B, T, H, W], laid out as `conditioning.inpaint_channels` does."""
    batch = len(visible)
    known = pool_visible(visible.flatten(0, 1)).unflatten(0, (batch, -1)).float()
    known = torch.cat([known[:, :1].expand(-1, 4, -1, -1), known[:, 1:]], dim=1)
    return known.unflatten(1, (-1, 4)).transpose(1, 2)


@dataclass(frozen=True)
class PoolPlan:
    """How encoded clips are made and used: `clips` in all with `masks` each, for `steps` steps."""

    clips: int
    masks: int
    steps: int
    batch: int


class InpainterLearner:
    """Learns velocity on pools of encoded clips that are made anew every `plan.steps` steps."""

    def __init__(
        self,
        inpainter: Inpainter,
        vae: AutoencoderKLWan,
        source: Source,
        statistics: tuple[Tensor, Tensor],
        seed: int,
        plan: PoolPlan,
        buckets: tuple[Bucket, ...] = BUCKETS,
        workers: Workers = ALONE,
    ) -> None:
        self.module = inpainter
        self.companion = None
        self._vae, self._source, self._statistics = vae, source, statistics
        self._shared_seed, self._seed, self._plan, self._buckets = seed, workers.seed(seed), plan, buckets
        self._device = next(inpainter.parameters()).device
        self._cast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")
        self._epoch = -1
        self._pools: list[Pool] = []

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim == 2 and "block" in name and "relative_attention_bias" not in name

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.forward(self.draw(step))

    def draw(self, step: int) -> Batch:
        """Return clean latents, their noise, noise levels, channels and tokens of a step."""
        self._fill_pools(step // self._plan.steps)
        random = generator(self._seed + 1, step, self._device)
        shares = torch.tensor([bucket.share for bucket in self._buckets])
        which = int(torch.multinomial(shares, 1, generator=generator(self._shared_seed + 2, step, "cpu")))
        pool, batch = self._pools[which], self._plan.batch
        clip = torch.randint(len(pool.latents), (batch,), generator=random, device=self._device)
        mask = torch.randint(self._plan.masks, (batch,), generator=random, device=self._device)
        clean, channels = pool.latents[clip].float(), pool.channels[clip, mask].float()
        dropped = uniform(0, 1, (batch, 1), random) < CAPTION_DROP
        tokens = torch.where(dropped, empty_caption(pool.tokens[clip]), pool.tokens[clip])
        sigma = draw_sigma(batch, random, "mixed", SHIFT)
        noise = torch.randn(clean.shape, generator=random, device=self._device)
        return {"clean": clean, "noise": noise, "sigma": sigma, "channels": channels, "tokens": tokens}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of what `draw` returned."""
        clean, noise, sigma, channels = (batch[name] for name in ("clean", "noise", "sigma", "channels"))
        level = sigma.view(-1, 1, 1, 1, 1)
        with self._cast:
            velocity = self.module((1 - level) * clean + level * noise, channels, sigma, batch["tokens"])
        error = (velocity.float() - (noise - clean)).square().mean(1)
        hole = channels[:, :4].amin(1) < 1
        weight = torch.where(hole, 1.0, SHOWN_WEIGHT)
        loss = (error * weight).sum() / weight.sum()
        in_holes = (error * hole).sum() / hole.sum().clamp_min(1)
        return loss, {"hole_loss": in_holes.detach()}

    def _fill_pools(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._pools = []
        for index, bucket in enumerate(self._buckets):
            count = max(2, round(self._plan.clips * bucket.share))
            if count > ENCODE_AT_ONCE:  # whole batches: every other size would be tuned for anew
                count -= count % ENCODE_AT_ONCE
            seed = (self._seed * 100_003 + epoch) * 64 + index
            random = generator(self._seed + 3, epoch * 64 + index, self._device)
            parts = []
            for start in range(0, count, ENCODE_AT_ONCE * 2):
                clips = self._source(seed * 4096 + start, min(ENCODE_AT_ONCE * 2, count - start), bucket)
                parts.append(encode_pool(self._vae, clips, self._plan.masks, random, *self._statistics))
            self._pools.append(
                Pool(
                    torch.cat([part.latents for part in parts]),
                    torch.cat([part.channels for part in parts]),
                    torch.cat([part.tokens for part in parts]),
                )
            )
        self._epoch = epoch


def empty_caption(tokens: Tensor) -> Tensor:
    """Return the tokens of '' in the shape of [B, L]: the end token alone."""
    empty = torch.zeros_like(tokens)
    empty[:, 0] = END
    return empty


END = 1


@torch.no_grad()
def latent_statistics(vae: AutoencoderKLWan, videos: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation [16] of latents of clips [B, 3, T, H, W], every pixel alike."""
    device = videos[0].device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        latents = [
            encode_moments(vae, part)[0].float() for video in videos for part in video.split(ENCODE_AT_ONCE)
        ]
    values = torch.cat([part.transpose(0, 1).flatten(1) for part in latents], dim=1).double()
    return values.mean(1).float(), values.std(1).float()
