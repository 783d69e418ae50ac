"""Which attention heads look at other frames: shares of attention per head, and a split into two groups.

Wan's self-attention mixes space and time in every head. Follow-Your-Motion (arXiv 2506.05207) sorts heads
into spatial and temporal ones by templates of the attention map; here by the share of attention on other
frames, of sampled query rows, so that no map of all tokens by all tokens is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recapture.models.tuning.examples import Example, stack
from recapture.models.tuning.step import Drawn, predicted
from recapture.models.wan.load import Base
from recapture.models.wan.norm_rotate import rotated

HeadRule = Literal["all", "half", "chance", "paper", "released", "random", "inverted"]
PAPER_BIAS = 1.25  # temporal where the spatial similarity is below this times the temporal one
RELEASED_BIAS = 1.3  # spatial where the temporal mass is below this times the spatial one
BAND = 128 / 1560  # width of the bands of the published templates, in frames of Wan at 480x832


_MEASURES = (
    *("other_frames", "same_frame", "same_position"),
    *("space_cosine", "time_cosine", "space_mass", "time_mass"),
)


@dataclass(frozen=True)
class HeadShares:
    """What each head of each block attends to: float32 [blocks, heads], means over query rows.

    The first three leave the query's own token out. A lift is the share over that of uniform attention.
    """

    other_frames: Tensor  # share of attention on tokens of other frames
    same_frame: Tensor  # lift of the query's own frame
    same_position: Tensor  # lift of the query's position in other frames
    space_cosine: Tensor  # of the rows with the template of their own frame
    time_cosine: Tensor  # of the rows with a band around their position in other frames
    space_mass: Tensor  # attention on these templates
    time_mass: Tensor
    chance: float  # other_frames of uniform attention


@dataclass(frozen=True)
class _Rows:
    """Sampled query rows, and which tokens each kind of template holds for them."""

    index: Tensor  # [R]
    own: Tensor  # [R, S] bool, the query's own token
    frame: Tensor  # [R, S] bool, its frame
    position: Tensor  # [R, S] bool, its position in other frames
    band: Tensor  # [R, S] bool, a band around its position in other frames


@torch.no_grad()
def head_shares(
    base: Base,
    examples: Sequence[Example],
    *,
    sigmas: Sequence[float],
    rows: int,  # sampled query rows per example and noise level
    random: torch.Generator,
) -> HeadShares:
    """Measure the heads of a base on encoded windows, noised to each of the levels.

    Give it examples of the mode that will be tuned: under another mask a tenth of the heads changes sides.
    Queries and keys are read behind their norms and rotated with the model's own positions. Raises ValueError
    for a window of one latent frame, and for a base whose attention does not call its norms (a fused kernel).
    """
    model = base.transformer
    sums: list[Tensor] = []
    chances = []
    for example in examples:
        _, length, height, width = example.clean.shape
        patch = model.config.patch_size
        tokens = (height // patch[1]) * (width // patch[2])
        if length < 2:
            raise ValueError(
                "heads: a window of one latent frame has no other frames; take at least 5 frames"
            )
        chances.append((length - 1) * tokens / (length * tokens - 1))
        for sigma in sigmas:
            drawn = torch.randperm(length * tokens, generator=random, device=random.device)[:rows]
            chosen = _rows(drawn.to(base.device), length, tokens)
            noise = torch.randn(1, *example.clean.shape, generator=random, device=random.device)
            level = torch.full((1,), sigma, device=base.device)
            found: list[Tensor] = []
            with _watched(model, chosen, found):
                predicted(base, Drawn(stack([example], base.device), level, noise.to(base.device)))
            if len(found) != len(model.blocks):
                raise ValueError(
                    "heads: this base's attention does not call its norms; load it without compiled blocks"
                )
            sums.append(torch.stack(found))
    mean = torch.stack(sums).mean(0).cpu()  # [blocks, 7, heads]
    measures = dict(zip(_MEASURES, mean.unbind(1)))
    return HeadShares(**measures, chance=sum(chances) / len(chances))


def heads_by_share(shares: HeadShares, rule: HeadRule, random: torch.Generator | None = None) -> Tensor:
    """Return which heads are temporal: bool [blocks, heads].

    half: the upper half of each block by attention on other frames, so that no group of a block is empty;
    inverted: the lower half; random: a random half of each block, drawn by `random`. chance: more attention
    on other frames than uniform attention has. paper, released: the rules of Follow-Your-Motion's text and of
    its public training code, whose templates are restated here: the query's own frame, and bands around its
    position in other frames. These three may leave a group of a block empty. all: every head.
    """
    share = shares.other_frames
    if rule == "all":
        return torch.ones_like(share, dtype=torch.bool)
    if rule == "chance":
        return share > shares.chance
    if rule == "paper":
        return shares.space_cosine < PAPER_BIAS * shares.time_cosine
    if rule == "released":
        return shares.time_mass >= RELEASED_BIAS * shares.space_mass
    if rule == "random":
        if random is None:
            raise ValueError("heads: the rule 'random' needs a generator")
        share = torch.rand(share.shape, generator=random)
    rank = share.argsort(dim=1, descending=True, stable=True).argsort(1)
    upper = rank < (share.shape[1] + 1) // 2
    return ~upper if rule == "inverted" else upper


def _rows(index: Tensor, length: int, tokens: int) -> _Rows:
    """Describe query rows `index` of a window of `length` frames of `tokens` tokens."""
    every = torch.arange(length * tokens, device=index.device)
    same = every[None] // tokens == index[:, None] // tokens
    offset = every[None] % tokens - index[:, None] % tokens
    band = offset.abs() <= max(1, round(BAND * tokens / 2))
    return _Rows(index, every[None] == index[:, None], same, ~same & (offset == 0), ~same & band)


@contextmanager
def _watched(model: Any, rows: _Rows, found: list[Tensor]) -> Iterator[None]:
    """Measure every block's self-attention while the model runs; `found` gets [7, heads] of each."""
    seen: dict[str, Any] = {}

    def rope(module: Any, given: Any, output: tuple[Tensor, Tensor]) -> None:
        seen["rope"] = output

    def query(module: Any, given: Any, output: Tensor) -> None:
        seen["query"] = output

    def key(module: Any, given: Any, output: Tensor) -> None:
        found.append(_measured(seen.pop("query"), output, seen["rope"], model, rows))

    handles = [model.rope.register_forward_hook(rope)]
    for block in model.blocks:
        handles.append(block.attn1.norm_q.register_forward_hook(query))
        handles.append(block.attn1.norm_k.register_forward_hook(key))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _measured(query: Tensor, key: Tensor, rope: tuple[Tensor, Tensor], model: Any, rows: _Rows) -> Tensor:
    """Return the measures [7, heads] of one layer from queries and keys [1, S, C] behind their norms."""
    heads = model.config.num_attention_heads
    cos, sin = (table.float() for table in rope)
    query = rotated(
        query[:, rows.index].float().unflatten(2, (heads, -1)), cos[:, rows.index], sin[:, rows.index]
    )
    key = rotated(key.float().unflatten(2, (heads, -1)), cos, sin)
    measures = []
    for head in range(heads):  # one at a time: [R, S] and no more
        attention = (query[0, :, head] @ key[0, :, head].T / query.shape[-1] ** 0.5).softmax(-1)
        measures.append(_of_rows(attention, rows))
    return torch.stack(measures, dim=1)


def _of_rows(attention: Tensor, rows: _Rows) -> Tensor:
    """Return the seven measures of attention rows [R, S], in the order of `HeadShares`."""

    def mass(where: Tensor) -> Tensor:
        return (attention * where).sum(1)

    rest = 1 - mass(rows.own)
    others, tokens = rows.own.shape[1] - 1, rows.frame.sum(1)
    frame = (mass(rows.frame) - mass(rows.own)) / rest / ((tokens - 1).clamp_min(1) / others)
    position = mass(rows.position) / rest / (rows.position.sum(1) / others)
    size = attention.norm(dim=1)
    cosines = [(mass(where) / (size * where.sum(1).sqrt())).mean() for where in (rows.frame, rows.band)]
    masses = [mass(where).mean() for where in (rows.frame, rows.band)]
    return torch.stack([(mass(~rows.frame) / rest).mean(), frame.mean(), position.mean(), *cosines, *masses])
