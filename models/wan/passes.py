"""How many passes through its transformers a base makes: what a sampling costs, whatever the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recapture.models.wan.load import Base


class Passes:
    """A number of passes through a base's transformers."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, *unused: object) -> None:
        """Count one more."""
        self.count += 1


@contextmanager
def counted_passes(base: Base) -> Iterator[Passes]:
    """Count the passes within the context; a pass of a batch is one."""
    passes = Passes()
    transformers = filter(None, (base.transformer, base.transformer_2))
    hooks = [one.register_forward_pre_hook(passes.add) for one in transformers]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()
