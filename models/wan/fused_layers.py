"""Layers of a Wan transformer computed with fewer kernels: what the plain layers compute, up to rounding.

Norm and rotary embedding of queries and keys are one kernel, and the feed-forward's GELU is computed where
its product is written. Layers are called as they are: adapters on them and quantised weights count. One
product for query, key and value gains nothing at these sizes (benchmarks/base_speed.md).
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers.models.activations import GELU
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from recapture.models.wan.norm_rotate import kernel_works, norm_rotate, rotated

IMAGE_TEXT_LENGTH = 512  # text tokens beside an image branch; diffusers assumes exactly this many


def fuse_layers(transformer: Any) -> None:
    """Make attention and feed-forward layers of a transformer use fewer kernels; idempotent."""
    for module in transformer.modules():
        if isinstance(module, WanAttention):
            processor = FusedAttention()
            processor._attention_backend = module.processor._attention_backend
            processor._parallel_config = module.processor._parallel_config
            module.set_processor(processor)
        elif isinstance(module, GELU) and module.approximate == "tanh":
            module.forward = MethodType(_linear_gelu, module)


class FusedAttention(WanAttnProcessor):
    """The attention of Wan's blocks; see the module. Signature and result are `WanAttnProcessor`'s."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = kernel_works()

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,  # [B, S, C]
        encoder_hidden_states: Tensor | None = None,  # [B, L, C] text, for cross-attention
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,  # each [1, S, 1, C / heads]
    ) -> Tensor:
        image = None
        if attn.add_k_proj is not None and encoder_hidden_states is not None:
            tokens = encoder_hidden_states.shape[1] - IMAGE_TEXT_LENGTH
            image, encoder_hidden_states = (
                encoder_hidden_states[:, :tokens],
                encoder_hidden_states[:, tokens:],
            )
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = self._normed(attn.norm_q, attn.to_q(hidden_states), attn.heads, rotary_emb)
        key = self._normed(attn.norm_k, attn.to_k(source), attn.heads, rotary_emb)
        value = attn.to_v(source).unflatten(2, (attn.heads, -1))
        parallel = self._parallel_config if encoder_hidden_states is None else None
        attended = self._attend(query, key, value, attention_mask, parallel)
        if image is not None:
            image_key = attn.norm_added_k(attn.add_k_proj(image)).unflatten(2, (attn.heads, -1))
            image_value = attn.add_v_proj(image).unflatten(2, (attn.heads, -1))
            attended = attended + self._attend(query, image_key, image_value, None, None)
        return attn.to_out[1](attn.to_out[0](attended))

    def _normed(self, norm: Any, source: Tensor, heads: int, rotary: Any) -> Tensor:
        """Return query or key [B, S, N, D] after its norm and, in self-attention, the rotary embedding."""
        if rotary is None:
            return norm(source).unflatten(2, (heads, -1))
        if self.kernel and source.is_cuda and not torch.is_grad_enabled():
            return norm_rotate(source, norm.weight, norm.eps, *rotary)
        return rotated(norm(source).unflatten(2, (heads, -1)), *rotary)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Any, parallel: Any) -> Tensor:
        attended: Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=0.0,
            is_causal=False,
            backend=self._attention_backend,
            parallel_config=parallel,
        )
        return attended.flatten(2, 3).type_as(query)


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer is a linear one and nothing else: no adapter on it, no quantised weight."""
    return type(layer) is nn.Linear and type(layer.weight) is nn.Parameter


def _linear_gelu(module: GELU, hidden: Tensor) -> Tensor:
    """Return gelu(proj(hidden)) by the tanh formula, in one kernel on CUDA where no gradient is needed."""
    if torch.is_grad_enabled() or not is_plain(module.proj) or not hidden.is_cuda:
        return GELU.forward(module, hidden)
    return linear_gelu(hidden, module.proj.weight, module.proj.bias)


@torch.library.custom_op("recapture::linear_gelu", mutates_args=())
def linear_gelu(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return gelu(hidden weight^T + bias) by the tanh formula. hidden: [..., I]; weight: [O, I].

    cuBLASLt applies the function to its float32 sums, so one rounding less than product, then GELU.
    """
    if not hidden.is_cuda:
        return gelu(linear(hidden, weight, bias), approximate="tanh")
    flat = hidden.reshape(-1, hidden.shape[-1])
    product = torch._addmm_activation(bias, flat, weight.t(), use_gelu=True)
    return product.view(*hidden.shape[:-1], len(weight))


@linear_gelu.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return hidden.new_empty(*hidden.shape[:-1], len(weight))
