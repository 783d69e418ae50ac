"""Training steps of small models as CUDA graphs: their kernels are shorter than the time to launch them.

A step is recorded once for every shape of batch and then replayed; what it computes is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Forward = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]  # -> the loss, and what else to log
_WARM_UPS = 3


@dataclass(frozen=True)
class _Recorded:
    graph: Any
    batch: dict[str, Tensor]
    loss: Tensor
    parts: dict[str, Tensor]


class CapturedPass:
    """Loss and gradients of a batch on a GPU. Gradients are added up in place, in `.grad`, from zero."""

    def __init__(self, forward: Forward, parameters: list[nn.Parameter]) -> None:
        self._forward = forward
        self._gradients = []
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
                self._gradients.append(parameter.grad)
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}
        self._pool: Any = None

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and what else to log; both are overwritten by the next call."""
        key = tuple((name, tensor.shape, tensor.dtype) for name, tensor in batch.items())
        if key not in self._recorded:
            self._recorded[key] = self._record(batch)
        step = self._recorded[key]
        for name, tensor in batch.items():
            step.batch[name].copy_(tensor)
        step.graph.replay()
        return step.loss, step.parts

    def _once(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        torch._foreach_zero_(self._gradients)
        loss, parts = self._forward(batch)
        loss.backward()
        return loss.detach(), {name: part.detach() for name, part in parts.items()}

    def _record(self, batch: Batch) -> _Recorded:
        kept = {name: tensor.clone() for name, tensor in batch.items()}
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._once(kept)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            loss, parts = self._once(kept)
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, kept, loss, parts)


class CapturedUpdate:
    """An update of the weights without arguments: run once as it is, recorded the second time."""

    def __init__(self, update: Callable[[], Tensor]) -> None:
        self._update = update
        self._calls = 0
        self._graph: Any = None
        self._result = torch.empty(0)

    def __call__(self) -> Tensor:
        """Update the weights; return what the update returns, which the next call overwrites."""
        self._calls += 1
        if self._calls == 1:
            return self._update()
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = self._update()
        self._graph.replay()
        return self._result
