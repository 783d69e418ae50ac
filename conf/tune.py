"""The settings of self-iterative tuning: the order of angles, the training data and the training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recapture.conf.section import Section

# Settings of training that change an adapter at most by rounding, or only what is logged of it.
_SPEED_ONLY = {"micro_batch", "gradient_checkpointing", "activation_budget", "log_every"}


class RoundConfig(Section):
    """One round of tuning, on camera moves of `low` to `high` degrees."""

    low: float = Field(ge=0, lt=180, description="Smallest angle of the round, in degrees.")
    high: float = Field(ge=0, lt=180, description="Largest angle of the round, in degrees.")
    steps: int = Field(60, ge=1, description="Training steps of the round.")


class CurriculumConfig(Section):
    """The angles of each round, and where to stop."""

    schedule: Literal["given", "auto"] = Field(
        "given",
        description="given: the rounds as listed; auto: the first of them, then as far as quality allows.",
    )
    rounds: tuple[RoundConfig, ...] = Field(
        (RoundConfig(low=5, high=15), RoundConfig(low=15, high=25), RoundConfig(low=25, high=40)),
        min_length=1,
        description="The rounds, ordered by angle.",
    )
    threshold: float = Field(
        20.0, description="Mean cycle PSNR in dB below which the output at an angle is no longer trained on."
    )
    max_rounds: int = Field(4, ge=1, description="auto: maximum number of rounds.")
    limit: float = Field(60.0, gt=0, lt=180, description="auto: largest angle, in degrees.")
    stride: float = Field(8.0, gt=0, description="auto: degrees between the angles that are tried.")
    tolerance: float = Field(
        4.0, gt=0, description="auto: precision in degrees to which the largest usable angle is found."
    )

    @property
    def most_rounds(self) -> int:
        """Return how many rounds there are if quality holds."""
        return self.max_rounds if self.schedule == "auto" else len(self.rounds)

    @model_validator(mode="after")
    def _rounds_climb(self) -> Self:
        for number, one in enumerate(self.rounds):
            if one.low > one.high:
                raise ValueError(f"round {number} goes from {one.low:g} down to {one.high:g} degrees")
            if number and one.high <= self.rounds[number - 1].high:
                raise ValueError(
                    f"round {number} ends at {one.high:g} degrees, no further than round {number - 1}; "
                    "order the rounds by angle"
                )
        if self.tolerance > self.stride:
            raise ValueError(f"tolerance {self.tolerance:g} is more than stride {self.stride:g}")
        return self


class MaskSharesConfig(Section):
    """Relative frequency of each kind of composite mask."""

    point_cloud: float = Field(0.50, ge=0, description="Holes of a rendered camera move.")
    union: float = Field(0.25, ge=0, description="Such holes together with an edit mask.")
    edit: float = Field(0.15, ge=0, description="An edit mask alone.")
    prior: float = Field(0.10, ge=0, description="A mask of the kinds that the base was pre-trained on.")

    @model_validator(mode="after")
    def _some_kind_is_drawn(self) -> Self:
        if not sum(self.model_dump().values()) > 0:
            raise ValueError("every share is 0; give one kind of mask a share")
        return self


class PairsConfig(Section):
    """Training pairs by double reprojection: a clip is rendered from a new view and back."""

    window: int = Field(17, ge=5, le=1001, description="Frames per pair; must be 4n+1.")
    moves: int = Field(3, ge=1, description="Camera moves per clip and round.")
    held_out: int = Field(
        1, ge=0, description="Additional moves held out for validation; 0 disables early stopping."
    )
    masks: int = Field(2, ge=1, description="Composite masks drawn per move.")
    shares: MaskSharesConfig = MaskSharesConfig()
    pitch_share: float = Field(0.5, ge=0, le=1, description="Largest pitch as a share of the yaw.")
    radius: float = Field(0.1, ge=0, lt=1, description="Largest approach as a share of the pivot's depth.")
    direct_share: float = Field(
        0.1, ge=0, le=1, description="Share of moves that do not start at the source's view."
    )
    packed_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of training steps with packed frames of another camera, as in fill.packing; null: "
        "0.3 "
        "if fill.packing.frames is set, else 0.",
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change pairs; packing enters keys elsewhere."""
        return self.model_dump(mode="json", exclude={"packed_share"})

    @model_validator(mode="after")
    def _whole_latents(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"window is {self.window}, not 4n+1; use {max(near, 5)} or {near + 4}")
        return self


class CycleConfig(Section):
    """Data of the next round: the model's output at larger angles, rendered back at the source's view."""

    moves: int = Field(1, ge=0, description="Recaptured videos per clip and round; 0 disables the cycle.")
    steps: int = Field(8, ge=1, le=1000, description="Sampling steps of these videos.")
    depth: Literal["background", "model"] = Field(
        "background",
        description="Depth of filled pixels: that of the background beside the hole, or the depth model's.",
    )
    pseudo_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of recaptured videos as training targets; 0 never uses them as targets.",
    )
    full: float = Field(26.0, description="Cycle PSNR in dB from which such a target has its full weight.")
    source_share: float = Field(
        0.4, ge=0, le=1, description="Minimum share of training pairs that come from the real source."
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change pairs of a recaptured clip; sampling enters elsewhere."""
        unused = {"source_share", "steps", "depth"}
        if not self.pseudo_weight:
            unused |= {"full"}
        return self.model_dump(mode="json", exclude=unused)


class TrainingConfig(Section):
    """The training of a LoRA adapter."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the adapter.")
    alpha: int | None = Field(
        None,
        ge=1,
        description="LoRA alpha; null: equal to the rank, so that a scale of 1 applies the adapter fully.",
    )
    rate: float = Field(1e-3, gt=0, description="Learning rate; 1e-5 to 1e-4 for Wan.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of AdamW.")
    batch: int = Field(2, ge=1, description="Samples per training step.")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Samples per forward pass; null: all of a worker's share of the batch. Less needs less "
        "memory.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: slower, with less memory."
    )
    activation_budget: float = Field(
        1.0,
        ge=0,
        le=1,
        description="With fill.speed.compile_blocks: share of activations that is kept, not recomputed.",
    )
    first_block: int = Field(
        0, ge=0, description="Transformer blocks before this one get no adapter, which makes steps faster."
    )
    warm_up: int = Field(10, ge=1, description="Steps over which the learning rate rises to its value.")
    clip: float = Field(1.0, gt=0, description="Gradient norms are clipped to this.")
    ema: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="Decay of the running average of the adapter; the average is what is saved.",
    )
    validate_every: int = Field(20, ge=1, description="Steps between validations on the held-out moves.")
    patience: int = Field(
        3, ge=0, description="Validations without improvement before training stops; 0 never stops early."
    )
    log_every: int = Field(5, ge=1, description="Steps between logged losses.")
    sigma: Literal["uniform", "logit_normal", "mixed"] = Field(
        "mixed", description="Distribution of noise levels; mixed: half uniform, half logit-normal."
    )
    shift: float = Field(2.0, gt=0, description="Timestep shift of the noise levels; 3 or 5 for Wan.")
    hole_weight: float = Field(
        1.0, ge=0, description="Additional loss weight of latents with a hole; other latents weigh 1."
    )
    caption_dropout: float = Field(
        0.1, ge=0, le=1, description="Share of samples with an empty prompt, as guidance needs."
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change an adapter by more than rounding."""
        keyed = self.model_dump(mode="json", exclude=_SPEED_ONLY)
        return keyed | {"alpha": self.alpha or self.rank}


class ExploreConfig(Section):
    """Where the angle-quality curve is measured."""

    angles: tuple[float, ...] = Field((20.0, 40.0), min_length=1, description="Degrees of yaw.")
    steps: int = Field(8, ge=1, le=1000, description="Sampling steps.")

    @field_validator("angles")
    @classmethod
    def _angles_are_turns(cls, angles: tuple[float, ...]) -> tuple[float, ...]:
        for place, angle in enumerate(angles):
            if not 0 < abs(angle) < 180:
                raise ValueError(f"an angle is {angle:g}; use angles between -180 and 180 other than 0")
            if f"{angle:g}" in {f"{other:g}" for other in angles[:place]}:
                raise ValueError(f"{angle:g} degrees are given twice; keep one")
        return angles


class TuneConfig(Section):
    """Self-iterative LoRA tuning on a dataset: `recapture train`."""

    scope: Literal["dataset", "clip", "both"] = Field(
        "dataset",
        description="dataset: one adapter for all clips; clip: one per clip; both: one for all, then a "
        "touch-up per "
        "clip.",
    )
    start: str | None = Field(
        None, min_length=1, description="Adapter file or folder to start from; null: start from scratch."
    )
    scale: float = Field(
        1.0,
        gt=0,
        le=2,
        description="LoRA scale at which an adapter makes the next round's data and is evaluated.",
    )
    touch_up_steps: int = Field(
        30, ge=1, description="both: training steps per clip, starting from the dataset's adapter."
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share each batch of a training; one per GPU where there are GPUs.",
    )
    placement: Literal["node", "cluster"] = Field(
        "node",
        description="Where these processes run: on one node, or on several nodes of a Ray cluster.",
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Seconds between checkpoints; a killed run loses at most this much work."
    )
    timeout_seconds: float = Field(
        7200.0, gt=0, description="Seconds without progress after which a training is stopped."
    )
    register_model: bool = Field(True, description="Register finished adapters in MLflow's model registry.")
    curriculum: CurriculumConfig = CurriculumConfig()
    pairs: PairsConfig = PairsConfig()
    cycle: CycleConfig = CycleConfig()
    training: TrainingConfig = TrainingConfig()
    explore: ExploreConfig = ExploreConfig()

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if self.training.batch % self.workers:
            raise ValueError(
                f"{self.workers} workers cannot share batches of {self.training.batch}; "
                f"set tune.training.batch to a multiple of {self.workers}"
            )
        return self
