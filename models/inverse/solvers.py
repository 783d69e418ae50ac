"""Training-free solvers for latent inpainting, by name; each is a data consistency and a transition."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from recapture.models.fill.diffusion import MakeSolver
from recapture.models.inverse import consistency, pixel_space, transitions
from recapture.models.inverse.measurement import Fill, LatentMeasurement, MaskKind, build_measurement
from recapture.models.inverse.pixel_space import KnownPixels
from recapture.models.wan.load import Base
from recapture.models.wan.sampling import Solver, Step

TransitionName = Literal["velocity", "ddim", "flowdps", "direct", "blended"]
Consistency = Callable[[Tensor, Step], Tensor]  # clean estimate -> its move, [B, z, T', h, w]
Transition = Callable[[Tensor, Tensor, Tensor, Step, consistency.Noise], Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VelocitySolver:
    """Corrects the velocity and leaves the step to the scheduler, whichever it is.

    It acts on the steps from `start` to `stop`, shares of all steps.
    """

    consistency: Consistency
    start: float = 0.0
    stop: float = 1.0

    def acts(self, step: Step) -> bool:
        return self.start * step.count <= step.index < self.stop * step.count

    def correct(self, latents: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """Return v - delta / sigma; v itself, bit for bit, where delta is 0."""
        if not self.acts(step):
            return velocity
        delta = self.consistency(latents - step.sigma * velocity, step)
        return torch.where(delta == 0, velocity, velocity - delta / step.sigma)


@dataclass(frozen=True)
class TransitionSolver(VelocitySolver):
    """Takes Euler's steps itself, by one of `transitions`; a `SteppingSolver`.

    repeats: times each step is taken, from the second one on that it acts on (the first starts from pure
    noise, to which nothing is worth going back). Where the solver does not act, the step is Euler's and no
    noise is drawn.
    """

    transition: Transition = transitions.ddim
    generator: consistency.Noise = field(default_factory=torch.Generator)
    repeats: int = 1

    def visits(self, step: Step) -> int:
        return self.repeats if self.acts(step) and step.index > 0 else 1

    def advance(self, latents: Tensor, velocity: Tensor, corrected: Tensor, step: Step) -> Tensor:
        if not self.acts(step):
            return transitions.euler(latents, velocity, step)
        delta = step.sigma * (velocity - corrected)
        return self.transition(latents, velocity, delta, step, self.generator)

    def go_back(self, latents: Tensor, step: Step) -> Tensor:
        return transitions.jump_back(latents, step, self.generator)


@dataclass(frozen=True)
class Recipe:
    """What a solver of `SOLVERS` is made of."""

    consistency: Callable[..., Tensor] | None  # (clean, measurement or pixels, step, **options) -> move
    transition: TransitionName = "velocity"
    eta: float = 0.0
    start: float = 0.0
    stop: float = 1.0
    repeats: int = 1
    options: tuple[str, ...] = ()  # keywords of the consistency that may be given
    pixels: bool = False  # its consistency runs the VAE at every step
    noisy: bool = False  # its consistency draws noise


SOLVERS: dict[str, Recipe] = {
    "renoised": Recipe(consistency.replacement, "ddim", eta=1.0),
    "replacement": Recipe(consistency.replacement),
    "proximal": Recipe(consistency.proximal, options=("gamma",)),
    "cg": Recipe(consistency.conjugate_gradient, options=("iterations", "gamma")),
    "wiener": Recipe(consistency.wiener),
    "nvs": Recipe(consistency.adaptive_replacement, options=("share",)),
    "ddnm": Recipe(consistency.binary_replacement, "ddim", eta=0.85),
    "dds": Recipe(consistency.conjugate_gradient, "ddim", eta=0.85, options=("iterations", "gamma")),
    "flowdps": Recipe(consistency.flow_posterior, "flowdps"),
    "flowchef": Recipe(consistency.gradient, "direct", options=("rate",)),
    "langevin": Recipe(
        consistency.langevin, "ddim", eta=1.0, options=("noise_level", "iterations", "rate"), noisy=True
    ),
    "blended": Recipe(None, "blended", start=0.25),
    "repaint": Recipe(None, "blended", repeats=2),
    "motion": Recipe(consistency.motion, stop=0.2, options=("rate", "anchor")),
    "vision_xl": Recipe(pixel_space.pixel_replacement, "ddim", eta=0.2, options=("lowpass",), pixels=True),
    "psld": Recipe(pixel_space.pixel_gradient, "direct", options=("omega", "gamma"), pixels=True),
}


def make_solver(
    name: str,
    measurement: LatentMeasurement,
    *,
    pixels: KnownPixels | None = None,
    transition: TransitionName | None = None,
    eta: float | None = None,
    start: float | None = None,
    stop: float | None = None,
    mask_floor: float = 0.0,
    repeats: int | None = None,
    seed: int | Sequence[int] = 0,
    **options: float,
) -> Solver:
    """Make a solver of `SOLVERS` for one window. It has one keyword per setting, hence their number.

    pixels: for the solvers that work in pixels, which use of the measurement whether anything is known.
    transition, eta, start, stop, repeats: override the recipe's; eta (0...1) is the share of fresh noise of
    'ddim'; repeats: how often each step is taken. All transitions but 'velocity' need the Euler scheduler.
    start, stop: the shares of the steps between which the solver acts. mask_floor: weights below it count as
    0. seed: of the solver's own noise, or one per sample of a batch. options: those of the recipe, such as
    gamma.

    With nothing known the solver never acts: sampling is plain. Raises ValueError for a setting that the
    solver does not have.
    """
    if name not in SOLVERS:
        raise ValueError(f"inverse: there is no solver {name!r}; use one of {', '.join(SOLVERS)}")
    recipe = SOLVERS[name]
    transition = transition or recipe.transition
    if eta is None:
        eta = recipe.eta if transition == recipe.transition else 0.0
    chosen = replace(
        recipe,
        transition=transition,
        eta=eta,
        start=recipe.start if start is None else start,
        stop=recipe.stop if stop is None else stop,
        repeats=recipe.repeats if repeats is None else repeats,
    )
    _check_recipe(name, chosen, mask_floor, options)
    generator: consistency.Noise = (
        torch.Generator().manual_seed(seed)
        if isinstance(seed, int)
        else [torch.Generator().manual_seed(one) for one in seed]
    )
    measurement = measurement.floored(mask_floor)
    known: LatentMeasurement | KnownPixels = measurement
    if chosen.pixels:
        if pixels is None:
            raise ValueError(f"inverse: solver {name!r} works in pixels; give it `pixels`")
        known = pixels
    move = _consistency(chosen, known, generator, options)
    if not measurement.mask.any():
        return VelocitySolver(move, stop=0.0)
    if transition == "velocity":
        return VelocitySolver(move, chosen.start, chosen.stop)
    rule = _transition(chosen, measurement)
    return TransitionSolver(move, chosen.start, chosen.stop, rule, generator, chosen.repeats)


def _check_recipe(name: str, recipe: Recipe, mask_floor: float, options: Mapping[str, float]) -> None:
    """Raise ValueError for values out of range and for what the solver does not have."""
    start, stop, eta = recipe.start, recipe.stop, recipe.eta
    repeats, transition = recipe.repeats, recipe.transition
    if not (0 <= start < stop <= 1 and 0 <= mask_floor <= 1 and 0 <= eta <= 1 and repeats >= 1):
        raise ValueError(
            f"inverse: start {start}, stop {stop}, mask_floor {mask_floor}, eta {eta}, repeats {repeats};"
            " use 0 <= start < stop <= 1, mask_floor and eta in 0...1, repeats from 1"
        )
    blends = transition == "blended"
    if transition not in get_args(TransitionName) or blends != (recipe.consistency is None):
        raise ValueError(f"inverse: solver {name!r} has no transition {transition!r}")
    if (eta > 0 and transition != "ddim") or (repeats > 1 and transition == "velocity"):
        raise ValueError(f"inverse: transition {transition!r} of solver {name!r} takes no eta or no repeats")
    unknown = [option for option in options if option not in recipe.options]
    if unknown:
        allowed = ", ".join(recipe.options) or "none"
        raise ValueError(f"inverse: solver {name!r} has no option {', '.join(unknown)}; it takes {allowed}")


def _transition(recipe: Recipe, measurement: LatentMeasurement) -> Transition:
    rules: dict[str, Transition] = {
        "ddim": partial(transitions.ddim, eta=recipe.eta),
        "flowdps": transitions.flow_posterior_sampling,
        "direct": transitions.direct,
        "blended": partial(transitions.blended, measurement=measurement),
    }
    return rules[recipe.transition]


def _consistency(
    recipe: Recipe,
    known: LatentMeasurement | KnownPixels,
    generator: consistency.Noise,
    options: Mapping[str, float],
) -> Consistency:
    rule = recipe.consistency
    if rule is None:
        return lambda clean, step: torch.zeros_like(clean)
    noise = {"generator": generator} if recipe.noisy else {}
    return lambda clean, step: rule(clean, known, step, **noise, **options)


def inverse_solver(
    *,
    kind: MaskKind,
    solver: str,
    source: Tensor | None = None,
    fill: Fill = "pull_push",
    channel_mean: bool,
    seed: int = 0,
    noise_seeds: Sequence[int] | None = None,
    probes: int = 4,
    tau: float = 0.5,
    **settings: Any,
) -> MakeSolver:
    """Return what measures each window for a `DiffusionFiller` and makes its solver.

    settings: those of `make_solver`; the other arguments are those of `build_measurement`. source: of the
    shape of a window, so only for clips of one window. noise_seeds: of the solver's own noise, one per sample
    of a batch; None: seed. Logs a warning when nothing of a window is known, so
    that it is generated plainly.
    """

    def make(base: Base, video: Tensor, visible: Tensor) -> Solver:
        measurement = build_measurement(
            base.vae,
            video,
            visible,
            kind=kind,
            source=source,
            fill=fill,
            channel_mean=channel_mean,
            seed=seed,
            probes=probes,
            tau=tau,
        )
        if not measurement.mask.any():
            log.warning("inverse: nothing of this window of %d frames is known; plain generation", len(video))
        pixels = KnownPixels(base.vae, video, visible)
        return make_solver(
            solver, measurement, pixels=pixels, seed=seed if noise_seeds is None else noise_seeds, **settings
        )

    return make
