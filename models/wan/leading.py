"""A solver for the clip alone, where latent frames of a reference picture are sampled before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def behind_leading(solver: Any, count: int) -> Any:
    """Return a solver of `sampling.py` that acts behind the first `count` latent frames."""
    return (_Stepping if hasattr(solver, "advance") else _Behind)(solver, count)


class _Behind:
    """Corrects the velocity of the clip; that of the leading frames stays as it is."""

    def __init__(self, solver: Any, count: int) -> None:
        self._solver, self._count = solver, count

    def correct(self, latents: Tensor, velocity: Tensor, step: Any) -> Tensor:
        """See `Solver`."""
        found = self._solver.correct(latents[:, :, self._count :], velocity[:, :, self._count :], step)
        return self._with(velocity, found)

    def _with(self, leading: Tensor, clip: Tensor) -> Tensor:
        return torch.cat([leading[:, :, : self._count], clip], dim=2)


class _Stepping(_Behind):
    """Also takes the steps of the clip; the leading frames take those of Euler."""

    def visits(self, step: Any) -> int:
        """See `SteppingSolver`."""
        visits: int = self._solver.visits(step)
        return visits

    def advance(self, latents: Tensor, velocity: Tensor, corrected: Tensor, step: Any) -> Tensor:
        """See `SteppingSolver`."""
        self._before = latents
        clip = [one[:, :, self._count :] for one in (latents, velocity, corrected)]
        euler = latents + (step.next_sigma - step.sigma) * velocity
        return self._with(euler, self._solver.advance(*clip, step))

    def go_back(self, latents: Tensor, step: Any) -> Tensor:
        """See `SteppingSolver`."""
        return self._with(self._before, self._solver.go_back(latents[:, :, self._count :], step))
