"""The configuration of pre-training the embedded base."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recapture.conf.schema import TrackingConfig
from recapture.conf.section import Section

PARTS = ("vae", "refine", "inpainter", "depth")  # refine: the autoencoder again, on long clips


class PartConfig(Section):
    """The schedule of one part of the base."""

    steps: int = Field(ge=1)
    rate: float = Field(gt=0, lt=1, description="Peak learning rate, of Muon and AdamW alike.")
    ema: float = Field(ge=0, lt=1, description="Decay of the running average of the weights.")
    warm_up: int = Field(60, ge=1)
    decay_from: float = Field(0.5, ge=0, lt=1, description="Share of the steps after which the rate falls.")


class GatesConfig(Section):
    """What a part must reach on held-out scenes before anything is built on it."""

    vae_psnr: float = Field(32.0, description="dB, mean over held-out clips.")
    vae_chroma_r2: float = Field(0.97, le=1)
    hole_gain: float = Field(2.0, description="dB of hole PSNR over the mean-colour control, generic masks.")
    colour_accuracy: float = Field(0.8, le=1, description="With guidance, of a hidden object's colour.")
    depth_abs_rel: float = Field(0.12, gt=0, description="After one scale a clip.")
    enforce: bool = Field(
        True, description="Stop at a missed gate; false goes on, and says so in summary, cards and MLflow."
    )


class PretrainConfig(Section):
    """Everything that `recapture pretrain` needs to know."""

    output: str = Field("weights", min_length=1, description="Folder that base/ and depth/ are written to.")
    work: str = Field("state/pretrain", min_length=1, description="Folder of checkpoints and logs.")
    state: str = Field("state", min_length=1, description="Local folder of Prefect's and MLflow's databases.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    deterministic: bool = Field(
        False, description="Only kernels that repeat to the bit, slower; on a CPU all that are used here do."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1)
    scenes: int = Field(6000, ge=8, description="Scenes in the training pool; seeds from 1,000,000 on.")
    held_out: int = Field(32, ge=2, description="Held-out scenes of the gates; seeds from 0 on.")
    side: int = Field(128, ge=32, le=256, description="Height and width of the gates' clips.")
    vae: PartConfig = PartConfig(steps=6500, rate=3e-3, ema=0.995)
    refine: PartConfig = PartConfig(steps=8400, rate=2e-3, ema=0.998, warm_up=100, decay_from=0.3)
    vae_clips: int = Field(5000, ge=8, description="Clips that crops are cut from.")
    vae_epoch: int = Field(2500, ge=1, description="Steps after which that pool is rendered anew.")
    vae_scale: float = Field(
        1.0, gt=0, le=1, description="Shrinks the stages' batches, crops and clips, for trials."
    )
    inpainter: PartConfig = PartConfig(steps=13000, rate=1.5e-3, ema=0.999, warm_up=200, decay_from=0.4)
    inpainter_batch: int = Field(256, ge=1)
    inpainter_clips: int = Field(8000, ge=1, description="Clips in each encoded pool.")
    inpainter_masks: int = Field(3, ge=1, description="Masked versions of each.")
    inpainter_scale: float = Field(1.0, gt=0, le=1, description="Shrinks the clips' sides, for trials.")
    inpainter_epoch: int = Field(2500, ge=1, description="Steps after which the pool is made anew.")
    depth: PartConfig = PartConfig(steps=4500, rate=1e-3, ema=0.998, warm_up=200, decay_from=0.3)
    depth_batch: int = Field(96, ge=1)
    transformer: dict[str, int] = Field(default_factory=dict, description="Changes to its architecture.")
    autoencoder: dict[str, int] = Field(default_factory=dict, description="Changes to its architecture.")
    depth_model: dict[str, int] = Field(default_factory=dict, description="Changes to its backbone.")
    checkpoint_seconds: float = Field(60.0, ge=0, description="A run that is killed loses at most so much.")
    log_every: int = Field(50, ge=1, description="Steps that one point of a curve averages over.")
    gates: GatesConfig = GatesConfig()
    tracking: TrackingConfig = TrackingConfig()
