"""The settings of training-free inverse solvers."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

VELOCITY_SOLVERS = ("replacement", "proximal", "cg", "wiener", "nvs", "motion")
DDIM_SOLVERS = ("renoised", "ddnm", "dds", "langevin", "vision_xl")
BLENDING_SOLVERS = ("blended", "repaint")
REPEATING_SOLVERS = ("repaint",)
OWN_STARTS = {"blended": 0.25}  # solver -> share of the steps before it acts, if not 0
OWN_STOPS = {"motion": 0.2}  # solver -> share of the steps after which it no longer acts, if not 1


class InverseConfig(Section):
    """fill.method inverse: a latent mask of known pixels, which a solver enforces at every sampling step."""

    mask: Literal[
        "trilinear",
        "binary",
        "nearest_and",
        "min_pool",
        "area",
        "two_fill",
        "mask_encode",
        "leak_ratio",
        "fill_variance",
    ] = Field(
        "area",
        description="How the mask of known pixels becomes latent weights; two_fill, mask_encode, leak_ratio "
        "and "
        "fill_variance run the VAE to find them.",
    )
    channel_mean: bool = Field(True, description="Use one weight for all channels of a latent.")
    solver: Literal[
        "renoised",
        "replacement",
        "proximal",
        "cg",
        "wiener",
        "nvs",
        "ddnm",
        "dds",
        "flowdps",
        "flowchef",
        "langevin",
        "blended",
        "repaint",
        "motion",
        "vision_xl",
        "psld",
    ] = Field("renoised", description="How each step uses the known pixels; see docs/solvers.md.")
    transition: Literal["velocity", "ddim"] | None = Field(
        None, description="How a step moves on; null: the solver's own. ddim needs fill.scheduler euler."
    )
    eta: float | None = Field(
        None, ge=0, le=1, description="ddim: share of fresh noise per step; null: the solver's own."
    )
    start: float | None = Field(
        None, ge=0, lt=1, description="Share of the steps before the solver acts; null: the solver's own."
    )
    stop: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the steps after which the solver no longer acts; null: the solver's own.",
    )
    mask_floor: float = Field(0.0, ge=0, le=1, description="Latent weights below this count as unknown.")

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change a fill: eta belongs to ddim alone."""
        keyed = self.model_dump(mode="json", exclude=set() if self.draws_noise else {"eta"})
        return keyed | {"stop": self.own_stop}

    @property
    def own_stop(self) -> float:
        """Return the share of the steps after which the solver no longer acts."""
        return OWN_STOPS.get(self.solver, 1.0) if self.stop is None else self.stop

    @property
    def corrects_velocity(self) -> bool:
        """Return whether the scheduler takes the steps, so that any scheduler works."""
        return (self.transition or ("velocity" if self.solver in VELOCITY_SOLVERS else "")) == "velocity"

    @property
    def draws_noise(self) -> bool:
        """Return whether its steps are ddim, which draws a share of fresh noise."""
        return (self.transition or ("ddim" if self.solver in DDIM_SOLVERS else "")) == "ddim"

    @model_validator(mode="after")
    def _solver_has_it(self) -> Self:
        if self.transition is not None and self.solver in BLENDING_SOLVERS:
            raise ValueError(f"solver {self.solver!r} has a transition of its own; leave transition out")
        if self.eta and not self.draws_noise:
            raise ValueError(
                f"eta is for transition ddim, and solver {self.solver!r} does not use it; leave eta out"
            )
        start = OWN_STARTS.get(self.solver, 0.0) if self.start is None else self.start
        if start >= self.own_stop:
            raise ValueError(
                f"solver {self.solver!r} would start at {start:g} and stop at {self.own_stop:g} of the "
                "steps; set start below stop"
            )
        return self
