"""One reference tuned into one motion adapter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from recapture.models.motion.examples import MotionExamples
from recapture.models.motion.objective import MotionTerm
from recapture.models.motion.sparse import Sparse
from recapture.models.training.schedule import Diverged, Log
from recapture.models.training.seeds import generator
from recapture.models.tuning.examples import Example, stack
from recapture.models.tuning.step import Drawn, Extra, Settings, losses
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.adapter_save import pack_adapter
from recapture.models.wan.head_masks import Projections, head_masks, heads_note, self_attention, zero_outside
from recapture.models.wan.load import Base
from recapture.models.wan.lora import add_lora

JUDGED = (0.5, 0.75, 0.95)  # noise levels of the held-out criterion: where motion is decided
DIVERGED = 4.0  # times the first loss


@dataclass(frozen=True)
class MotionSettings:
    """How a reference is tuned; the values come from `transfer` in the configuration."""

    training: Settings
    rank: int
    projections: Projections
    term: MotionTerm
    sparse: Sparse


@dataclass(frozen=True)
class MotionAdapter:
    """The result of a tuning."""

    adapter: bytes  # safetensors, as diffusers reads it
    weights: dict[str, Tensor]
    curve: list[tuple[int, dict[str, float]]]
    steps: int
    stopped_early: bool
    seconds_per_step: float
    cpu_seconds: float


def motion_trainer(
    base: Base,
    examples: MotionExamples,
    settings: MotionSettings,
    *,
    empty_text: Tensor,  # [L, text_dim]
    heads: Tensor | None = None,  # [blocks, H] bool; None: all heads
    name: str = "temporal",
    beside: Mapping[str, float] | None = None,
) -> LoraTrainer:
    """Add a new adapter `name` to the base and return its trainer.

    beside: scales of adapters that the base has already and that stay as they are, such as 'spatial'.
    """
    add_lora(
        base.transformer,
        rank=settings.rank,
        targets=self_attention(settings.projections),
        seed=settings.training.seed,
        name=name,
    )
    free = None
    if heads is not None:
        free = head_masks(base.transformer, heads, name)
        zero_outside(base.transformer, free, name)
    return LoraTrainer(
        base,
        examples.training,
        settings.training,
        empty_text=empty_text,
        held_out=examples.held_out,
        name=name,
        free=free,
        beside=beside,
        extra=motion_extra(settings, heads),
    )


def motion_extra(settings: MotionSettings, heads: Tensor | None = None) -> Extra:
    """Return what tuning a motion adds to flow matching."""
    marks = {"motion term": str(asdict(settings.term)), "sparse sampling": str(asdict(settings.sparse))}
    marks["heads"] = "all" if heads is None else heads_note(heads)

    def judge(base: Base, held_out: Sequence[Example], seed: int) -> float:
        return judged(base, held_out, settings.term, seed)

    return Extra(settings.sparse.narrowed, settings.term, judge, marks)


@torch.no_grad()
def judged(base: Base, held_out: Sequence[Example], term: MotionTerm, seed: int) -> float:
    """Return the mean loss of held-out whole windows in holes with the motion term, at levels JUDGED."""
    found = []
    for number, example in enumerate(held_out):
        batch = stack([example], base.device)
        noise = torch.randn(batch.clean.shape, generator=generator(seed, number, "cpu")).to(base.device)
        for level in JUDGED:
            drawn = Drawn(batch, torch.full((1,), level, device=base.device), noise)
            loss, _ = losses(base, drawn, 0.0, Extra(term=term))
            found.append(float(loss))
    return sum(found) / len(found)


def tune_motion(
    base: Base,
    examples: MotionExamples,
    settings: MotionSettings,
    *,
    empty_text: Tensor,
    heads: Tensor | None = None,
    name: str = "temporal",
    beside: Mapping[str, float] | None = None,
    notes: Mapping[str, str] | None = None,
    on_point: Log | None = None,
    after_step: Callable[[LoraTrainer], None] | None = None,
) -> MotionAdapter:
    """Tune one reference; the adapter stays in the base. Its arguments are one tuning's inputs.

    on_point: given every point of the curve. after_step: called with the trainer after every step but the
    last, for checkpoints. Raises Diverged for a loss that is not finite or grows to DIVERGED times the first.
    """
    trainer = motion_trainer(
        base, examples, settings, empty_text=empty_text, heads=heads, name=name, beside=beside
    )
    curve: list[tuple[int, dict[str, float]]] = []

    def log(step: int, values: Mapping[str, float]) -> None:
        curve.append((step, dict(values)))
        if on_point is not None:
            on_point(step, values)
        check_converging(curve, settings.training.rate)

    started, cpu = time.monotonic(), time.process_time()
    trainer.run(log, after_step=None if after_step is None else lambda: after_step(trainer))
    weights = trainer.weights()
    return MotionAdapter(
        pack_adapter(
            base.transformer, weights=weights, name=name, notes=motion_notes(settings, heads, notes)
        ),
        weights,
        curve,
        trainer.step,
        trainer.stopped_early,
        (time.monotonic() - started) / max(1, trainer.step),
        time.process_time() - cpu,
    )


def motion_notes(
    settings: MotionSettings, heads: Tensor | None, notes: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the notes of a motion adapter's file."""
    return {
        "kind": "motion",
        "heads": "all" if heads is None else heads_note(heads),
        "projections": settings.projections,
        "sparse": f"{settings.sparse.kind} {settings.sparse.kept} of {settings.sparse.window}",
        **(notes or {}),
    }


def check_converging(curve: Sequence[tuple[int, Mapping[str, float]]], rate: float) -> None:
    """Raise Diverged where the last loss of a curve is DIVERGED times the first of its kind."""
    step, values = curve[-1]
    for kind in ("loss", "held_out_loss"):
        seen = [point[kind] for _, point in curve if kind in point]
        if kind in values and not (math.isfinite(seen[-1]) and seen[-1] <= DIVERGED * seen[0]):
            raise Diverged(
                f"motion: the {kind.replace('_', ' ')} went from {seen[0]:.3g} to {seen[-1]:.3g} by step"
                f" {step}; lower the learning rate ({rate:g})"
            )
