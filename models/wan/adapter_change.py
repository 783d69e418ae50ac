"""What an adapter changes in a transformer, whoever made the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["", "high", "low"]  # the transformer of Wan2.2 that a file names; "": none


class AdapterError(ValueError):
    """An adapter that is damaged, of another base, or of another kind than LoRA."""


@dataclass(frozen=True)
class Change:
    """One change of one parameter of a transformer."""

    parameter: str  # diffusers' name: 'blocks.0.attn1.to_q.weight'
    part: Part
    keys: tuple[str, ...]  # tensors of the file: (A, B) of LoRA, or (difference,)
    shapes: tuple[tuple[int, ...], ...]
    factor: float = 1.0  # alpha / rank

    @property
    def low_rank(self) -> bool:
        """Return whether this is B A, not a difference."""
        return len(self.keys) == 2

    @property
    def module(self) -> str:
        """Return the name of the parameter's module."""
        return self.parameter.rpartition(".")[0]
