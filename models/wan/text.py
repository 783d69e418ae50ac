"""Prompt embeddings as the stock Wan pipelines compute them."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

from recapture.models.wan.load import Base


@dataclass(frozen=True)
class Text:
    """The embedded prompt and, for guidance, the embedded negative prompt."""

    prompt: Tensor  # [1, L, text_dim]
    negative: Tensor | None = None  # [1, L, text_dim]


def encode_text(base: Base, prompt: str, negative_prompt: str | None = "") -> Text:
    """Embed a prompt and a negative prompt (None: none, for sampling without guidance).

    Cleaning is diffusers' own `prompt_clean`; padding after the last token is zeros. The length is
    `base.text_length`; what is over is left out, as in every Wan pipeline (see `surplus_tokens`). Raises
    ValueError for a base that was loaded without its text encoder.
    """
    if base.text_encoder is None or base.tokenizer is None:
        raise ValueError("base: it was loaded without text encoder and tokenizer; give `Text` embeddings")
    prompts = [prompt] if negative_prompt is None else [prompt, negative_prompt]
    embedded = [_embed(base.text_encoder, base.tokenizer, p, base.text_length) for p in prompts]
    return Text(*embedded)


def surplus_tokens(base: Base, prompt: str) -> int:
    """Return how many tokens of a prompt are over `base.text_length`, which `encode_text` leaves out.

    The token that ends every prompt counts as one, and always stays.
    """
    count = len(base.tokenizer(prompt_clean(prompt), verbose=False).input_ids)
    return max(0, count - base.text_length)


@torch.no_grad()
def _embed(encoder: Any, tokenizer: Any, prompt: str, length: int) -> Tensor:
    tokens = tokenizer(
        [prompt_clean(prompt)],
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    given = tokens.attention_mask.to(encoder.device)
    embedded: Tensor = encoder(tokens.input_ids.to(encoder.device), given).last_hidden_state
    count = int(given.gt(0).sum())
    return torch.cat([embedded[:, :count], torch.zeros_like(embedded[:, count:])], dim=1)
