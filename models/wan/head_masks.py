"""Adapters of chosen attention heads: a LoRA whose rows and columns of the other heads are held at zero.

With dW = B A, head h of a projection to queries, keys or values owns the rows h d ... (h+1) d of B, and head
h of the projection out of attention the columns h d ... (h+1) d of A. Zeros elsewhere make an ordinary
adapter exactly that of a layer that is split by heads, without surgery on modules, and two adapters of
complementary heads add up. Isolation is approximate all the same: the norm of queries and keys is an RMS over
all heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from recapture.models.wan.lora import adapter_parameters

Projections = Literal["q,k", "q,k,v", "q,k,v,o"]
_LAYERS = {"q": "attn1.to_q", "k": "attn1.to_k", "v": "attn1.to_v", "o": "attn1.to_out.0"}


def self_attention(projections: Projections) -> tuple[str, ...]:
    """Return the targets of `add_lora` for these projections of self-attention alone.

    With queries and keys alone an adapter cannot store appearance in the values (arXiv 2501.16714).
    """
    return tuple(_LAYERS[one] for one in projections.split(","))


def head_masks(
    transformer: Any,
    heads: Tensor,  # [blocks, H] bool, the heads that the adapter may change
    name: str = "default",
) -> dict[str, Tensor]:
    """Return which entries of an adapter are free: bool by parameter name, True where it belongs to `heads`.

    lora_A of queries, keys and values and lora_B of the output are shared by all heads and wholly free.
    Raises ValueError for an adapter of other layers than self-attention, and for heads of another base.
    """
    config = transformer.config
    shape = (config.num_layers, config.num_attention_heads)
    if heads.shape != shape or heads.dtype != torch.bool:
        raise ValueError(
            f"heads: {heads.dtype} {list(heads.shape)} for a base of {shape[0]} blocks with {shape[1]} heads;"
            f" give bool {list(shape)}, found on this base"
        )
    masks = {}
    for key, parameter in adapter_parameters(transformer, name).items():
        layer, _, part = key.partition(".lora_")
        _, block, module = layer.split(".", 2)
        if module not in _LAYERS.values():
            raise ValueError(
                f"heads: {layer!r} is no projection of self-attention; leave it out of the adapter"
            )
        own = heads[int(block)].repeat_interleave(config.attention_head_dim).to(parameter.device)
        free = torch.ones_like(parameter, dtype=torch.bool)
        if module == _LAYERS["o"]:
            free = own[None, :].expand_as(parameter).clone() if part.startswith("A") else free
        elif part.startswith("B"):
            free = own[:, None].expand_as(parameter).clone()
        masks[key] = free
    return masks


@torch.no_grad()
def zero_outside(transformer: Any, masks: Mapping[str, Tensor], name: str = "default") -> None:
    """Set what the masks do not leave free to exactly zero, as a training of these heads starts."""
    parameters = adapter_parameters(transformer, name)
    for key, free in masks.items():
        parameters[key].mul_(free)


def heads_note(heads: Tensor) -> str:
    """Return heads [blocks, H] as the note of an adapter file: one word of 0 and 1 per block."""
    return " ".join("".join(str(int(one)) for one in block) for block in heads)


def heads_of_note(note: str) -> Tensor:
    """Return heads [blocks, H] bool of `heads_note`."""
    return torch.tensor([[letter == "1" for letter in block] for block in note.split()])
