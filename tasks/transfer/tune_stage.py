"""Motion tune: one reference tuned into a motion adapter; a training that was interrupted goes on."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.conf.transfer import TransferConfig
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.motion.examples import MotionExamples
from recapture.models.motion.heads import heads_by_share
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.motion.tune import MotionSettings
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.step import Settings
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.lora import remove_lora
from recapture.models.wan.text import encode_text
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.fill import open_base
from recapture.tasks.transfer.examples_stage import SINGLE, as_examples, sparse_of
from recapture.tasks.transfer.heads_stage import read_heads
from recapture.tasks.transfer.params import ReferenceParams
from recapture.tasks.transfer.train_motion import Part, Trained, train_motion
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.encoded_pairs import FILE, open_pairs
from recapture.tasks.tune.recapturer import base_settings
from recapture.tasks.tune.source import draw_seed, draws
from recapture.tasks.tune.tune_stage import Live, last_values

SPATIAL_FILE = "spatial.safetensors"
TEMPORAL, SPATIAL = "temporal", "spatial"  # names of the adapters in the base, and in checkpoints


@dataclass
class MotionTuneStage(PlannedStage[ReferenceParams]):
    """Write the motion adapter as pytorch_lora_weights.safetensors, and curve.json.

    With transfer.spatial.steps also spatial.safetensors, of what the reference looks like, which is tuned
    first and stays as it is while the motion adapter is tuned beside it.
    """

    config: TransferConfig
    fill: FillConfig
    store: str  # URL: checkpoints are written to it
    seed: int = 0
    live: Live = field(default_factory=Live)
    name: ClassVar[str] = "motion_tune"
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("heads", "motion_examples")

    @property
    def timeout_seconds(self) -> float | None:
        return self.config.timeout_seconds

    def settings(self, params: ReferenceParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        config = self.config
        settings: dict[str, Any] = {"training": config.training.keyed(), "seed": self.seed}
        settings |= {"rule": config.heads.rule, **base_settings(self.fill)}
        if sparse := config.sparse.keyed():
            settings["sparse"] = sparse
        if not config.augment.held_out:
            del settings["training"]["validate_every"], settings["training"]["patience"]
        if config.spatial.steps:
            settings["spatial_steps"] = config.spatial.steps
        return settings

    def setup(self) -> None:
        self._base = open_base(self.fill, stage_device(self.resources.gpus), resident=True)
        self._empty_text = encode_text(self._base, "", None).prompt[0]
        self._base = replace(self._base, text_encoder=None, tokenizer=None)  # captions are encoded

    def run(
        self, item: Item[ReferenceParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        examples = inputs["motion_examples"]
        started, heads = time.process_time(), self._heads(item, inputs)
        with examples.local_path(FILE) as path, turn():
            whole = as_examples(open_pairs(path))
            try:
                scales = self._spatial(item, examples, heads, output)
                trained = self._train(item, TEMPORAL, whole, heads, examples.meta["frames"], scales)
            finally:
                remove_lora(self._base.transformer)
        output.write_bytes(FILE_NAME, trained.adapter)
        output.write_json("curve.json", trained.curve)
        output.meta.update(steps=trained.steps, stopped_early=trained.stopped_early)
        output.meta.update(frames=examples.meta["frames"], reference=item.params.clip.id)
        chosen = 1.0 if heads is None else float(heads.float().mean())
        return {
            "steps": float(trained.steps),
            "heads_share": chosen,
            "seconds_per_step": trained.seconds_per_step,
            "cpu_seconds": time.process_time() - started,
            "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **last_values(trained.curve),
        }

    def _heads(self, item: Item[ReferenceParams], inputs: Mapping[str, Artifact]) -> Tensor | None:
        """Return which heads the motion adapter may change, bool [blocks, heads]; None: all."""
        if "heads" not in inputs:
            return None
        rule = self.config.heads.rule
        return heads_by_share(read_heads(inputs["heads"]), rule, draws(self.seed, "heads", rule))

    def _spatial(
        self,
        item: Item[ReferenceParams],
        examples: Artifact,
        heads: Tensor | None,
        output: ArtifactWriter,
    ) -> dict[str, float]:
        """Tune the spatial adapter, if one is wanted; return the scales of adapters beside the motion's."""
        if not self.config.spatial.steps:
            return {}
        with examples.local_path(SINGLE) as path:
            single = as_examples(open_pairs(path))
            others = None if heads is None else ~heads
            trained = self._train(item, SPATIAL, single, others, 5, {})
        output.write_bytes(SPATIAL_FILE, trained.adapter)
        return {SPATIAL: 1.0}

    def _train(
        self,
        item: Item[ReferenceParams],
        name: str,
        examples: MotionExamples,
        heads: Tensor | None,
        frames: int,
        beside: Mapping[str, float],
    ) -> Trained:
        tracker, label = self.live.open(), item.params.label + ("" if name == TEMPORAL else f"{name}/")

        def on_point(step: int, values: Mapping[str, float]) -> None:
            tracker.metrics({label + one: value for one, value in values.items()}, step)

        part = Part(
            name,
            examples,
            self._settings(name, frames, draw_seed(self.seed, name, item.key)),
            heads,
            beside,
            {"made_by": f"recapture transfer, {item.name}", "scale": "1"},
        )
        return train_motion(
            self._base,
            part,
            self._empty_text,
            Checkpoint(self.store, self.name if name == TEMPORAL else f"{self.name}-{name}", item.key),
            self.config.checkpoint_seconds,
            on_point,
        )

    def _settings(self, name: str, frames: int, seed: int) -> MotionSettings:
        config, training = self.config, self.config.training
        temporal = name == TEMPORAL
        sparse = sparse_of(config, frames) if temporal else Sparse("full", frames, frames, "native")
        kind = training.motion_loss if temporal else "none"
        return MotionSettings(
            settings_of(config, training.steps if temporal else config.spatial.steps, seed),
            training.rank,
            training.targets,
            MotionTerm(kind, training.motion_weight),
            sparse,
        )


def settings_of(config: TransferConfig, steps: int, seed: int) -> Settings:
    """Return the configuration of a tuning as the trainer's settings."""
    training = config.training
    return Settings(
        steps=steps,
        batch=training.batch,
        rate=training.rate,
        weight_decay=training.weight_decay,
        warm_up=training.warm_up,
        clip=training.clip,
        ema=training.ema,
        seed=seed,
        objective=Objective("uniform", training.shift, 1.0, training.caption_dropout),
        micro_batch=None,
        gradient_checkpointing=False,
        log_every=training.log_every,
        validate_every=training.validate_every,
        patience=training.patience,
        packed_share=0.0,
    )
