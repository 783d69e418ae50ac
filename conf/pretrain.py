"""The settings of pre-training the embedded base."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recapture.conf.schema import TrackingConfig
from recapture.conf.section import Section

# refine: the autoencoder trained further, on long clips; sharpen: its decoder against an adversary
PARTS = ("vae", "refine", "sharpen", "inpainter", "depth", "features")


Variety = Literal["classic", "wide", "world"]


class PartConfig(Section):
    """The training schedule of one part of the base."""

    steps: int = Field(
        ge=0, description="Training steps; 0 keeps the weights of `start` as they are, and needs them."
    )
    rate: float = Field(gt=0, lt=1, description="Peak learning rate of Muon and AdamW.")
    ema: float = Field(ge=0, lt=1, description="Decay of the running average of the weights.")
    warm_up: int = Field(60, ge=1, description="Steps over which the learning rate rises to its peak.")
    decay_from: float = Field(
        0.5, ge=0, lt=1, description="Share of the steps after which the learning rate decays."
    )


class GatesConfig(Section):
    """The quality that a part must reach on held-out scenes before the next part is trained."""

    vae_psnr: float = Field(32.0, description="Reconstruction PSNR in dB, mean over held-out clips.")
    vae_chroma_r2: float = Field(0.97, le=1, description="R² of reconstructed chroma.")
    vae_sharpness: float = Field(
        0.9, gt=0, description="Sharpness of the decoder's pictures, in parts of the clips' own."
    )
    hole_gain: float = Field(
        2.0, description="Hole PSNR in dB above filling with the mean colour, on generic masks."
    )
    colour_accuracy: float = Field(
        0.8, le=1, description="Accuracy of a hidden object's colour, with guidance."
    )
    depth_abs_rel: float = Field(
        0.12, gt=0, description="Absolute relative depth error after one scale per clip."
    )
    features_ordered: float = Field(
        0.95,
        le=1,
        description="Share of neighbouring doses of degradations that each metric of the network puts "
        "in order.",
    )
    enforce: bool = Field(
        True,
        description="Stop at a missed gate; false continues and reports it in summary, model cards and "
        "MLflow.",
    )


class PretrainConfig(Section):
    """All settings of `recapture pretrain`."""

    output: str = Field("weights", min_length=1, description="Folder for base/, depth/ and features/.")
    work: str = Field("state/pretrain", min_length=1, description="Folder of checkpoints and logs.")
    start: str = Field(
        "",
        description="Folder of finished weights, the `work` of an earlier run: a part whose weights are "
        "there goes on from them instead of from initial ones.",
    )
    state: str = Field("state", min_length=1, description="Local folder of Prefect's and MLflow's databases.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")
    deterministic: bool = Field(
        False, description="Use only deterministic kernels: slower on GPUs, no difference on CPUs."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of all randomness.")
    scenes: int = Field(
        6000, ge=8, description="Scenes of each variety in the training pool, with seeds from 1,000,000."
    )
    varieties: dict[Variety, float] = Field(
        {"classic": 0.1, "wide": 0.9},
        min_length=1,
        description="Shares of the varieties of scenes.",
    )
    held_out: int = Field(32, ge=2, description="Held-out scenes of the gates, with seeds from 0.")
    side: int = Field(128, ge=32, le=256, description="Height and width of the gates' clips.")
    vae: PartConfig = PartConfig(steps=6500, rate=3e-3, ema=0.995)
    refine: PartConfig = PartConfig(steps=8400, rate=2e-3, ema=0.998, warm_up=100, decay_from=0.3)
    sharpen: PartConfig = PartConfig(steps=2500, rate=5e-4, ema=0.998, warm_up=100, decay_from=0.3)
    adversary_rate: float = Field(
        2e-4, gt=0, lt=1, description="Learning rate of the decoder's adversary, in sharpen."
    )
    vae_clips: int = Field(5000, ge=8, description="Clips from which the autoencoder's crops are cut.")
    vae_epoch: int = Field(2500, ge=1, description="Steps after which these clips are rendered anew.")
    vae_scale: float = Field(
        1.0, gt=0, le=1, description="Factor on batches, crops and clips of the autoencoder, for trial runs."
    )
    inpainter: PartConfig = PartConfig(steps=13000, rate=1.5e-3, ema=0.999, warm_up=200, decay_from=0.4)
    inpainter_batch: int = Field(256, ge=1, description="Samples per step of the inpainter, for each GPU.")
    inpainter_clips: int = Field(8000, ge=1, description="Clips in each encoded pool.")
    inpainter_masks: int = Field(3, ge=1, description="Masked versions of each encoded clip.")
    inpainter_scale: float = Field(
        1.0, gt=0, le=1, description="Factor on the sides of the inpainter's clips, for trial runs."
    )
    inpainter_epoch: int = Field(2500, ge=1, description="Steps after which the encoded pool is made anew.")
    depth: PartConfig = PartConfig(steps=4500, rate=1e-3, ema=0.998, warm_up=200, decay_from=0.3)
    depth_batch: int = Field(96, ge=1, description="Frames per step of the depth model.")
    depth_frames: int = Field(24000, ge=4, description="Frames in the pool that its batches are drawn from.")
    depth_epoch: int = Field(600, ge=1, description="Steps after which these frames are rendered anew.")
    features: PartConfig = PartConfig(steps=3000, rate=2e-3, ema=0.998, warm_up=100, decay_from=0.3)
    features_batch: int = Field(64, ge=4, description="Clips per step of the feature network.")
    features_clips: int = Field(600, ge=1, description="Clips from which its batches are cut.")
    features_epoch: int = Field(1000, ge=1, description="Steps after which these clips are rendered anew.")
    features_side: int = Field(128, ge=32, le=256, description="Height and width of its pictures.")
    feature_network: dict[str, int] = Field(
        default_factory=dict, description="Changes to the feature network's architecture."
    )
    transformer: dict[str, int] = Field(
        default_factory=dict, description="Changes to the transformer's architecture."
    )
    autoencoder: dict[str, int] = Field(
        default_factory=dict, description="Changes to the autoencoder's architecture."
    )
    depth_model: dict[str, int] = Field(
        default_factory=dict, description="Changes to the depth model's backbone."
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Seconds between checkpoints; a killed run loses at most this much work."
    )
    log_every: int = Field(50, ge=1, description="Steps averaged into one point of a curve.")
    gates: GatesConfig = GatesConfig()
    tracking: TrackingConfig = TrackingConfig()
