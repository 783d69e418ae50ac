"""Pre-training of the embedded base, part by part: autoencoder, inpainter with its text encoder, depth.

Each part resumes from its last checkpoint and is judged on held-out scenes. Under `torchrun` every GPU
renders and learns from clips of its own, and the gradients are averaged.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.pretrain import PartConfig, PretrainConfig
from recapture.datasets.scenes.stream import SceneStream
from recapture.datasets.scenes.words import caption_words
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.models.pretraining.adversary import WIDTHS, Adversary
from recapture.models.pretraining.depth import DepthLearner, build_depth_model
from recapture.models.pretraining.inpainter import (
    BUCKETS,
    Inpainter,
    InpainterLearner,
    PoolPlan,
    build_text_encoder,
    build_transformer,
    latent_statistics,
    shrink_buckets,
)
from recapture.models.pretraining.sharpen import SHARPENING, SharpenLearner
from recapture.models.pretraining.trainer import (
    Diverged,
    Learner,
    Log,
    OtherSettings,
    Schedule,
    Trainer,
)
from recapture.models.pretraining.vae import (
    NOISE,
    REFINING,
    REFINING_NOISE,
    STAGES,
    Stage,
    VaeLearner,
    build_vae,
    shrink_stages,
)
from recapture.models.training.parallel import Workers
from recapture.tasks.pretrain.data import (
    DepthFrames,
    InpainterClips,
    SceneMixture,
    VaeClips,
    channels_first,
    make_tokenizer,
)
from recapture.tasks.pretrain.feature_part import feature_learner
from recapture.tasks.pretrain.finished_weights import FinishedWeights, begin

FIRST_TRAINING_SEED = 1_000_000


class Pretraining:
    """One pre-training run: its parts and its working folder."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.workers = Workers.from_environment()
        wanted = config.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "pretrain: device=cuda, but torch finds no GPU; set device=auto, or fix the driver"
            )
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        )
        self.folder = Path(config.work)
        self.weights = FinishedWeights(config)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = not config.deterministic
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)

    def train(self, part: str, log: Log, *, until: float = math.inf, stop_at: int | None = None) -> bool:
        """Train a part to the end of its schedule, until `until` (time.monotonic) or a step.

        Return whether it is finished. The inpainter needs a finished autoencoder. Raises UserError if the
        loss is no longer a number, or if the folder's checkpoint was made with other settings.
        """
        trainer = self.trainer(part)
        every, save_seconds = self.config.log_every, self.config.checkpoint_seconds
        try:
            finished = trainer.run(
                log, log_every=every, save_seconds=save_seconds, until=until, stop_at=stop_at
            )
        except (Diverged, OtherSettings) as error:
            raise UserError(f"pretrain: {error}") from error
        if finished and self.workers.first:
            trainer.use_average()
            self._keep(part, trainer)
        self.workers.wait()
        return finished

    def finished(self, part: str) -> bool:
        """Return whether a part is fully trained; raises UserError if it was trained with other settings."""
        return self.weights.exists(part)

    def scores(self, part: str, judge: Callable[[Pretraining, str], dict[str, float]]) -> dict[str, float]:
        """Return the judge's scores of a finished part; they are stored with its weights."""
        path = self.folder / f"{part}.scores.json"
        judged = {
            "weights": self.weights.digest(part),
            "held_out": self.config.held_out,
            "side": self.config.side,
        }
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("judged") != judged:
            known = {"judged": judged, "scores": judge(self, part)}
            put_file(*open_filesystem(str(path)), json.dumps(known, indent=2).encode())
        scores: dict[str, float] = known["scores"]
        return scores

    def trainer(self, part: str) -> Trainer:
        """Return the trainer of a part, at its first step until it is resumed."""
        settings: PartConfig = getattr(self.config, part)
        schedule = Schedule(settings.steps, settings.rate, settings.warm_up, settings.decay_from)
        make: dict[str, Callable[[], Learner]] = {
            "vae": self._vae,
            "refine": self._refine,
            "sharpen": self._sharpen,
            "inpainter": self._inpainter,
            "depth": self._depth,
            "features": lambda: feature_learner(self.config, self.stream, self.workers),
        }
        learner, made_with = make[part](), self.weights.made_with(part)
        begin(learner.module, self.weights, part, settings.steps)
        return Trainer(part, learner, schedule, self.folder, settings.ema, made_with, self.workers)

    @cached_property
    def stream(self) -> SceneMixture:
        """Return the training scenes."""
        seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + self.config.scenes)
        shares = {str(name): share for name, share in self.config.varieties.items()}
        return SceneMixture(
            {name: SceneStream(seeds, self.device, name) for name in self.config.varieties}, shares
        )

    @cached_property
    def tokenizer(self) -> Any:
        """Return the tokenizer of the scenes' captions."""
        return make_tokenizer(caption_words())

    def _vae(self) -> VaeLearner:
        config = self.config
        vae = build_vae(config.seed, self.device, **config.autoencoder)
        return self._vae_learner(vae, STAGES, config.vae.steps, config.seed, NOISE)

    def _refine(self) -> VaeLearner:
        if self.weights.start("refine"):
            vae = build_vae(self.config.seed, self.device, **self.config.autoencoder)
        else:
            vae, _, _ = self.finished_vae("vae")
        steps, seed = self.config.refine.steps, self.config.seed + 1
        return self._vae_learner(vae.requires_grad_(True).train(), REFINING, steps, seed, REFINING_NOISE)

    def _sharpen(self) -> SharpenLearner:
        config = self.config
        vae, _, _ = self.finished_vae("refine")
        self._prepare(vae)
        rate = config.adversary_rate
        adversary = Adversary(config.seed, self.device, rate, self.workers, _widths(config.vae_scale))
        stages = shrink_stages(SHARPENING, config.vae_scale)
        seed = self.workers.seed(config.seed + 2)
        return SharpenLearner(vae.train(), self._clips(seed), config.sharpen.steps, seed, adversary, stages)

    def _vae_learner(
        self, vae: Any, stages: tuple[Stage, ...], steps: int, seed: int, noise: float
    ) -> VaeLearner:
        stages = shrink_stages(stages, self.config.vae_scale)
        self._prepare(vae)
        seed = self.workers.seed(seed)
        return VaeLearner(vae, self._clips(seed), steps, seed, stages, noise)

    def _clips(self, seed: int) -> VaeClips:
        config = self.config
        return VaeClips(self.stream, seed, config.vae_clips, config.vae_epoch, config.vae_scale)

    def _prepare(self, vae: Any) -> None:
        """Lay the kernels of time convolutions out as the GPU's convolutions read them."""
        if self.device.type == "cuda":
            for module in vae.modules():
                if isinstance(module, torch.nn.Conv3d):
                    weight = module.weight
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)

    def _inpainter(self) -> InpainterLearner:
        config = self.config
        vae, mean, deviation = self.finished_vae()
        source = InpainterClips(self.stream, self.tokenizer)
        plan = PoolPlan(
            config.inpainter_clips, config.inpainter_masks, config.inpainter_epoch, config.inpainter_batch
        )
        inpainter = self.new_inpainter()
        if self.device.type == "cuda":
            inpainter.transformer.compile_repeated_blocks(dynamic=False)
        buckets = shrink_buckets(BUCKETS, config.inpainter_scale)
        statistics = mean, deviation
        return InpainterLearner(inpainter, vae, source, statistics, config.seed, plan, buckets, self.workers)

    def new_inpainter(self) -> Inpainter:
        """Return transformer and text encoder with their initial weights."""
        config = self.config
        transformer = build_transformer(config.seed, self.device, **config.transformer)
        encoder = build_text_encoder(
            len(self.tokenizer), config.seed, self.device, d_model=transformer.config.text_dim
        )
        return Inpainter(transformer, encoder)

    def _depth(self) -> DepthLearner:
        frames = DepthFrames(
            self.stream,
            self.workers.seed(self.config.seed),
            self.config.depth_frames,
            self.config.depth_epoch,
        )
        model = self.new_depth_model()
        return DepthLearner(model, frames, self.config.seed, self.config.depth_batch)

    def new_depth_model(self) -> Any:
        """Return the depth model with its initial weights."""
        return build_depth_model(self.config.seed, self.device, **self.config.depth_model)

    def _keep(self, part: str, trainer: Trainer) -> None:
        """Write a finished part's averaged weights in float16; for the autoencoder, also its statistics."""
        weights = {
            name: p.detach().to(torch.float16).contiguous().cpu()
            for name, p in trainer.learner.module.state_dict().items()
        }
        if part == "sharpen":  # the encoder is that of refine, and so are its latents
            below = self.weights.read("refine")
            weights |= {name: value for name, value in below.items() if name.startswith("statistics.")}
        elif part in ("vae", "refine") and not trainer.schedule.steps:  # what was trained on them stays valid
            begun = self.weights.read_start(part)
            weights |= {name: value for name, value in begun.items() if name.startswith("statistics.")}
        elif part in ("vae", "refine"):
            vae = trainer.learner.module
            count, side = min(24, self.config.vae_clips), self.config.side
            videos = [
                channels_first(self.stream.draw(31 * n + 5, count, 17, side, side))
                for n in range(8 if self.device.type == "cuda" else 1)
            ]
            weights["statistics.mean"], weights["statistics.deviation"] = (
                value.cpu() for value in latent_statistics(vae, videos)
            )
        self.weights.write(part, weights)

    def finished_vae(self, part: str = "refine") -> tuple[Any, Tensor, Tensor]:
        """Return the trained autoencoder, and its latents' mean and deviation [16]."""
        weights = self.weights.read(part)
        mean, deviation = (weights.pop(f"statistics.{x}").to(self.device) for x in ("mean", "deviation"))
        vae = build_vae(self.config.seed, self.device, **self.config.autoencoder)
        vae.load_state_dict(weights)
        return vae.requires_grad_(False).eval(), mean, deviation

    def finished_inpainter(self) -> Inpainter:
        """Return the trained transformer and text encoder."""
        inpainter = self.new_inpainter()
        inpainter.load_state_dict(self.weights.read("inpainter"))
        return inpainter.requires_grad_(False).eval()

    def finished_depth(self) -> Any:
        """Return the trained depth model."""
        model = self.new_depth_model()
        model.load_state_dict(self.weights.read("depth"))
        return model.requires_grad_(False).eval()


def _widths(scale: float) -> tuple[int, ...]:
    """Return the adversary's widths for crops times `scale`, in multiples of 8."""
    return tuple(max(8, round(width * scale / 8) * 8) for width in WIDTHS)
