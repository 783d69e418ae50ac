"""Tune: train one adapter on the pairs of one clip or of all; resume a training that was interrupted."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from recapture.conf.adapter import TUNED_SCALE
from recapture.conf.schema import FillConfig
from recapture.conf.tune import TuneConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.store import ArtifactStore
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.training.parallel import Reduce
from recapture.models.tuning.examples import check_trainable
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.lora import add_lora, load_adapter, remove_lora
from recapture.models.wan.text import encode_text
from recapture.tasks.clip.adapters import local_adapter
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.engine.mlflow_link import Tracker, resume_run
from recapture.tasks.engine.model_revision import model_revision
from recapture.tasks.engine.stage import Item, PlannedStage
from recapture.tasks.jobs.fill import open_base
from recapture.tasks.tune.checkpoint import Checkpoint, Point
from recapture.tasks.tune.encoded_pairs import FILE, EncodedPair, open_pairs
from recapture.tasks.tune.many_nodes import Ranks
from recapture.tasks.tune.one_node import train_together
from recapture.tasks.tune.params import PairsKey, TrainingParams
from recapture.tasks.tune.recapturer import base_settings
from recapture.tasks.tune.source import draw_seed
from recapture.tasks.tune.train_adapter import Trained, settings_of, train_adapter


@dataclass(frozen=True)
class Live:
    """The MLflow run that a training logs to while it runs; never part of a key."""

    uri: str | None = None
    run_id: str | None = None

    def open(self) -> Tracker:
        """Return the run."""
        return resume_run(self.uri, self.run_id)


@dataclass
class TuneStage(PlannedStage[TrainingParams]):
    """Write an adapter as pytorch_lora_weights.safetensors, and curve.json.

    An adapter among the inputs is trained further, else tune.start, else a new one. The artifacts of pairs
    enter the key through the identity.
    """

    config: TuneConfig
    fill: FillConfig
    store: str  # URL: pairs are opened from it, checkpoints written to it
    seed: int = 0
    live: Live = Live()
    packed_share: float = 0.0  # share of the steps with packed frames from another camera
    name: ClassVar[str] = "tune"
    version: ClassVar[str] = "3"
    parents: ClassVar[tuple[str, ...]] = ("tune",)

    @property
    def timeout_seconds(self) -> float | None:
        return self.config.timeout_seconds

    def settings(self, params: TrainingParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        training = self.config.training.keyed()
        settings: dict[str, Any] = {"training": training, "seed": self.seed, **base_settings(self.fill)}
        if self.packed_share:
            settings["packed_share"] = self.packed_share
        if inputs and self.config.cycle.moves:  # only then are there pairs from elsewhere than the source
            settings["source_share"] = self.config.cycle.source_share
        if not self.config.pairs.held_out:
            del training["validate_every"], training["patience"]
        if inputs or self.config.start is not None:  # the adapter to start from has its own
            del training["rank"], training["alpha"], training["first_block"]
        if not inputs and self.config.start is not None:
            settings["start"] = model_revision("tune.start", self.config.start)
        return settings

    def identity(self, params: TrainingParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        pairs = [{"key": one.key, "judges": one.judges} for one in params.pairs]
        return {"pairs": pairs, "steps": params.steps}

    def setup(self) -> None:
        if self.resources.bundles > 1:
            self._ranks = Ranks(self)
            self._ranks.start()
        elif self.config.workers == 1:
            self.load()

    def load(self) -> None:
        """Load the base, in the process that trains it."""
        budget = self.config.training.activation_budget
        device = stage_device(self.resources.gpus)
        base = open_base(self.fill, device, resident=True, activation_budget=budget)
        check_trainable(base)
        self._empty_text = encode_text(base, "", None).prompt[0]
        self._base = replace(base, text_encoder=None, tokenizer=None)  # pairs contain encoded captions

    def run(
        self, item: Item[TrainingParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        workers = self.config.workers
        if self.resources.bundles > 1:
            trained = self._ranks.train(item)
        else:
            trained = self.train(item) if workers == 1 else train_together(self, item, workers)
        output.write_bytes(FILE_NAME, trained.adapter)
        output.write_json("curve.json", trained.curve)
        output.meta.update(steps=trained.steps, stopped_early=trained.stopped_early)
        return {
            "steps": float(trained.steps),
            "seconds_per_step": trained.seconds_per_step,
            "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            **last_values(trained.curve),
        }

    def train(
        self, item: Item[TrainingParams], worker: tuple[int, int] = (0, 1), reduce: Reduce | None = None
    ) -> Trained:
        """Train an item's adapter as worker (rank, number of workers); leave the base unchanged."""
        tracker, label = self.live.open(), item.params.label

        def on_point(step: int, values: Mapping[str, float]) -> None:
            if worker[0] == 0:
                tracker.metrics({label + name: value for name, value in values.items()}, step)

        seed, store = draw_seed(self.seed, "tune", item.key), ArtifactStore(self.store)
        try:
            self._put_adapter(item, store, seed)
            with mapped_pairs(store, item.params.pairs) as pairs:
                return train_adapter(
                    self._base,
                    pairs,
                    settings_of(self.config.training, item.params.steps, seed, self.packed_share),
                    empty_text=self._empty_text,
                    source_share=self.config.cycle.source_share,
                    checkpoint=Checkpoint(self.store, self.name, item.key),
                    checkpoint_seconds=self.config.checkpoint_seconds,
                    notes={"made_by": f"recapture train, {item.name}", "scale": f"{TUNED_SCALE:g}"},
                    on_point=on_point,
                    worker=worker,
                    reduce=reduce,
                )
        finally:
            remove_lora(self._base.transformer)

    def _put_adapter(self, item: Item[TrainingParams], store: ArtifactStore, seed: int) -> None:
        transformer, training = self._base.transformer, self.config.training
        if "tune" in item.inputs:
            with local_adapter(store.open("tune", item.inputs["tune"])) as file:
                load_adapter(transformer, file)
        elif self.config.start is not None:
            load_adapter(transformer, self.config.start)
        else:
            add_lora(
                transformer,
                rank=training.rank,
                alpha=training.alpha,
                first_block=training.first_block,
                seed=seed,
            )


@contextmanager
def mapped_pairs(store: ArtifactStore, wanted: Sequence[PairsKey]) -> Iterator[list[EncodedPair]]:
    """Provide the pairs of several artifacts in order, with held-out pairs only where they judge.

    They stay on the disk (see `open_pairs`), those of a remote store as copies within this context: at
    81x480x832 the pairs of 100 clips and three rounds are some 40 GB, in each of the workers.
    """
    with ExitStack() as files:
        yield [
            pair
            for one in wanted
            for pair in open_pairs(files.enter_context(store.open("pairs", one.key).local_path(FILE)))
            if one.judges or not pair.held_out
        ]


def last_values(curve: Sequence[Point]) -> dict[str, float]:
    """Return the last value of every quantity of a curve."""
    return {name: value for _, values in curve for name, value in values.items()}
