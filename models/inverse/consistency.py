"""Data consistency in latent space: how far to move the clean estimate towards the measurement.

Each function is given clean [B, z, T', h, w] float32, the estimate x0 at the step, and returns the move of
the same shape, exactly 0 where nothing is known. All are elementwise but `conjugate_gradient`, which sums
over a sample, and `adaptive_replacement`, which sorts a frame. None calls the VAE.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.wan.sampling import Step

Noise = torch.Generator | Sequence[torch.Generator]  # of all samples, or of each its own
KNOWN = 0.5  # a latent is known, to solvers that take a binary mask, above this weight


def replacement(clean: Tensor, measurement: LatentMeasurement, step: Step) -> Tensor:
    """Return m (y - x0): soft replacement."""
    measurement.check(clean)
    return measurement.mask * (measurement.latents - clean)


def binary_replacement(clean: Tensor, measurement: LatentMeasurement, step: Step) -> Tensor:
    """Return y - x0 where m > 0.5: DDNM's null-space method (arXiv 2212.00490) for a mask."""
    measurement.check(clean)
    return torch.where(known(measurement), measurement.latents - clean, 0.0)


def proximal(clean: Tensor, measurement: LatentMeasurement, step: Step, *, gamma: float = 5.0) -> Tensor:
    """Return w (y - x0), w = g m^2 / (1 + g m^2): argmin of |x - x0|^2 + g |m (x - y)|^2, g = gamma.

    What the noisy data consistency of DDS (arXiv 2303.05754) comes to when its CG converges on a diagonal
    operator.
    """
    measurement.check(clean)
    weight = gamma * measurement.mask**2
    return weight / (1 + weight) * (measurement.latents - clean)


def motion(
    clean: Tensor, measurement: LatentMeasurement, step: Step, *, rate: float = 0.25, anchor: float = 0.25
) -> Tensor:
    """Return minus `rate` times the gradient of |D x - D y|^2 / 2 + anchor |x - y|^2 / 2 at x = x0.

    D: differences of adjacent latent frames, times the weights of both; the second term times m. The
    measurement is a reference whose motion is to be followed; no gradient goes through the model. Up to a
    rate of 1/2 / (1 + anchor / 4) the step lowers both sums. Source: FlowMotion (CVPR 2026), whose weights
    are 4 on the estimate and 1 on its differences, in the first fifth of the steps.
    """
    measurement.check(clean)
    error = clean - measurement.latents
    pairs = measurement.mask[:, :, 1:] * measurement.mask[:, :, :-1] * error.diff(dim=2)
    gradient = anchor * measurement.mask * error
    gradient[:, :, 1:] += pairs
    gradient[:, :, :-1] -= pairs
    return -rate * gradient


def conjugate_gradient(
    clean: Tensor,
    measurement: LatentMeasurement,
    step: Step,
    *,
    iterations: int = 5,
    gamma: float | None = None,
    tolerance: float = 1e-10,
) -> Tensor:
    """Return the move that `iterations` of conjugate gradients on m^2 x = m^2 y make from x0.

    Source: DDS (arXiv 2303.05754), on latents. With gamma, on (1 + gamma m^2) x = x0 + gamma m^2 y. A soft
    mask survives without gamma only by stopping early: the least-squares solution is y wherever m > 0, and
    from 2 iterations on weights may pass 1. A sample whose squared residual is at `tolerance` is left as it
    is.
    """
    measurement.check(clean)
    squared = measurement.mask**2
    scale, ridge = (1.0, 0.0) if gamma is None else (gamma, 1.0)
    move = torch.zeros_like(clean)
    residual = scale * squared * (measurement.latents - clean)  # right side less operator at x0
    direction = residual
    energy = _dot(residual, residual)
    for _ in range(iterations):
        going = energy > tolerance
        image = ridge * direction + scale * squared * direction
        length = torch.where(going, energy / torch.where(going, _dot(direction, image), 1.0), 0.0)
        move = move + length * direction
        residual = residual - length * image
        left = _dot(residual, residual)
        direction = residual + torch.where(going, left / torch.where(going, energy, 1.0), 0.0) * direction
        energy = left
    return move


def wiener(clean: Tensor, measurement: LatentMeasurement, step: Step) -> Tensor:
    """Return w (y - x0), w = tau^2 / (tau^2 + s^2) with s^2 the measurement's variance.

    tau^2 = sigma^2 / (sigma^2 + (1 - sigma)^2) is the variance of x0 given the noisy latents, for latents of
    unit variance: w is then the best linear weight if the measurement's errors are independent.
    """
    measurement.check(clean)
    if measurement.variance is None:
        raise ValueError(
            "inverse: 'wiener' needs the measurement's variance; build it with mask 'fill_variance'"
        )
    prior = prior_variance(step.sigma)
    return prior / (prior + measurement.variance) * (measurement.latents - clean)


def gradient(clean: Tensor, measurement: LatentMeasurement, step: Step, *, rate: float = 1.0) -> Tensor:
    """Return rate m^2 (y - x0): a gradient step on |m (x0 - y)|^2 / 2 (FlowChef, arXiv 2412.00100).

    Its authors use rates of 0.5 to 0.6, with 30 steps or more.
    """
    measurement.check(clean)
    return rate * measurement.mask**2 * (measurement.latents - clean)


def flow_posterior(clean: Tensor, measurement: LatentMeasurement, step: Step) -> Tensor:
    """Return sigma m (y - x0): FlowDPS (arXiv 2503.08136) trusts y as far as there is noise.

    Its own consistency is three gradient steps through the decoder; this is latent.
    """
    return step.sigma * replacement(clean, measurement, step)


def adaptive_replacement(
    clean: Tensor, measurement: LatentMeasurement, step: Step, *, share: float = 0.8
) -> Tensor:
    """Return y - x0 at the `share` of each frame's known latents where it is smallest (NVS-Solver).

    arXiv 2405.15364, directly guided sampling; there the share follows the step and is at least 0.6.
    """
    measurement.check(clean)
    if not 0 <= share <= 1:
        raise ValueError(f"inverse: a share of {share} of the known latents; use 0 to 1")
    difference = measurement.latents - clean
    seen = known(measurement).expand_as(clean)
    size = torch.where(seen, difference.abs(), float("inf")).transpose(1, 2).flatten(2)
    ordered = torch.cat([size.new_full((*size.shape[:2], 1), -1.0), size.sort(-1).values], -1)
    count = (share * seen.transpose(1, 2).flatten(2).sum(-1, keepdim=True).double()).ceil().long()
    limit = ordered.gather(-1, count)[:, None, :, :, None]
    return torch.where(seen & (difference.abs() <= limit), difference, 0.0)


def langevin(
    clean: Tensor,
    measurement: LatentMeasurement,
    step: Step,
    *,
    generator: Noise,
    noise_level: float = 0.1,
    iterations: int = 20,
    rate: float = 0.3,
) -> Tensor:
    """Run Langevin dynamics on p(x0 | latents, y) where known, in the manner of DAPS (arXiv 2407.01521).

    The target is Gaussian: precision P = 1 / tau^2 + m^2 / noise_level^2 and mean x0 + m^2 (y - x0) /
    (noise_level^2 P), tau as in `wiener`. Each iteration is preconditioned by 1 / P, so that one `rate` below
    2 is stable everywhere: x += rate (mean - x) + sqrt(2 rate / P) noise.
    """
    measurement.check(clean)
    trust = measurement.mask**2 / noise_level**2
    precision = 1 / prior_variance(step.sigma) + trust
    goal = trust / precision * (measurement.latents - clean)
    move = torch.zeros_like(clean)
    for _ in range(iterations):
        move = move + rate * (goal - move) + (2 * rate / precision).sqrt() * noise_like(clean, generator)
    return torch.where(measurement.mask > 0, move, 0.0)


def known(measurement: LatentMeasurement) -> Tensor:
    """Return where a solver that takes a binary mask replaces: bool [1, z, T', h, w]."""
    return measurement.mask > KNOWN


def prior_variance(sigma: float) -> float:
    """Return the variance of x0 ~ N(0, 1) given (1 - sigma) x0 + sigma e."""
    return sigma**2 / (sigma**2 + (1 - sigma) ** 2)


def noise_like(latents: Tensor, generator: Noise) -> Tensor:
    """Draw standard normal noise of the latents' shape, on the generator's device; one per sample, or one."""
    if not isinstance(generator, torch.Generator):
        return torch.cat([noise_like(latents[n : n + 1], one) for n, one in enumerate(generator)])
    return torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).flatten(1).sum(1).view(-1, 1, 1, 1, 1)
