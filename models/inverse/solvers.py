"""Training-free solvers for latent inpainting, by name; each is a data consistency and a transition."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
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
Transition = Callable[[Tensor, Tensor, Tensor, Step, torch.Generator], Tensor]

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
        """v - delta / sigma; v itself, bit for bit, where delta is 0."""
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
    generator: torch.Generator = field(default_factory=torch.Generator)
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
    repeats: int = 1
    pixels: bool = False  # its consistency runs the VAE at every step


SOLVERS: dict[str, Recipe] = {
    "renoised": Recipe(consistency.replacement, "ddim", eta=1.0),
    "replacement": Recipe(consistency.replacement),
    "proximal": Recipe(consistency.proximal),
    "cg": Recipe(consistency.conjugate_gradient),
    "wiener": Recipe(consistency.wiener),
    "nvs": Recipe(consistency.adaptive_replacement),
    "ddnm": Recipe(consistency.binary_replacement, "ddim", eta=0.85),
    "dds": Recipe(consistency.conjugate_gradient, "ddim", eta=0.85),
    "flowdps": Recipe(consistency.flow_posterior, "flowdps"),
    "flowchef": Recipe(consistency.gradient, "direct"),
    "langevin": Recipe(consistency.langevin, "ddim", eta=1.0),
    "blended": Recipe(None, "blended", start=0.25),
    "repaint": Recipe(None, "blended", repeats=2),
    "vision_xl": Recipe(pixel_space.pixel_replacement, "ddim", eta=0.2, pixels=True),
    "psld": Recipe(pixel_space.pixel_gradient, "direct", pixels=True),
}


def make_solver(
    name: str,
    measurement: LatentMeasurement,
    *,
    pixels: KnownPixels | None = None,
    transition: TransitionName | None = None,
    eta: float | None = None,
    start: float | None = None,
    stop: float = 1.0,
    mask_floor: float = 0.0,
    repeats: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Solver:
    """A solver of `SOLVERS` for one window.

    pixels: for the solvers that work in pixels, which use of the measurement whether anything is known.
    transition, eta, start, repeats: in place of the recipe's; eta (0...1) is the share of fresh noise of
    'ddim'; repeats: how often each step is taken. All transitions but 'velocity' need the Euler scheduler.
    start, stop: the shares of the steps between which the solver acts. mask_floor: weights below it count as
    0. seed: of the solver's own noise. options: the keywords of the consistency function, as gamma.

    With nothing known the solver never acts: sampling is plain. Raises ValueError for a setting that the
    solver does not have.
    """
    if name not in SOLVERS:
        raise ValueError(f"inverse: no solver {name!r}; use one of {', '.join(SOLVERS)}")
    recipe = SOLVERS[name]
    transition = transition or recipe.transition
    eta = (recipe.eta if transition == recipe.transition else 0.0) if eta is None else eta
    start = recipe.start if start is None else start
    repeats = recipe.repeats if repeats is None else repeats
    if not (0 <= start < stop <= 1 and 0 <= mask_floor <= 1 and 0 <= eta <= 1 and repeats >= 1):
        raise ValueError(
            f"inverse: start {start}, stop {stop}, mask_floor {mask_floor}, eta {eta}, repeats {repeats};"
            " use 0 <= start < stop <= 1, mask_floor and eta in 0...1, repeats from 1"
        )
    if transition not in get_args(TransitionName) or (transition == "blended") != (
        recipe.consistency is None
    ):
        raise ValueError(f"inverse: solver {name!r} has no transition {transition!r}")
    if (eta > 0 and transition != "ddim") or (repeats > 1 and transition == "velocity"):
        raise ValueError(f"inverse: transition {transition!r} of solver {name!r} takes no eta or no repeats")
    generator = torch.Generator().manual_seed(seed)
    measurement = measurement.floored(mask_floor)
    known: LatentMeasurement | KnownPixels = measurement
    if recipe.pixels:
        if pixels is None:
            raise ValueError(f"inverse: solver {name!r} works in pixels; give it `pixels`")
        known = pixels
    move = _consistency(name, recipe, known, generator, options)
    if not measurement.mask.any():
        return VelocitySolver(move, stop=0.0)
    if transition == "velocity":
        return VelocitySolver(move, start, stop)
    rules: dict[str, Transition] = {
        "ddim": partial(transitions.ddim, eta=eta),
        "flowdps": transitions.flow_posterior_sampling,
        "direct": transitions.direct,
        "blended": partial(transitions.blended, measurement=measurement),
    }
    return TransitionSolver(move, start, stop, rules[transition], generator, repeats)


def inverse_solver(
    *,
    kind: MaskKind,
    solver: str,
    source: Tensor | None = None,
    fill: Fill = "pull_push",
    channel_mean: bool = False,
    seed: int = 0,
    probes: int = 4,
    tau: float = 0.5,
    **settings: Any,
) -> MakeSolver:
    """For `DiffusionFiller`: measures each window and makes its solver. settings: those of `make_solver`.

    The other arguments are `build_measurement`'s. source: of the window's shape, so for clips of one window
    alone. Says through logging when a window has nothing to hold on to, and is generated plainly.
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
        return make_solver(solver, measurement, pixels=pixels, seed=seed, **settings)

    return make


def _consistency(
    name: str,
    recipe: Recipe,
    known: LatentMeasurement | KnownPixels,
    generator: torch.Generator,
    options: dict[str, Any],
) -> Consistency:
    rule = recipe.consistency
    if rule is None:
        if options:
            raise ValueError(f"inverse: solver {name!r} has no option {', '.join(options)}")
        return lambda clean, step: torch.zeros_like(clean)
    accepted = [p.name for p in inspect.signature(rule).parameters.values() if p.kind == p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in accepted or option == "generator"]
    if unknown:
        allowed = [option for option in accepted if option != "generator"] or ["none"]
        raise ValueError(
            f"inverse: solver {name!r} has no option {', '.join(unknown)}; it takes {', '.join(allowed)}"
        )
    if "generator" in accepted:
        options = options | {"generator": generator}
    return lambda clean, step: rule(clean, known, step, **options)
