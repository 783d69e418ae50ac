"""One training of an adapter, from its start or checkpoint to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.conf.tune import TrainingConfig, TuneConfig
from recapture.models.training.parallel import Reduce
from recapture.models.training.schedule import Diverged
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.step import Settings
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.adapter_save import pack_adapter
from recapture.models.wan.load import Base
from recapture.tasks.engine.stage import Item, Resources
from recapture.tasks.tune.checkpoint import Checkpoint, Point, curve_until
from recapture.tasks.tune.encoded_pairs import EncodedPair, held_out_examples, training_examples
from recapture.tasks.tune.params import TrainingParams

LAST_GOOD = "last_good.safetensors"


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    adapter: bytes  # safetensors
    curve: list[Point]
    steps: int
    stopped_early: bool
    seconds_per_step: float


class TrainsAdapters(Protocol):
    """The stage whose trainings several processes share, as these processes use it."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    name: ClassVar[str]
    config: TuneConfig
    fill: FillConfig
    store: str  # URL
    resources: Resources

    def load(self) -> None:
        """Load the base, in the process that trains it."""
        ...

    def train(
        self, item: Item[TrainingParams], worker: tuple[int, int] = (0, 1), reduce: Reduce | None = None
    ) -> Trained:
        """Train an item's adapter as worker (rank, number of workers); reduce: averages their gradients."""
        ...


def settings_of(config: TrainingConfig, steps: int, seed: int, packed_share: float = 0.0) -> Settings:
    """Return a configuration as the trainer's settings."""
    return Settings(
        steps=steps,
        batch=config.batch,
        rate=config.rate,
        weight_decay=config.weight_decay,
        warm_up=config.warm_up,
        clip=config.clip,
        ema=config.ema,
        seed=seed,
        objective=Objective(config.sigma, config.shift, config.hole_weight, config.caption_dropout),
        micro_batch=config.micro_batch,
        gradient_checkpointing=config.gradient_checkpointing,
        log_every=config.log_every,
        validate_every=config.validate_every,
        patience=config.patience,
        packed_share=packed_share,
    )


def train_adapter(
    base: Base,  # carries the adapter to train
    pairs: Sequence[EncodedPair],
    settings: Settings,
    *,
    empty_text: Tensor,  # [L, text_dim]
    source_share: float,
    checkpoint: Checkpoint,
    checkpoint_seconds: float,
    notes: Mapping[str, str],
    on_point: Callable[[int, Mapping[str, float]], None],
    worker: tuple[int, int] = (0, 1),
    reduce: Reduce | None = None,
) -> Trained:
    """Train to the end or an early stop.

    on_point: called with every point of the curve, including those restored from the checkpoint.
    worker: rank and number of workers; only the first worker saves.
    Raises Diverged if the loss is not finite; the adapter of the last good step is then saved beside the
    checkpoint. The eleven parameters are one training's inputs; `settings` holds everything that can be set.
    """
    trainer = LoraTrainer(
        base,
        training_examples(pairs, source_share),
        settings,
        empty_text=empty_text,
        held_out=held_out_examples(pairs),
        worker=worker,
        reduce=reduce,
    )
    first = worker[0] == 0
    curve = restored(trainer, checkpoint, on_point)

    def log(step: int, values: Mapping[str, float]) -> None:
        curve.append((step, dict(values)))
        on_point(step, values)

    resumed_at = trainer.step
    started = last_saved = time.monotonic()

    def save_when_due() -> None:
        nonlocal last_saved
        if time.monotonic() - last_saved >= checkpoint_seconds:
            checkpoint.save(trainer.state(), curve)
            last_saved = time.monotonic()

    try:
        trainer.run(log, after_step=save_when_due if first else None)
    except Diverged as error:
        if not first:
            raise
        adapter = pack_adapter(base.transformer, weights=trainer.weights(), notes=notes)
        raise Diverged(f"{error}; it is stored at {checkpoint.put(LAST_GOOD, adapter)}") from None
    return Trained(
        pack_adapter(base.transformer, weights=trainer.weights(), notes=notes),
        curve,
        trainer.step,
        trainer.stopped_early,
        (time.monotonic() - started) / max(1, trainer.step - resumed_at),
    )


def restored(
    trainer: LoraTrainer, checkpoint: Checkpoint, on_point: Callable[[int, Mapping[str, float]], None]
) -> list[Point]:
    """Restore a trainer from its checkpoint, if there is one; report and return the curve so far."""
    saved = checkpoint.load()
    if saved is None:
        return []
    state, curve = saved
    trainer.restore(state)
    curve = curve_until(curve, trainer.step)
    for point in curve:
        on_point(*point)
    return curve
