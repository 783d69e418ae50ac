"""A transformer made faster: attention kernels, compiled blocks, and how much a training step recomputes."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch._functorch.config

Attention = Literal["native", "cudnn", "flash"]
BACKENDS: dict[str, str] = {"native": "native", "cudnn": "_native_cudnn", "flash": "_native_flash"}


def speed_up(
    transformer: Any,
    *,
    attention: Attention = "native",
    compile_blocks: bool = False,
    activation_budget: float = 1.0,
    backend: str = "inductor",
) -> None:
    """Choose the attention kernel of a Wan transformer, and compile its blocks when they are first called.

    attention: torch's choice, cuDNN's or FlashAttention's; the last two run on CUDA alone, in half
    precision. Since torch 2.11 torch's choice is the fastest of them on Hopper, at 20,000 to 33,000 tokens.
    compile_blocks: by `torch.compile`, one block for all (regional compilation); inputs of another size
    compile again. activation_budget: of the memory that a compiled block keeps for its backward pass, from
    1 (all) to 0 (its inputs alone); the rest is computed again, what is cheapest first. It holds for
    whatever this process compiles from now on. backend: of `torch.compile`.

    Raises ValueError for settings that this transformer or device does not support.
    """
    if attention not in get_args(Attention):
        raise ValueError(f"speed: no attention {attention!r}; use one of {', '.join(get_args(Attention))}")
    if not 0 <= activation_budget <= 1:
        raise ValueError(f"speed: an activation budget of {activation_budget}; use 0 to 1")
    if activation_budget < 1 and not compile_blocks:
        raise ValueError("speed: an activation budget is kept by compiled blocks alone; compile them")
    if attention != "native" and transformer.device.type != "cuda":
        raise ValueError(f"speed: attention {attention!r} runs on CUDA, not on {transformer.device.type}")
    if attention != "native" and transformer.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"speed: attention {attention!r} takes half precision, the base is {transformer.dtype};"
            " set its precision to bfloat16"
        )
    transformer.set_attention_backend(BACKENDS[attention])
    if compile_blocks:
        torch._functorch.config.activation_memory_budget = activation_budget
        transformer.compile_repeated_blocks(dynamic=False, backend=backend)
