"""Prompt embeddings as the stock Wan pipelines compute them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.models.wan.load import Base

KEPT = 256  # embeddings per base, on the CPU: 4 MB each at Wan's size


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
    prompts = [prompt] if negative_prompt is None else [prompt, negative_prompt]
    embed(base, prompts)
    return Text(*(_recalled(base, prompt).to(base.device) for prompt in prompts))


def embed(base: Base, prompts: Sequence[str]) -> None:
    """Embed prompts for later calls of `encode_text`, in one use of the text encoder; known ones are kept.

    A base remembers the embeddings that were used last, KEPT of them. Raises ValueError as `encode_text`.
    """
    new = [prompt for prompt in dict.fromkeys(prompts[:KEPT]) if _key(base, prompt) not in base.embedded]
    if not new:
        return
    if base.text_encoder is None or base.tokenizer is None:
        raise ValueError("base: it was loaded without text encoder and tokenizer; give `Text` embeddings")
    with _ready(base.text_encoder) as encoder:
        for prompt in beating(new):
            embedded = _embed(encoder, base.tokenizer, prompt, base.text_length)
            base.embedded[_key(base, prompt)] = embedded.cpu()
    while len(base.embedded) > max(KEPT, len(new)):
        base.embedded.pop(next(iter(base.embedded)))


def _recalled(base: Base, prompt: str) -> Tensor:
    """Return an embedding that is kept, as the one used last."""
    found = base.embedded.pop(_key(base, prompt))
    base.embedded[_key(base, prompt)] = found
    return found


def _key(base: Base, prompt: str) -> tuple[str, int]:
    return prompt_clean(prompt), base.text_length


@dataclass(frozen=True)
class StoredEncoder:
    """A text encoder that is loaded when a caption is new, and released after it."""

    load: Callable[[], Any]


@contextmanager
def _ready(encoder: Any) -> Iterator[Any]:
    """Provide a text encoder; a stored one is loaded, and released afterwards."""
    if not isinstance(encoder, StoredEncoder):
        yield encoder
        return
    loaded = encoder.load()
    try:
        yield loaded
    finally:
        del loaded
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


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
