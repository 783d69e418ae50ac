"""The memory that a base takes, from the headers of its files: weights, one pass, the VAE at work."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from recapture.models.wan.gguf_file import GGUF
from recapture.models.wan.layouts import Part
from recapture.models.wan.load import identify_transformer, identify_vae
from recapture.models.wan.load_encoders import OTHER_TOWERS
from recapture.models.wan.original_keys import diffusers_names
from recapture.models.wan.sources import Sources

GIB = 2**30
BLOCK = re.compile(r"\b(?:vace_blocks|blocks|block)\.\d+")
# Bytes per token and channel of one pass: of the width and of the feed-forward's, measured in bfloat16
# (benchmarks/memory.md); float32 takes at most twice that.
PASS_WIDTH, PASS_FEED_FORWARD = 22.0, 4.0
# Bytes per pixel while the VAE decodes one latent frame in float32, of which bfloat16 takes half; and those
# of each frame of the video. Encoding takes less.
VAE_PIXEL, VAE_FRAME_PIXEL = 30000.0, 36.0
VAE_WIDTH = 96  # channels of the VAE that was measured
ENCODER_PASS = GIB // 2  # of the text encoder: 512 tokens


@dataclass(frozen=True)
class ClipSize:
    """The size of what is filled at once."""

    frames: int
    height: int
    width: int
    packed: int = 0  # latent frames beside it

    @property
    def volume(self) -> int:
        """Return what memory grows with."""
        return (self.frames + 4 * self.packed) * self.height * self.width

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Footprint:
    """Bytes of a base's parts as they are loaded, and what a pass over a clip takes beside them."""

    transformers: tuple[int, ...]
    largest_block: int
    outside_blocks: int  # of all transformers: what stays on the GPU where blocks take turns
    text_encoder: int
    encoder_in_turns: int  # of the text encoder, while its blocks take turns on the GPU
    vae: int
    image_encoder: int
    width: int
    feed_forward: int
    number: int  # bytes of the transformer's numbers
    vae_number: int
    vae_width: float  # channels of the VAE's largest layers, per pixel
    side: int  # pixels of a token's side
    time: int  # frames per latent frame

    @property
    def weights(self) -> int:
        """Return the bytes of all weights."""
        return sum(self.transformers) + self.text_encoder + self.vae + self.image_encoder

    def one_pass(self, size: ClipSize) -> int:
        """Return the bytes of a pass of the transformer besides its weights."""
        latents = (size.frames - 1) // self.time + 1 + size.packed
        tokens = latents * math.ceil(size.height / self.side) * math.ceil(size.width / self.side)
        per_token = PASS_WIDTH * self.width + PASS_FEED_FORWARD * self.feed_forward
        return round(tokens * per_token * self.number / 2)

    def decoding(self, size: ClipSize, chunk: int = 1) -> int:
        """Return the bytes of the VAE at work on `chunk` latent frames at a time, besides its weights."""
        pixels = size.height * size.width
        return round(
            pixels
            * (
                VAE_PIXEL * self.vae_width / VAE_WIDTH * self.vae_number / 4 * chunk
                + VAE_FRAME_PIXEL * size.frames
            )
        )


def footprint(sources: Sources, dtype: torch.dtype | None, vae_dtype: torch.dtype | None) -> Footprint:
    """Return the footprint of a base, loaded as `load_sources` does; only headers are read.

    Raises CheckpointError for files that cannot be read.
    """
    parts = [part for part in (sources.transformer, sources.transformer_2) if part is not None]
    tensors = sources.transformer.tensors()
    _, config, _ = identify_transformer(sources.transformer, tensors)
    vae_config, _ = identify_vae(sources.vae, sources.vae.tensors())
    space = 2 ** (len(vae_config.get("dim_mult", (1, 2, 4, 4))) - 1) * (vae_config.get("patch_size") or 1)
    return _assembled(
        [_stored_transformer(part, dtype) for part in parts],
        {} if sources.text_encoder is None else _stored(sources.text_encoder, dtype, OTHER_TOWERS),
        vae=sum(_stored(sources.vae, vae_dtype).values()),
        image_encoder=0
        if sources.image_encoder is None
        else sum(_stored(sources.image_encoder, vae_dtype, OTHER_TOWERS).values()),
        width=config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128),
        feed_forward=config.get("ffn_dim", 13824),
        number=4 if dtype is None else dtype.itemsize,
        vae_number=4 if vae_dtype is None else vae_dtype.itemsize,
        vae_width=_vae_width(vae_config),
        side=space * max(tuple(config.get("patch_size", (1, 2, 2)))[1:]),
        time=2 ** sum(vae_config.get("temperal_downsample", (False, True, True))),
    )


def footprint_of(transformers: Sequence[Any], vae: Any, text_encoder: Any = None) -> Footprint:
    """Return the footprint of a base that is built already."""
    config = transformers[0].config
    return _assembled(
        [_sizes(one) for one in transformers],
        {} if text_encoder is None else _sizes(text_encoder),
        vae=sum(_sizes(vae).values()),
        image_encoder=0,
        width=config.num_attention_heads * config.attention_head_dim,
        feed_forward=config.ffn_dim,
        number=transformers[0].dtype.itemsize,
        vae_number=vae.dtype.itemsize,
        vae_width=_vae_width(vae.config),
        side=vae.config.scale_factor_spatial * max(config.patch_size[1:]),
        time=vae.config.scale_factor_temporal,
    )


def _assembled(
    transformers: Sequence[Mapping[str, int]], text_encoder: Mapping[str, int], **others: Any
) -> Footprint:
    """Return a footprint from the bytes of each tensor, by its name."""
    blocks = [_by_block(sizes) for sizes in transformers]
    encoder = _by_block(text_encoder)
    return Footprint(
        transformers=tuple(sum(sizes.values()) for sizes in transformers),
        largest_block=max(size for one in blocks for size in _inside(one)),
        outside_blocks=sum(one[""] for one in blocks),
        text_encoder=sum(text_encoder.values()),
        encoder_in_turns=encoder[""] + 2 * max(_inside(encoder)),
        **others,
    )


def _vae_width(config: Mapping[str, Any]) -> float:
    wide = config.get("decoder_base_dim") or config.get("base_dim", VAE_WIDTH)
    return float(wide / (config.get("patch_size") or 1) ** 2)


def _by_block(sizes: Mapping[str, int]) -> Counter[str]:
    """Return the bytes of each block, and under '' of what is outside them."""
    found: Counter[str] = Counter({"": 0})
    for name, size in sizes.items():
        block = BLOCK.search(name)
        found[block[0] if block else ""] += size
    return found


def _inside(blocks: Mapping[str, int]) -> list[int]:
    return [size for name, size in blocks.items() if name] or [0]


def _sizes(module: Any) -> dict[str, int]:
    return {name: value.nbytes for name, value in module.named_parameters()}


def _stored_transformer(part: Part, dtype: torch.dtype | None) -> dict[str, int]:
    tensors = part.tensors()
    model_class, _, _ = identify_transformer(part, tensors)
    kept = set(getattr(model_class, "_keep_in_fp32_modules", None) or ())
    names = diffusers_names(list(tensors.shapes))
    found = {}
    for key, shape in tensors.shapes.items():
        bits = tensors.bits[key]
        if not (bits < 16 and part.where.suffix == GGUF) and dtype is not None:  # GGUF stays quantised
            bits = 32 if kept & set(names[key].split(".")) else 8 * dtype.itemsize
        found[names[key]] = round(math.prod(shape) * bits / 8)
    return found


def _stored(part: Part, dtype: torch.dtype | None, left_out: tuple[str, ...] = ()) -> dict[str, int]:
    tensors = part.tensors()
    twice = "shared.weight" in tensors.shapes  # then the same numbers are stored as embed_tokens too
    return {
        key: round(math.prod(shape) * (tensors.bits[key] / 8 if dtype is None else dtype.itemsize))
        for key, shape in tensors.shapes.items()
        if not key.startswith(left_out) and not (twice and key.endswith("embed_tokens.weight"))
    }
