"""The motion term: adjacent latent frames must change as the reference's do.

Follow-Your-Motion (arXiv 2506.05207) adds the cosine of adjacent differences to flow matching. Its public
training code takes absolute velocities (as VMC's does, arXiv 2312.00845), which cannot tell left from right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recapture.models.tuning.objective import add_noise
from recapture.models.tuning.step import Drawn

MotionLoss = Literal["none", "signed", "released"]


@dataclass(frozen=True)
class MotionTerm:
    """An addition to flow matching, times `weight`.

    signed: 1 - cosine of the differences of the clean estimate and of the truth. released: that of the
    absolute differences of the velocities along time, for comparison.
    """

    kind: MotionLoss
    weight: float

    def __call__(self, drawn: Drawn, velocity: Tensor) -> Tensor:
        """Return each sample's term [B], from the predicted velocity [B, z, t, h, w]."""
        clean = drawn.batch.clean
        if self.kind == "none" or clean.shape[2] < 2:
            return velocity.new_zeros(len(velocity))
        if self.kind == "released":
            return self.weight * absolute_velocity_term(velocity, drawn.noise - clean)
        level = drawn.sigma.view(-1, 1, 1, 1, 1)
        estimate = add_noise(clean, drawn.noise, drawn.sigma) - level * velocity
        return self.weight * signed_term(estimate, clean, drawn.hole)


def signed_term(
    estimate: Tensor,  # [B, z, t, h, w] the clean estimate
    clean: Tensor,  # [B, z, t, h, w]
    hole: Tensor,  # [B, t, h, w] bool, True where unknown
) -> Tensor:
    """Return [B]: the mean over adjacent latent frames of 1 - cos(their difference, the true one).

    The cosine is over channels and over the positions that are unknown in one of the two; what is known
    enters with its true value, so no gradient goes into it. Pairs without unknown latents count nothing.
    """
    estimate = torch.where(hole[:, None], estimate, clean)
    unknown = hole[:, 1:] | hole[:, :-1]
    made, true = ((_changes(one) * unknown[:, :, None]).flatten(2) for one in (estimate, clean))
    cosine = torch.nn.functional.cosine_similarity(made, true, dim=2)
    counted = unknown.flatten(2).any(2)
    return ((1 - cosine) * counted).sum(1) / counted.sum(1).clamp_min(1)


def absolute_velocity_term(velocity: Tensor, true: Tensor) -> Tensor:
    """Return [B]: 1 - the mean cosine along time of absolute differences of velocities [B, z, t, h, w]."""
    made, wanted = (one.diff(dim=2).abs() for one in (velocity, true))
    cosine = torch.nn.functional.cosine_similarity(made, wanted, dim=2)
    return 1 - cosine.flatten(1).mean(1)


def _changes(latents: Tensor) -> Tensor:
    """Return the differences of adjacent latent frames [B, t - 1, z, h, w]."""
    return latents.diff(dim=2).transpose(1, 2)
