"""Pre-training of the embedded base, part by part: autoencoder, inpainter with its text encoder, depth.

Each part resumes from its last checkpoint, is judged on held-out scenes, and raises GateFailed where it falls
short. Runs where only torch, diffusers and transformers are installed:

    python -m recapture.tasks.pretrain vae --seconds 500 --set vae.steps=7000
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from recapture.conf.load import UserError
from recapture.conf.pretrain import PARTS, PartConfig, PretrainConfig
from recapture.datasets.scene_stream import SceneStream
from recapture.datasets.scenes import caption_words
from recapture.models.pretraining.depth import DepthLearner, build_depth_model
from recapture.models.pretraining.inpainter import (
    BUCKETS,
    Inpainter,
    InpainterLearner,
    PoolPlan,
    build_text_encoder,
    build_transformer,
    latent_statistics,
)
from recapture.models.pretraining.trainer import Learner, Log, Schedule, Trainer
from recapture.models.pretraining.vae import (
    NOISE,
    REFINING,
    REFINING_NOISE,
    STAGES,
    Stage,
    VaeLearner,
    build_vae,
)
from recapture.tasks.pretrain_data import (
    DepthFrames,
    InpainterClips,
    VaeClips,
    channels_first,
    make_tokenizer,
)

FIRST_TRAINING_SEED = 1_000_000


class GateFailed(UserError):
    """A part of the base is not good enough to build on."""


class Pretraining:
    """The parts of one pre-training run in its working folder."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        wanted = config.device
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        )
        self.folder = Path(config.work)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True

    def train(self, part: str, log: Log, *, until: float = math.inf, stop_at: int | None = None) -> bool:
        """Train a part up to its schedule's end, `until` (time.monotonic) or a step; return whether finished.

        The inpainter needs a finished autoencoder. Raises Diverged when a loss is no longer a number.
        """
        trainer = self.trainer(part)
        finished = trainer.run(log, until=until, stop_at=stop_at)
        if finished:
            trainer.use_average()
            self._keep(part, trainer)
        return finished

    def finished(self, part: str) -> bool:
        """Whether a part has been trained to its end."""
        return (self.folder / f"{part}.finished.safetensors").exists()

    def scores(self, part: str, judge: Callable[[Pretraining, str], dict[str, float]]) -> dict[str, float]:
        """What the judge says of a finished part; remembered beside its weights."""
        path = self.folder / f"{part}.scores.json"
        if not path.exists():
            path.write_text(json.dumps(judge(self, part), indent=2))
        scores: dict[str, float] = json.loads(path.read_text())
        return scores

    def check(self, part: str, scores: Mapping[str, float]) -> None:
        """Raise GateFailed where a part falls short of its gates."""
        check(part, scores, gate_bounds(self.config, part))

    def trainer(self, part: str) -> Trainer:
        """The trainer of a part, at its first step until it is resumed."""
        settings: PartConfig = getattr(self.config, part)
        schedule = Schedule(settings.steps, settings.rate, settings.warm_up, settings.decay_from)
        make: dict[str, Callable[[], Learner]] = {
            "vae": self._vae,
            "refine": self._refine,
            "inpainter": self._inpainter,
            "depth": self._depth,
        }
        return Trainer(part, make[part](), schedule, self.folder, settings.ema)

    @cached_property
    def stream(self) -> SceneStream:
        """The training scenes."""
        return SceneStream(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + self.config.scenes), self.device)

    @cached_property
    def tokenizer(self) -> Any:
        return make_tokenizer(caption_words())

    def _vae(self) -> VaeLearner:
        config = self.config
        vae = build_vae(config.seed, self.device, **config.autoencoder)
        return self._vae_learner(vae, STAGES, config.vae.steps, config.seed, NOISE)

    def _refine(self) -> VaeLearner:
        vae, _, _ = self.finished_vae("vae")
        steps, seed = self.config.refine.steps, self.config.seed + 1
        return self._vae_learner(vae.requires_grad_(True).train(), REFINING, steps, seed, REFINING_NOISE)

    def _vae_learner(
        self, vae: Any, stages: tuple[Stage, ...], steps: int, seed: int, noise: float
    ) -> VaeLearner:
        config, scale = self.config, self.config.vae_scale
        stages = tuple(
            Stage(s.frames, max(32, round(s.side * scale / 32) * 32), max(2, round(s.batch * scale)), s.share)
            for s in stages
        )
        if self.device.type == "cuda":
            for module in vae.modules():
                if isinstance(module, torch.nn.Conv3d):
                    weight = module.weight
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        clips = VaeClips(self.stream, seed, config.vae_clips, config.vae_epoch)
        return VaeLearner(vae, clips, steps, seed, stages, noise)

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
        return InpainterLearner(inpainter, vae, source, (mean, deviation), config.seed, plan, BUCKETS)

    def new_inpainter(self) -> Inpainter:
        """Transformer and text encoder at their start values."""
        config = self.config
        transformer = build_transformer(config.seed, self.device, **config.transformer)
        encoder = build_text_encoder(
            len(self.tokenizer), config.seed, self.device, d_model=transformer.config.text_dim
        )
        return Inpainter(transformer, encoder)

    def _depth(self) -> DepthLearner:
        frames = DepthFrames(self.stream, self.config.seed)
        model = build_depth_model(self.config.seed, self.device)
        return DepthLearner(model, frames, self.config.seed, self.config.depth_batch)

    def _keep(self, part: str, trainer: Trainer) -> None:
        """Write a finished part's averaged weights, half as long; with the autoencoder, its statistics."""
        weights = {
            name: p.detach().to(torch.float16).contiguous().cpu()
            for name, p in trainer.learner.module.state_dict().items()
        }
        if part in ("vae", "refine"):
            vae = trainer.learner.module
            videos = [
                channels_first(self.stream.draw(31 * n + 5, 24, 17, self.config.side, self.config.side))
                for n in range(8 if self.device.type == "cuda" else 1)
            ]
            weights["statistics.mean"], weights["statistics.deviation"] = (
                value.cpu() for value in latent_statistics(vae, videos)
            )
        save_file(weights, self.folder / f"{part}.finished.safetensors")

    def finished_weights(self, part: str) -> dict[str, Tensor]:
        """The averaged weights of a finished part; raises UserError when it is not finished."""
        path = self.folder / f"{part}.finished.safetensors"
        if not path.exists():
            raise UserError(f"pretrain: {part} is not trained yet ({path} is missing); train it first")
        return {name: value.float() for name, value in load_file(path).items()}

    def finished_vae(self, part: str = "refine") -> tuple[Any, Tensor, Tensor]:
        """The trained autoencoder, and its latents' mean and deviation [16]."""
        weights = self.finished_weights(part)
        mean, deviation = (weights.pop(f"statistics.{x}").to(self.device) for x in ("mean", "deviation"))
        vae = build_vae(self.config.seed, self.device, **self.config.autoencoder)
        vae.load_state_dict(weights)
        return vae.requires_grad_(False).eval(), mean, deviation

    def finished_inpainter(self) -> Inpainter:
        """The trained transformer and text encoder."""
        inpainter = self.new_inpainter()
        inpainter.load_state_dict(self.finished_weights("inpainter"))
        return inpainter.requires_grad_(False).eval()

    def finished_depth(self) -> Any:
        """The trained depth model."""
        model = build_depth_model(self.config.seed, self.device)
        model.load_state_dict(self.finished_weights("depth"))
        return model.requires_grad_(False).eval()


def check(part: str, scores: Mapping[str, float], bounds: Mapping[str, tuple[str, float]]) -> None:
    """Raise GateFailed where a score is on the wrong side of its bound: ('>=' or '<=', value)."""
    for name, (side, bound) in bounds.items():
        value = scores[name]
        if not (value >= bound if side == ">=" else value <= bound):
            raise GateFailed(
                f"pretrain: gate {part}/{name} failed: {value:.4g}, needed {side} {bound:g}; train {part} "
                f"longer ({part}.steps), or lower the bound under gates if you know why"
            )


def gate_bounds(config: PretrainConfig, part: str) -> dict[str, tuple[str, float]]:
    """The gates of a part, by the name of the score."""
    gates = config.gates
    return {
        "vae": {},
        "refine": {
            "classic/psnr": (">=", gates.vae_psnr),
            "classic/chroma_r2": (">=", gates.vae_chroma_r2),
            "wide/psnr": (">=", gates.vae_psnr),
            "wide/chroma_r2": (">=", gates.vae_chroma_r2),
        },
        "depth": {f"{v}/abs_rel": ("<=", gates.depth_abs_rel) for v in ("classic", "wide")},
        "inpainter": {
            "hole_gain": (">=", gates.hole_gain),
            "colour_accuracy": (">=", gates.colour_accuracy),
        },
    }[part]


def file_log(path: Path, part: str) -> Log:
    """A log that appends a JSON line a record to a file, and prints it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()

    def write(step: int, values: Mapping[str, float]) -> None:
        rounded = {name: round(value, 6) for name, value in values.items()}
        line = json.dumps({"part": part, "step": step, "machine": machine, **rounded})
        print(line, flush=True)
        with path.open("a") as file:
            file.write(line + "\n")

    return write


def main(words: list[str] | None = None) -> None:
    """Train and judge one part without Prefect and MLflow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="Save and stop after so long.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(words)
    values: dict[str, Any] = {}
    for setting in given.set:
        key, _, text = setting.partition("=")
        inner = values
        *path, last = key.split(".")
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = yaml.safe_load(text)
    for name in PARTS:
        if name in values:
            values[name] = {**PretrainConfig().model_dump()[name], **values[name]}
    run = Pretraining(PretrainConfig.model_validate(values))
    until = time.monotonic() + given.seconds
    finished = run.train(given.part, file_log(run.folder / "log.jsonl", given.part), until=until)
    if finished:
        from recapture.tasks.pretrain_judge import judge

        print(json.dumps({"part": given.part, "scores": run.scores(given.part, judge)}), flush=True)


if __name__ == "__main__":
    main()
