"""From sigma to sigma': how a corrected clean estimate enters the next latents, on Euler's grid.

All functions take latents and velocity [B, z, T', h, w] float32, the model's velocity before correction, and
delta, the move of the clean estimate. With delta 0 and no noise all of them are Euler's step, bit for bit.
The velocity transition is none of them: it goes through the scheduler, and adds (1 - sigma'/sigma) delta.
"""

import math

import torch
from torch import Tensor

from recapture.models.inverse.consistency import Noise, known, noise_like
from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.wan.sampling import Step


def euler(latents: Tensor, velocity: Tensor, step: Step) -> Tensor:
    """Step as `FlowMatchEulerDiscreteScheduler.step` does."""
    return latents + (step.next_sigma - step.sigma) * velocity


def ddim(
    latents: Tensor,
    velocity: Tensor,
    delta: Tensor,
    step: Step,
    generator: Noise,
    *,
    eta: float = 0.0,
) -> Tensor:
    """Return (1 - s') (x0 + delta) + s' (sqrt(1 - eta^2) e + eta xi), s' = sigma': DDS on a flow.

    e is the noise that the model sees in the latents, xi fresh (not drawn if eta is 0 or sigma' is).
    Source: DDS (arXiv 2303.05754).
    """
    moved = euler(latents, velocity, step) + (1 - step.next_sigma) * delta
    if eta == 0 or step.next_sigma == 0:
        return moved
    seen = latents + (1 - step.sigma) * velocity
    fresh = noise_like(latents, generator)
    return moved + step.next_sigma * ((math.sqrt(1 - eta**2) - 1) * seen + eta * fresh)


def flow_posterior_sampling(
    latents: Tensor, velocity: Tensor, delta: Tensor, step: Step, generator: Noise
) -> Tensor:
    """Step by `ddim` with noise sqrt(sigma') e + sqrt(1 - sigma') xi: FlowDPS (arXiv 2503.08136)."""
    return ddim(latents, velocity, delta, step, generator, eta=math.sqrt(1 - step.next_sigma))


def direct(latents: Tensor, velocity: Tensor, delta: Tensor, step: Step, generator: Noise) -> Tensor:
    """Take Euler's step and add all of delta, as gradient guidance does (FlowChef, PSLD)."""
    return euler(latents, velocity, step) + delta


def blended(
    latents: Tensor,
    velocity: Tensor,
    delta: Tensor,
    step: Step,
    generator: Noise,
    *,
    measurement: LatentMeasurement,
) -> Tensor:
    """Take Euler's step, then replace known latents (m > 0.5) by the measurement, noised to sigma'.

    Source: Blended Latent Diffusion (arXiv 2206.02779) and RePaint (arXiv 2201.09865).
    """
    measurement.check(latents)
    noise = noise_like(latents, generator)
    noised = (1 - step.next_sigma) * measurement.latents + step.next_sigma * noise
    return torch.where(known(measurement), noised, euler(latents, velocity, step) + delta)


def jump_back(latents: Tensor, step: Step, generator: Noise) -> Tensor:
    """Return to sigma from latents at sigma' < sigma: a x + b xi with a = (1-sigma) / (1-sigma').

    b^2 = sigma^2 - a^2 sigma'^2, so that noise of deviation sigma' becomes noise of sigma. RePaint's
    resampling, one step at a time, on a flow. With sigma 1 nothing of the latents is left.
    """
    share = (1 - step.sigma) / (1 - step.next_sigma)
    deviation = math.sqrt(max(0.0, step.sigma**2 - (share * step.next_sigma) ** 2))
    return share * latents + deviation * noise_like(latents, generator)
