"""A transformer of Wan's shape in bfloat16 and its inputs, for measurements of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from bench.real_size import wan_transformer
from recapture.models.wan.footprint import ClipSize


def random_transformer(size: str, device: torch.device) -> WanTransformer3DModel:
    """Return a Fun-InP transformer (36 input channels) in bfloat16, made in bfloat16 to save memory."""
    tiny = {"num_layers": 3, "attention_head_dim": 16, "text_dim": 32} if size == "tiny" else {}
    torch.manual_seed(0)
    with default_dtype(torch.bfloat16), device:
        model = wan_transformer(size, **tiny)
    kept = set(model._keep_in_fp32_modules)
    for name, value in model.named_parameters():
        if kept & set(name.split(".")):
            value.data = value.data.float()
    for name, value in model.rope.named_buffers():
        setattr(model.rope, name, value.float())
    return model.requires_grad_(False).eval()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new parameters of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_inputs(clip: ClipSize, size: str, device: torch.device) -> dict[str, Tensor]:
    """Return the arguments of a pass over the clip."""
    random = torch.Generator().manual_seed(1)
    shape = (1, 36, (clip.frames - 1) // 4 + 1, clip.height // 8, clip.width // 8)
    text = torch.randn(1, 512, 32 if size == "tiny" else 4096, generator=random)
    return {
        "hidden_states": torch.randn(shape, generator=random).to(device, torch.bfloat16),
        "encoder_hidden_states": text.to(device, torch.bfloat16),
        "timestep": torch.tensor([700.0], device=device),
    }


def velocity(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return one pass of the transformer."""
    found: Tensor = model(**inputs, return_dict=False)[0]
    return found


def far(found: Tensor, expected: Tensor) -> float:
    """Return the distance of results, relative to their norm."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())
