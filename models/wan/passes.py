"""How many passes through its transformers a base makes: what a sampling costs, whatever the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recapture.models.wan.load import Base


class Passes:
    """A number of passes through a base's transformers."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, module: object, arguments: object, given: Mapping[str, Any]) -> None:
        """Count a call; `given` are the keywords of the transformer's forward."""
        self.count += len(given["hidden_states"])


@contextmanager
def counted_passes(base: Base) -> Iterator[Passes]:
    """Count the passes within the context; a batch of two, as guidance may make it, counts as two."""
    passes = Passes()
    transformers = filter(None, (base.transformer, base.transformer_2))
    hooks = [one.register_forward_pre_hook(passes.add, with_kwargs=True) for one in transformers]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()
