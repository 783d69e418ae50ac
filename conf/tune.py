"""The settings of self-iterative tuning: which angles when, what is learned from, and how long."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section


class RoundConfig(Section):
    """Steps of tuning on camera moves of low to high degrees."""

    low: float = Field(ge=0, lt=180)
    high: float = Field(ge=0, lt=180)
    steps: int = Field(60, ge=1)


class CurriculumConfig(Section):
    """Which angles are tuned on when, and where to stop."""

    schedule: Literal["given", "auto"] = Field(
        "given", description="given: `rounds`; auto: the first of them, then as far as quality holds."
    )
    rounds: tuple[RoundConfig, ...] = Field(
        (RoundConfig(low=5, high=15), RoundConfig(low=15, high=25), RoundConfig(low=25, high=40)),
        min_length=1,
    )
    threshold: float = Field(
        20.0, description="Mean cycle PSNR in dB below which an angle's own output is no longer learned from."
    )
    max_rounds: int = Field(4, ge=1, description="auto: at most so many.")
    limit: float = Field(60.0, gt=0, lt=180, description="auto: no angle beyond.")
    stride: float = Field(8.0, gt=0, description="auto: degrees between angles that are tried.")
    tolerance: float = Field(4.0, gt=0, description="auto: degrees to which the largest angle is found.")

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
    """How often each kind of composite mask is drawn."""

    point_cloud: float = Field(0.50, ge=0)
    union: float = Field(0.25, ge=0)
    edit: float = Field(0.15, ge=0)
    prior: float = Field(0.10, ge=0)

    @model_validator(mode="after")
    def _some_kind_is_drawn(self) -> Self:
        if not sum(self.model_dump().values()) > 0:
            raise ValueError("every share is 0; give one kind of mask a share")
        return self


class PairsConfig(Section):
    """Double reprojection: a clip goes to a new view and back, and what is lost on the way is filled."""

    window: int = Field(17, ge=5, le=1001, description="Frames of a pair: 4n+1.")
    moves: int = Field(3, ge=1, description="Pairs a clip and round.")
    held_out: int = Field(1, ge=0, description="More of them that only judge; 0: no early stopping.")
    masks: int = Field(2, ge=1, description="Composite masks drawn for each pair.")
    shares: MaskSharesConfig = MaskSharesConfig()
    pitch_share: float = Field(0.5, ge=0, le=1, description="Largest pitch as a share of the yaw.")
    radius: float = Field(0.1, ge=0, lt=1, description="Largest approach as a share of the pivot's depth.")
    direct_share: float = Field(0.1, ge=0, le=1, description="Of moves that do not start at the source.")
    packed_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Of training steps with frames from another camera packed beside the clips, as "
        "fill.packing does it. None: 0.3 where fill.packing packs frames, else 0.",
    )

    def keyed(self) -> dict[str, Any]:
        """Return the settings as content keys hold them; what packs frames says so itself."""
        return self.model_dump(mode="json", exclude={"packed_share"})

    @model_validator(mode="after")
    def _whole_latents(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"window is {self.window}, not 4n+1; use {max(near, 5)} or {near + 4}")
        return self


class CycleConfig(Section):
    """The next round's data: the tuned model's own output at larger angles, back at the source's view."""

    moves: int = Field(1, ge=0, description="Recaptured videos a clip and round; 0: none.")
    steps: int = Field(8, ge=1, le=1000, description="Sampling steps of them.")
    depth: Literal["background", "model"] = Field(
        "background",
        description="Depth of what was filled in: of the background beside a hole, or the depth model's.",
    )
    pseudo_weight: float = Field(
        0.0, ge=0, le=1, description="Of what was recaptured as a target of its own; 0: never."
    )
    full: float = Field(26.0, description="Cycle PSNR in dB from which a pseudo-target has its full weight.")
    source_share: float = Field(
        0.4, ge=0, le=1, description="Pairs of the real source are drawn no less often than this."
    )


class TrainingConfig(Section):
    """How an adapter is trained."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: int | None = Field(None, ge=1, description="null: the rank, so that a scale of 1 adds all of it.")
    rate: float = Field(1e-3, gt=0, description="Learning rate; 1e-5 to 1e-4 for Wan.")
    weight_decay: float = Field(0.1, ge=0)
    batch: int = Field(2, ge=1)
    micro_batch: int | None = Field(None, ge=1, description="Samples through the model at once.")
    gradient_checkpointing: bool = False
    activation_budget: float = Field(
        1.0,
        ge=0,
        le=1,
        description="With fill.compile_blocks: the share of activations that is kept, not computed again.",
    )
    first_block: int = Field(
        0, ge=0, description="Transformer blocks before it get no adapter, which makes steps faster."
    )
    warm_up: int = Field(10, ge=1)
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema: float = Field(0.9, ge=0, lt=1, description="Decay of the average of the adapter that is kept.")
    validate_every: int = Field(20, ge=1, description="Steps between held-out losses.")
    patience: int = Field(3, ge=0, description="Held-out losses without gain before a stop; 0: never stop.")
    log_every: int = Field(5, ge=1)
    sigma: Literal["uniform", "logit_normal", "mixed"] = "mixed"
    shift: float = Field(2.0, gt=0, description="Timestep shift of the noise levels; 3 or 5 for Wan.")
    hole_weight: float = Field(
        1.0, ge=0, description="A latent with a hole weighs this much more than another."
    )
    caption_dropout: float = Field(0.1, ge=0, le=1)


class ExploreConfig(Section):
    """What the angle-quality curve is measured at."""

    angles: tuple[float, ...] = Field((20.0, 40.0), min_length=1, description="Degrees of yaw.")
    steps: int = Field(8, ge=1, le=1000, description="Sampling steps.")


class TuneConfig(Section):
    scope: Literal["dataset", "clip", "both"] = Field(
        "dataset", description="One adapter for all clips, one a clip, or the first and a touch-up a clip."
    )
    start: str | None = Field(
        None, min_length=1, description="Adapter file or folder to start from; null starts anew."
    )
    scale: float = Field(
        1.0, gt=0, le=2, description="Scale at which an adapter makes the next round's data and is judged."
    )
    touch_up_steps: int = Field(30, ge=1, description="both: steps a clip, from the dataset's adapter.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that share each batch of a training; with GPUs one for each."
    )
    placement: Literal["node", "cluster"] = Field(
        "node",
        description="Where these processes lie: on one node, or on several of a Ray cluster.",
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="A run that is killed loses at most so much.")
    timeout_seconds: float = Field(172_800.0, gt=0, description="A training that takes longer is stopped.")
    register_model: bool = Field(
        True, description="Register finished adapters as versions of a model in MLflow."
    )
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
                f"set training.batch to a multiple of {self.workers}"
            )
        return self
