"""Pairs as the transformer sees them, encoded once before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recapture.models.tuning.pairs import Pair
from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import Base
from recapture.models.wan.padding import padded
from recapture.models.wan.vae import encode_video


@dataclass(frozen=True)
class Example:
    """One encoded training example."""

    clean: Tensor  # [z, t, h, w] normalised latents of the target
    channels: Tensor  # [4 + z, t, h, w] mask (1 = known) and masked video
    text: Tensor  # [L, text_dim]
    image: Tensor | None = None  # [257, image_dim]
    share: float = 1.0  # how often it is drawn, relative to others
    packed: Tensor | None = None  # [z, K, h, w] clean latents of frames that may be packed beside it


@dataclass(frozen=True)
class Batch:
    """Examples of one size, stacked."""

    clean: Tensor  # [B, z, t, h, w] float32
    channels: Tensor  # [B, 4 + z, t, h, w] float32
    text: Tensor  # [B, L, text_dim]
    image: Tensor | None  # [B, 257, image_dim]
    packed: Tensor | None = None  # [B, z, K, h, w] clean latents, where frames are packed


def check_trainable(base: Base) -> None:
    """Raise ValueError for a base that LoRA tuning does not support."""
    if base.layout != "inpaint":
        raise ValueError(
            f"tuning: this base is {base.layout}, which is not supported;"
            " choose a Fun-InP base (36 input channels)"
        )
    if base.transformer.config.pos_embed_seq_len is not None:
        raise ValueError("tuning: first-last-frame bases are not supported; choose a Fun-InP base")
    if base.transformer_2 is not None or base.expand_timesteps:
        raise ValueError("tuning: Wan2.2 bases are not supported; choose a Wan2.1 Fun-InP base")
    if getattr(base.transformer, "is_quantized", False):
        raise ValueError("tuning: a quantised base (GGUF) cannot be trained on; name the same base in bf16")


def encode_pair(
    base: Base,
    pair: Pair,
    masks: Tensor,  # [M, T, H, W] bool, visible
    text: Tensor,  # [1, L, text_dim]
    *,
    share: float = 1.0,
    dtype: torch.dtype = torch.float32,
    packed: Tensor | None = None,  # [K, 3, H, W] in [-1, 1], finished frames from other cameras
) -> list[Example]:
    """Encode an example for each mask of a pair, on the CPU; they divide `share` among them.

    Packed frames are encoded one by one, as `packing.pack` does it. Frames are padded to the base's multiple,
    as when they are filled. Raises ValueError for a base that cannot be tuned, a clip of another length than
    4n+1 frames, or latents that are not finite.
    """
    check_trainable(base)
    masks = padded(base, masks)
    pair = replace(
        pair,
        degraded=padded(base, pair.degraded),
        visible=padded(base, pair.visible),
        target=padded(base, pair.target),
    )
    clean = encode_video(base.vae, pair.target)
    beside = None
    if packed is not None and len(packed):
        alone = padded(base, packed)[:, None]
        beside = encode_video(base.vae, alone)[:, :, 0].transpose(0, 1).to("cpu", dtype)
    examples = []
    for visible in masks:
        given = condition(base, pair.shown(visible), visible)
        assert given.channels is not None
        for name, value in (("target", clean), ("masked clip", given.channels)):
            if not torch.isfinite(value).all():
                raise ValueError(f"tuning: latents of the {name} are not finite; check the clip's pixels")
        examples.append(
            Example(
                clean.to("cpu", dtype),
                given.channels[0].to("cpu", dtype),
                text[0].cpu(),
                None if given.image is None else given.image[0].cpu(),
                share / len(masks),
                beside,
            )
        )
    return examples


def stack(examples: Sequence[Example], device: torch.device, packed: int = 0) -> Batch:
    """Stack examples of one size as a batch on a device, with the first `packed` frames beside each."""

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tensors)).to(device, torch.float32)

    images = [e.image for e in examples if e.image is not None]
    return Batch(
        joined([e.clean for e in examples]),
        joined([e.channels for e in examples]),
        joined([e.text for e in examples]),
        joined(images) if images else None,
        joined([e.packed[:, :packed] for e in examples if e.packed is not None]) if packed else None,
    )


def packable(examples: Sequence[Example]) -> int:
    """Return how many frames all of the examples can have packed beside them."""
    return min(0 if example.packed is None else example.packed.shape[1] for example in examples)


def draw_rows(examples: Sequence[Example], count: int, random: torch.Generator) -> list[int]:
    """Draw indices of `count` examples by their shares, all of the first one's size."""
    shares = torch.tensor([example.share for example in examples], dtype=torch.float64)
    first = int(torch.multinomial(shares, 1, generator=random))
    alike = torch.tensor([example.clean.shape == examples[first].clean.shape for example in examples])
    rest = torch.multinomial(shares * alike, count, replacement=True, generator=random).tolist()
    return [first, *rest[1:]]
