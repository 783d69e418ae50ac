"""One training of a motion adapter, from its start or checkpoint to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from recapture.models.motion.examples import MotionExamples
from recapture.models.motion.tune import MotionSettings, check_converging, motion_notes, motion_trainer
from recapture.models.training.schedule import Diverged
from recapture.models.wan.adapter_save import pack_adapter
from recapture.models.wan.load import Base
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.train_adapter import LAST_GOOD, Trained, restored


@dataclass(frozen=True)
class Part:
    """What is trained: an adapter of its own name, beside others that stay as they are."""

    name: str
    examples: MotionExamples
    settings: MotionSettings
    heads: Tensor | None  # [blocks, H] bool; None: all
    beside: Mapping[str, float]  # adapter -> scale
    notes: Mapping[str, str]


def train_motion(
    base: Base,
    part: Part,
    empty_text: Tensor,  # [L, text_dim]
    checkpoint: Checkpoint,
    checkpoint_seconds: float,
    on_point: Callable[[int, Mapping[str, float]], None],
) -> Trained:
    """Train to the end or an early stop, or go on from the checkpoint; the adapter stays in the base.

    on_point: called with every point of the curve, including those restored from the checkpoint. Raises
    Diverged if the loss is not finite or grows; the adapter of the last good step is then saved beside the
    checkpoint.
    """
    trainer = motion_trainer(
        base,
        part.examples,
        part.settings,
        empty_text=empty_text,
        heads=part.heads,
        name=part.name,
        beside=part.beside,
    )
    curve = restored(trainer, checkpoint, on_point)
    resumed_at = trainer.step
    started = last_saved = time.monotonic()

    def log(step: int, values: Mapping[str, float]) -> None:
        curve.append((step, dict(values)))
        on_point(step, values)
        check_converging(curve, part.settings.training.rate)

    def save_when_due() -> None:
        nonlocal last_saved
        if time.monotonic() - last_saved >= checkpoint_seconds:
            checkpoint.save(trainer.state(), curve)
            last_saved = time.monotonic()

    def adapter() -> bytes:
        notes = motion_notes(part.settings, part.heads, part.notes)
        return pack_adapter(base.transformer, weights=trainer.weights(), name=part.name, notes=notes)

    try:
        trainer.run(log, after_step=save_when_due)
    except Diverged as error:
        raise Diverged(f"{error}; it is stored at {checkpoint.put(LAST_GOOD, adapter())}") from None
    return Trained(
        adapter(),
        curve,
        trainer.step,
        trainer.stopped_early,
        (time.monotonic() - started) / max(1, trainer.step - resumed_at),
    )
