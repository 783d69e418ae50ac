"""Bases of Wan2.1's real shapes with random weights, for measurements of time and memory only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from recapture.models.tuning.examples import Example
from recapture.models.wan.load import Base
from recapture.models.wan.text import Text

HEADS_LAYERS_FFN = {"1.3B": (12, 30, 8960), "14B": (40, 40, 13824), "tiny": (2, 2, 64)}  # tiny: for tests


def wan_transformer(size: str, **settings: Any) -> WanTransformer3DModel:
    """Return a Fun-InP transformer (36 input channels, no image branch); settings: what differs."""
    heads, layers, ffn = HEADS_LAYERS_FFN[size]
    shape = {"num_attention_heads": heads, "num_layers": layers, "ffn_dim": ffn}
    shape |= {"in_channels": 36, "out_channels": 16, "attention_head_dim": 128}
    return WanTransformer3DModel(**(shape | settings))


def random_base(size: str, *, device: str = "cuda", vae: bool = True) -> Base:
    """Return a Fun-InP base (36 input channels, no image branch) in bfloat16, its VAE too."""
    torch.manual_seed(0)
    with torch.device(device):
        transformer = wan_transformer(size, **({"attention_head_dim": 12} if size == "tiny" else {}))
        small = {"base_dim": 8, "num_res_blocks": 1}
        coder = AutoencoderKLWan(**({} if vae and size != "tiny" else small)).eval()
    kept = tuple(transformer._keep_in_fp32_modules)
    for name, parameter in transformer.named_parameters():
        if not any(part in name.split(".") for part in kept):
            parameter.data = parameter.data.to(torch.bfloat16)
    transformer.requires_grad_(False).eval()
    coder.requires_grad_(False).to(torch.bfloat16)
    return Base("inpaint", transformer, coder)


def random_text(base: Base, tokens: int = 512) -> Text:
    """Return embeddings of a prompt and of an empty one."""
    shape = (1, tokens, base.transformer.config.text_dim)
    drawn = torch.randn(2, *shape, device=base.device, dtype=torch.bfloat16)
    return Text(drawn[0], drawn[1])


def moving_hole(
    frames: int, height: int, width: int, share: float = 0.3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random video [T, 3, H, W] and visible [T, H, W] with a hole of a share of each frame."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(frames, 3, height // 16, width // 16, generator=random) * 2 - 1
    video = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    visible = torch.ones(frames, height, width, dtype=torch.bool)
    wide = round(width * share)
    for frame in range(frames):
        left = round((width - wide) * frame / max(1, frames - 1))
        visible[frame, :, left : left + wide] = False
    return video, visible


def random_examples(base: Base, frames: int, height: int, width: int, count: int = 4) -> list[Example]:
    """Return encoded pairs as a tuning job keeps them: bfloat16, on the CPU, half of each frame known."""
    z, *size = base.latent_shape(frames, height, width)
    examples = []
    for number in range(count):
        random = torch.Generator().manual_seed(number)
        clean = torch.randn(z, *size, generator=random)
        known = (torch.rand(4, *size, generator=random) < 0.5).float()
        text = torch.randn(512, base.transformer.config.text_dim, generator=random)
        channels = torch.cat([known, clean * known[:1]])
        examples.append(Example(clean.bfloat16(), channels.bfloat16(), text.bfloat16()))
    return examples
