"""Temporal rotary positions of a Wan transformer: which moment each latent frame stands for.

Source: RoFormer (arXiv 2104.09864); the adaptive positions of Follow-Your-Motion (arXiv 2506.05207) are one
use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

_TABLES = ("freqs_cos", "freqs_sin")


@contextmanager
def temporal_rows(model: Any, positions: Sequence[float] | None) -> Iterator[None]:
    """Give latent frame n of `model` the temporal position positions[n], within the context.

    The transformer reads the cosines and sines of latent frame n from row n of two tables, whose first
    columns are time's. Those columns are exchanged, and the tables put back at the end, whatever happens. A
    whole position takes its row of the table, bit for bit; another is embedded as the table was. None:
    nothing is touched. Raises ValueError for more latent frames than the tables have rows, and for positions
    outside them.
    """
    if positions is None:
        yield
        return
    rope = model.rope
    if len(positions) > rope.max_seq_len or not all(0 <= p <= rope.max_seq_len - 1 for p in positions):
        raise ValueError(
            f"rotary: {len(positions)} latent frames at positions {min(positions, default=0):g} to"
            f" {max(positions, default=0):g} do not fit the {rope.max_seq_len} positions of this base;"
            " take a shorter window"
        )
    tables = {name: getattr(rope, name) for name in _TABLES}
    try:
        for name, rows in zip(_TABLES, _rows(rope, positions)):
            moved = tables[name].clone()
            moved[: len(positions), : rope.t_dim] = rows
            setattr(rope, name, moved)
        yield
    finally:
        for name, table in tables.items():
            setattr(rope, name, table)


def _rows(rope: Any, positions: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return time's columns [n, t_dim] of the cosines and of the sines."""
    at = torch.tensor(list(positions), dtype=torch.float64, device=rope.freqs_cos.device)
    whole = at == at.round()
    embedded = get_1d_rotary_pos_embed(
        rope.t_dim, at, use_real=True, repeat_interleave_real=True, freqs_dtype=torch.float64
    )
    found = []
    for name, real in zip(_TABLES, embedded):
        table = getattr(rope, name)[:, : rope.t_dim]
        found.append(torch.where(whole[:, None], table[at.round().long()], real.to(table)))
    return found[0], found[1]
