"""The settings of motion transfer: `recapture transfer`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from recapture.conf.section import Section

SMALLEST_WINDOW = 9  # frames: with fewer there are less than three latents, and no path is seen
Targets = Literal["q,k", "q,k,v", "q,k,v,o"]


class HeadsConfig(Section):
    """Which heads of the base's self-attention a motion adapter may change."""

    rule: Literal["all", "half", "chance", "paper", "released", "random", "inverted"] = Field(
        "all",
        description="all: every head; half, chance: those that attend to other frames more than the rest of "
        "their layer, or than by chance; paper, released: the published rule, and that of its code; random "
        "and inverted are controls: as many as half at random, and the others.",
    )
    sigmas: tuple[float, ...] = Field(
        (0.3, 0.6), min_length=1, description="Noise levels at which attention is looked at."
    )
    rows: int = Field(64, ge=1, le=4096, description="Tokens whose attention is looked at, drawn per level.")

    @property
    def wanted(self) -> bool:
        """Return whether heads differ, so that they have to be looked at."""
        return self.rule != "all"

    @model_validator(mode="after")
    def _levels_are_between(self) -> Self:
        for sigma in self.sigmas:
            if not 0 < sigma < 1:
                raise ValueError(f"a noise level is {sigma:g}; use levels between 0 and 1")
        return self


class SparseConfig(Section):
    """Which frames of a reference each step of tuning sees, and where they are in time."""

    kept: int | None = Field(
        None, ge=5, le=1001, description="Frames seen at once, 4n+1; null: all of the window."
    )
    kind: Literal["mixed", "latents", "frames"] = Field(
        "mixed",
        description="latents: every s-th latent of the whole window, at its own position; mixed: half of the "
        "steps that with a random offset, half a run without gaps; frames: every s-th frame, encoded anew.",
    )
    positions: Literal["aligned", "paper", "native"] = Field(
        "aligned",
        description="sparse.kind frames: temporal positions. aligned: spread over the window's; paper: as "
        "published; native: those of a short clip, a negative control.",
    )

    @model_validator(mode="after")
    def _whole_latents(self) -> Self:
        if self.kept is not None and self.kept % 4 != 1:
            near = self.kept - self.kept % 4 + 1
            raise ValueError(f"kept is {self.kept}, not 4n+1; use {max(near, 5)} or {near + 4}")
        return self

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change a tuning."""
        if self.kept is None:
            return {}
        return self.model_dump(mode="json", exclude=set() if self.kind == "frames" else {"positions"})


class AugmentConfig(Section):
    """Copies of the reference that keep its motion: they hide its colours and its place."""

    copies: int = Field(
        8, ge=0, le=256, description="Changed copies that are tuned on; 0: the reference itself."
    )
    held_out: int = Field(
        2, ge=0, le=64, description="Further copies that judge alone; 0 disables early stopping."
    )
    colour: Literal["permute", "jitter", "none"] = Field(
        "permute",
        description="permute: exchange the colour channels; jitter: turn the hue, for bases that know how "
        "things look, such as Wan.",
    )
    light: float = Field(
        0.2, ge=0, lt=1, description="Largest change of contrast, and of brightness, as a share."
    )
    shift: float = Field(
        0.15, ge=0, lt=0.5, description="Largest shift of all frames, as a share of the picture's sides."
    )
    zoom: float = Field(0.1, ge=0, lt=0.9, description="Largest zoom in or out of all frames, as a share.")

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change the copies."""
        made = self.copies or self.held_out
        return self.model_dump(mode="json", include=None if made else {"copies", "held_out"})


class SpatialConfig(Section):
    """An adapter for what the reference looks like, tuned first, so that the other need not hold it."""

    steps: int = Field(0, ge=0, description="Tuning steps on single frames; 0: no such adapter.")
    scale: float = Field(
        0.0, ge=0, le=2, description="Its scale in results: 0 leaves out the look that it has taken in."
    )


class MotionTrainingConfig(Section):
    """The tuning of a motion adapter."""

    steps: int = Field(150, ge=1, description="Tuning steps per reference; 2000 for Wan.")
    batch: int = Field(2, ge=1, description="Samples per step.")
    rank: int = Field(16, ge=1, le=1024, description="Rank of the adapter.")
    targets: Targets = Field(
        "q,k,v",
        description="Layers of self-attention that get an adapter. Without v and o it cannot store how "
        "things look.",
    )
    rate: float = Field(2e-3, gt=0, description="Learning rate; 1e-5 to 1e-4 for Wan.")
    motion_loss: Literal["signed", "released", "none"] = Field(
        "signed",
        description="Loss beside flow matching. signed: the direction in which the clean estimate changes "
        "with time; released: of the published code, blind to signs.",
    )
    motion_weight: float = Field(0.5, ge=0, description="Weight of transfer.training.motion_loss.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of AdamW.")
    warm_up: int = Field(10, ge=1, description="Steps over which the learning rate rises to its value.")
    clip: float = Field(1.0, gt=0, description="Gradient norms are clipped to this.")
    ema: float = Field(
        0.9, ge=0, lt=1, description="Decay of the running average of the adapter, which is what is saved."
    )
    validate_every: int = Field(25, ge=1, description="Steps between validations on held-out copies.")
    patience: int = Field(
        0, ge=0, description="Validations without improvement before tuning stops; 0 never stops early."
    )
    shift: float = Field(3.0, gt=0, description="Timestep shift of the noise levels; 3 or 5 for Wan.")
    caption_dropout: float = Field(
        0.1, ge=0, le=1, description="Share of samples with an empty prompt, as guidance needs."
    )
    log_every: int = Field(10, ge=1, description="Steps between logged losses.")

    def keyed(self) -> dict[str, Any]:
        """Return the settings that can change an adapter."""
        unused = {"log_every"} | ({"motion_weight"} if self.motion_loss == "none" else set())
        return self.model_dump(mode="json", exclude=unused)


class GuidedConfig(Section):
    """method guided: no tuning; the clean estimate is pulled towards the reference's while sampling."""

    rate: float = Field(0.25, gt=0, le=0.5, description="Size of a step towards the reference.")
    anchor: float = Field(
        0.25, ge=0, le=4, description="Weight of the reference's latents themselves, beside their changes."
    )
    until: float = Field(0.2, gt=0, le=1, description="Share of the sampling steps that are guided.")


class TransferConfig(Section):
    """Motion transfer: the motion of reference clips, performed by other scenes."""

    reference: str | None = Field(
        None,
        min_length=1,
        description="Whose motion is transferred: a clip id or glob of the dataset, or the path or URI of a "
        "video or a dataset. The dataset's other clips are the targets.",
    )
    reference_where: str = Field(
        "*", description="Glob that references must match, where transfer.reference names a dataset."
    )
    reference_prompt: str | None = Field(
        None, description="Prompt for what references show, in place of their captions."
    )
    prompt: str | None = Field(None, description="Prompt for results, in place of the targets' captions.")
    start: Literal["first_frame", "swept", "text"] = Field(
        "first_frame",
        description="What is known of a result. first_frame: the target's first frame; swept: the target's "
        "clip, except where what the mask covers may move; text: nothing.",
    )
    method: Literal["adapter", "explicit", "guided"] = Field(
        "adapter",
        description="adapter: one tuned on each reference; explicit: what the mask covers is lifted and "
        "moved along the reference's tracks; guided: without tuning, while sampling.",
    )
    camera: Literal["target", "two_passes"] = Field(
        "target",
        description="Camera of results. target: that of the target; two_passes: results are besides "
        "recaptured along each of the trajectories.",
    )
    window: int = Field(
        17,
        ge=SMALLEST_WINDOW,
        le=1001,
        description="Most frames of a reference, from its first, and so of a result; must be 4n+1.",
    )
    frame_rates: Literal["same", "any"] = Field(
        "same",
        description="same: a target of another frame rate than its reference is an error; any: frames count.",
    )
    samples: int = Field(1, ge=1, le=64, description="Results per reference and target, of seeds in turn.")
    scale: float = Field(1.0, ge=0, le=4, description="Scale of the motion adapter in results.")
    noise_scale: float = Field(
        1.0, gt=0, le=1, description="Scale of the initial noise of a result, in place of fill.noise_scale."
    )
    dilate: int = Field(
        4, ge=0, le=256, description="start swept: pixels by which the swept region is dilated."
    )
    least_motion: float = Field(
        2.0, ge=0, description="Pixels that something in a reference must move at the working size."
    )
    heads: HeadsConfig = HeadsConfig()
    sparse: SparseConfig = SparseConfig()
    augment: AugmentConfig = AugmentConfig()
    spatial: SpatialConfig = SpatialConfig()
    training: MotionTrainingConfig = MotionTrainingConfig()
    guided: GuidedConfig = GuidedConfig()
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Seconds between checkpoints; a killed run loses at most this much work."
    )
    timeout_seconds: float = Field(
        7200.0, gt=0, description="Seconds without progress after which a tuning is stopped."
    )
    register_model: bool = Field(True, description="Register motion adapters in MLflow's model registry.")

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.window % 4 != 1:
            near = self.window - self.window % 4 + 1
            raise ValueError(f"window is {self.window}, not 4n+1; use {near} or {near + 4}")
        if self.sparse.kept is not None and self.sparse.kept >= self.window:
            raise ValueError(
                f"sparse.kept {self.sparse.kept} is not less than window {self.window}; set it to null, or "
                "raise transfer.window"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.method == "explicit" and self.start != "swept":
            raise ValueError("method explicit moves what a mask covers; set transfer.start swept")
        if self.spatial.scale and not self.spatial.steps:
            raise ValueError("spatial.scale is of an adapter that spatial.steps 0 leaves out; set both")
        return self
