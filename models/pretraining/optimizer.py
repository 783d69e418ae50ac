"""Muon for matrices and AdamW for the rest, in one optimizer whose state is a flat dict of tensors.

torch.optim.Muon takes two-dimensional parameters only; here every time tap of a convolution is a matrix of
its own, and matrices of one shape are orthogonalised together. Muon: Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon; the step's size is matched to AdamW's as in Liu et al. 2025,
arXiv:2502.16982, so that one learning rate serves both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonAdamW:
    """Steps named parameters; `is_matrix` says which go by Muon, the rest go by AdamW."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        is_matrix: Callable[[str, Tensor], bool],
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-4,
        clip: float = 1.0,
    ) -> None:
        self._parameters = dict(parameters)
        self._matrices = [name for name, p in self._parameters.items() if is_matrix(name, p)]
        self._others = [name for name in self._parameters if name not in set(self._matrices)]
        self._momentum, self._betas, self._decay, self._clip = momentum, betas, weight_decay, clip
        self._state: dict[str, Tensor] = {}
        for name in self._matrices:
            self._state[f"momentum.{name}"] = torch.zeros_like(self._parameters[name])
        for name in self._others:
            self._state[f"first.{name}"] = torch.zeros_like(self._parameters[name])
            self._state[f"second.{name}"] = torch.zeros_like(self._parameters[name])
        self._steps = 0
        like = next(iter(self._parameters.values()))
        self._rates = {name: like.new_zeros(()) for name in ("matrix", "first", "second", "kept")}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> Tensor:
        """Update every parameter that has a gradient; return the gradients' norm before clipping."""
        self.prepare(rate)
        return self.update()

    def prepare(self, rate: float) -> None:
        """Count a step, and put what differs between steps where `update` reads it."""
        self._steps += 1
        one, two = self._betas
        self._rates["matrix"].fill_(rate)
        self._rates["first"].fill_(rate / (1 - one**self._steps))
        self._rates["second"].fill_((1 - two**self._steps) ** 0.5)
        self._rates["kept"].fill_(1 - rate * self._decay)

    @torch.no_grad()
    def update(self) -> Tensor:
        """Update as `step` does, after `prepare`; on a GPU it launches kernels only, and can be recorded."""
        gradients = {n: p.grad for n, p in self._parameters.items() if p.grad is not None}
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients.values()))))
        torch._foreach_mul_(list(gradients.values()), (self._clip / norm.clamp_min(self._clip)))
        self._step_matrices([n for n in self._matrices if n in gradients], gradients)
        self._step_others([n for n in self._others if n in gradients], gradients)
        return norm

    def _step_matrices(self, names: list[str], gradients: Mapping[str, Tensor]) -> None:
        if not names:
            return
        buffers = [self._state[f"momentum.{name}"] for name in names]
        given = [gradients[name] for name in names]
        torch._foreach_mul_(buffers, self._momentum)
        torch._foreach_add_(buffers, given)
        updates = list(torch._foreach_add(given, buffers, alpha=self._momentum))
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, update in enumerate(updates):
            groups[tuple(update.shape)].append(index)
        for shape, members in groups.items():
            stack = as_matrices(torch.stack([updates[index] for index in members]))
            size = 0.2 * max(stack.shape[-2:]) ** 0.5
            steps = from_matrices(orthogonalise(stack) * size, shape)
            for index, step in zip(members, steps):
                updates[index] = step.to(updates[index])
        torch._foreach_mul_(updates, self._rates["matrix"])
        torch._foreach_sub_([self._parameters[name] for name in names], updates)

    def _step_others(self, names: list[str], gradients: Mapping[str, Tensor]) -> None:
        if not names:
            return
        one, two = self._betas
        given = [gradients[name] for name in names]
        parameters: list[Tensor] = [self._parameters[name] for name in names]
        first = [self._state[f"first.{name}"] for name in names]
        second = [self._state[f"second.{name}"] for name in names]
        torch._foreach_lerp_(first, given, 1 - one)
        torch._foreach_mul_(second, two)
        torch._foreach_addcmul_(second, given, given, 1 - two)
        below = torch._foreach_sqrt(second)
        torch._foreach_div_(below, self._rates["second"])
        torch._foreach_add_(below, 1e-8)
        torch._foreach_mul_(parameters, self._rates["kept"])
        moves = torch._foreach_div(first, below)
        torch._foreach_mul_(moves, self._rates["first"])
        torch._foreach_sub_(parameters, moves)

    def state(self) -> dict[str, Tensor]:
        """Return the state to resume from, by name; `steps` counts the updates made."""
        return {**self._state, "steps": torch.tensor(self._steps)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned; raises KeyError naming a missing tensor."""
        for name, tensor in self._state.items():
            tensor.copy_(state[name])
        self._steps = int(state["steps"])


def as_matrices(stack: Tensor) -> Tensor:
    """Reshape [n, out, in, time, ...] to [n, time, out, in * rest]; without a time axis there is one."""
    if stack.ndim == 6:
        return stack.permute(0, 3, 1, 2, 4, 5).flatten(3)
    return stack.flatten(2)[:, None]


def from_matrices(stack: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Invert as_matrices for parameters of this shape."""
    if len(shape) == 5:
        _, into, _, *rest = shape
        return stack.unflatten(3, (into, *rest)).permute(0, 2, 3, 1, 4, 5)
    return stack[:, 0].reshape(-1, *shape)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return about U V^T of each matrix [..., m, n] (Newton-Schulz); singular values in [0.7, 1.2]."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
