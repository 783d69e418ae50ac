"""A transformer made faster: attention kernels, compiled blocks, and how much a training step recomputes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch._functorch.config

from recapture.models.wan.chunked_vae import chunk_vae
from recapture.models.wan.compiled import Compiler, compile_blocks, use_cache
from recapture.models.wan.fused_layers import fuse_layers
from recapture.models.wan.load import Base

if TYPE_CHECKING:
    from recapture.conf.speed import SpeedConfig

Attention = Literal["native", "cudnn", "flash"]
BACKENDS: dict[str, str] = {"native": "native", "cudnn": "_native_cudnn", "flash": "_native_flash"}


def speed_up_base(base: Base, speed: SpeedConfig, *, activation_budget: float = 1.0) -> Base:
    """Return a base that samples as fast as these settings make it; its models are changed in place.

    activation_budget: see `speed_up`. Raises ValueError as that does.
    """
    if speed.compile_blocks:
        use_cache(speed.compile_cache)
    for transformer in filter(None, (base.transformer, base.transformer_2)):
        speed_up(
            transformer,
            attention=speed.attention,
            fused=speed.fused_layers,
            compiler=Compiler("the transformer") if speed.compile_blocks else None,
            activation_budget=activation_budget,
        )
    if speed.chunked_vae:
        chunk_vae(base.vae, Compiler("the VAE") if speed.compile_blocks else None)
    return replace(base, guidance_batched=speed.batched_guidance, adapters_merged=speed.merged_adapters)


def speed_up(
    transformer: Any,
    *,
    attention: Attention = "native",
    fused: bool = False,
    compiler: Compiler | None = None,
    activation_budget: float = 1.0,
) -> None:
    """Choose the attention kernel of a Wan transformer, and compile its blocks when they are first called.

    attention: torch's choice, cuDNN's or FlashAttention's; the last two run on CUDA alone, in half
    precision. Since torch 2.11 torch's choice is the fastest of them on Hopper, at 20,000 to 33,000 tokens.
    fused: layers with fewer kernels, see `fused_layers`. compiler: compiles the blocks, one for all
    (regional compilation); inputs of another size compile again. activation_budget: of the memory that a
    compiled block keeps for its backward pass, from 1 (all) to 0 (its inputs alone); the rest is computed
    again, what is cheapest first. It holds for whatever this process compiles from now on.

    Raises ValueError for settings that this transformer or device does not support.
    """
    if attention not in get_args(Attention):
        raise ValueError(f"speed: no attention {attention!r}; use one of {', '.join(get_args(Attention))}")
    if not 0 <= activation_budget <= 1:
        raise ValueError(f"speed: an activation budget of {activation_budget}; use 0 to 1")
    if activation_budget < 1 and compiler is None:
        raise ValueError("speed: an activation budget is kept by compiled blocks alone; compile them")
    if attention != "native" and transformer.device.type != "cuda":
        raise ValueError(f"speed: attention {attention!r} runs on CUDA, not on {transformer.device.type}")
    if attention != "native" and transformer.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"speed: attention {attention!r} takes half precision, the base is {transformer.dtype};"
            " set its precision to bfloat16"
        )
    transformer.set_attention_backend(BACKENDS[attention])
    if fused:
        fuse_layers(transformer)
    if compiler is not None:
        torch._functorch.config.activation_memory_budget = activation_budget
        compile_blocks(transformer, compiler)
