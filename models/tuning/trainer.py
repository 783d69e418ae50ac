"""The LoRA training loop on encoded examples: a state to resume from, an average, early stopping.

All randomness of step n comes from (seed, n), and a worker takes its rows of the whole batch's draw; so a
resumed run makes the same steps as an undisturbed one, and several workers those of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from recapture.models.training.average import update_average
from recapture.models.training.parallel import Reduce
from recapture.models.training.schedule import Diverged, Log, Schedule
from recapture.models.training.seeds import generator
from recapture.models.tuning.examples import Example, check_trainable
from recapture.models.tuning.state import TrainingState, pack_state, unpack_state
from recapture.models.tuning.step import PLAIN, Extra, Settings, draw_step, gradients, held_out_loss
from recapture.models.wan.fingerprint import fingerprint
from recapture.models.wan.load import Base
from recapture.models.wan.lora import set_scales, train_only, with_adapter

_FREE = {"steps", "micro_batch", "gradient_checkpointing", "log_every"}  # may differ when a run is continued
_NARROW = 11  # added to a training's seed, for what a step leaves out


class LoraTrainer:
    """Trains one adapter, which `add_lora` or `load_adapter` has put into the base.

    examples: from `encode_pair`. empty_text: [L, text_dim], the embedding of ''. held_out: examples that
    only judge; without any there is no early stopping. worker: (rank, count) of data-parallel workers, who
    all are given the same examples and settings; reduce averages gradients over them, see `parallel.py`.
    free: which entries of the adapter are trained, bool by name (see `head_masks`); the others must be 0 and
    stay exactly 0. beside: scales of other adapters of the base, active and frozen. extra: see `Extra`.
    Master weights, moments and average are float32 whatever the base's dtype.

    Raises ValueError for a base that cannot be tuned, no examples, or a batch that the workers cannot share.
    """

    def __init__(
        self,
        base: Base,
        examples: Sequence[Example],
        settings: Settings,
        *,
        empty_text: Tensor,
        held_out: Sequence[Example] = (),
        name: str = "default",
        worker: tuple[int, int] = (0, 1),
        reduce: Reduce | None = None,
        free: Mapping[str, Tensor] | None = None,
        beside: Mapping[str, float] | None = None,
        extra: Extra = PLAIN,
    ) -> None:
        check_trainable(base)
        _check(examples, settings, worker, reduce)
        self.settings = settings
        self._base, self._examples, self._held_out, self._name = base, examples, held_out, name
        self._worker, self._reduce, self._empty_text = worker, reduce, empty_text
        self._free: dict[str, Tensor] = dict(free or {})
        self._beside, self._extra = dict(beside or {}), extra
        set_scales(base.transformer, {**self._beside, name: 1.0})
        self._parameters = train_only(base.transformer, name)
        self._masters = {
            key: p.detach().float().clone().requires_grad_(True) for key, p in self._parameters.items()
        }
        _check_free(self._free, self._masters)
        self._optimizer = torch.optim.AdamW(
            list(self._masters.values()), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self._schedule = Schedule(
            settings.steps, settings.rate, max(1, settings.warm_up), settings.decay_from
        )
        self._marks = {
            key: str(value) for key, value in asdict(settings).items() if key not in _unmarked(settings)
        }
        self._marks |= {
            "base": fingerprint(base.transformer),
            "number of examples": f"{len(examples)} and {len(held_out)} held out",
            **extra.marks,
        }
        average = {key: value.detach().clone() for key, value in self._masters.items()}
        self._state = TrainingState(step=0, average=average, best=None)

    @property
    def step(self) -> int:
        """Return the number of steps made."""
        return self._state.step

    @property
    def finished(self) -> bool:
        """Return whether all steps were made or the held-out loss has stopped falling."""
        return self.step >= self.settings.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Return whether `patience` held-out losses in a row were no new best."""
        return 0 < self.settings.patience <= self._state.without_gain

    @property
    def best_loss(self) -> float:
        """Return the lowest held-out loss so far; infinite before the first."""
        return self._state.best_loss

    def weights(self) -> dict[str, Tensor]:
        """Return the adapter to use, float32 on the CPU: the best average by held-out loss, else the last."""
        chosen = self._state.average if self._state.best is None else self._state.best
        return {key: value.detach().cpu().clone() for key, value in chosen.items()}

    def run(
        self, log: Log, *, stop_at: int | None = None, after_step: Callable[[], None] | None = None
    ) -> bool:
        """Train to the end, an early stop, or step `stop_at`; return whether the run is finished.

        log: given the step and the means since the last call: loss, hole_loss, gradient_norm,
        learning_rate; and held_out_loss, alone, at step 0 (before training) and every validate_every steps.
        after_step: called after every step that did not finish the run, for checkpoints. Raises Diverged
        when loss or gradient is not finite; the weights are then those of the last good step, and
        `weights()` and `state()` can still be used.
        """
        settings = self.settings
        last = settings.steps if stop_at is None else min(stop_at, settings.steps)
        if self._held_out and self.step == 0 and self._state.best is None:
            self._judge(log)
        while self.step < last and not self.stopped_early:
            self._one_step()
            ended = self.step == settings.steps
            if ended or self.step % settings.log_every == 0:
                log(self.step, self._means())
            if self._held_out and (ended or self.step % settings.validate_every == 0):
                self._judge(log)
            if after_step is not None and not self.finished:
                after_step()
        return self.finished

    def gradients(self, step: int) -> tuple[list[Tensor], Tensor]:
        """Return a step's gradients, averaged over workers, and [loss, hole_loss]; of weights and step."""
        drawn = draw_step(
            *(self._examples, self.settings, step, self._empty_text),
            worker=self._worker,
            device=self._base.device,
        )
        if self._extra.narrow is not None:
            drawn = self._extra.narrow(drawn, generator(self.settings.seed + _NARROW, step, "cpu"))
        found, values = gradients(self._base, self._parameters.values(), drawn, self.settings, self._extra)
        for key, gradient in zip(self._parameters, found):
            if key in self._free:
                gradient *= self._free[key]
        if self._reduce is not None:
            self._reduce([*found, values])
        return found, values

    def held_out_loss(self) -> float:
        """Return the mean loss in holes of the held-out examples, for the averaged adapter.

        Averaged over workers too: a last bit that differs between them must not stop one of them alone.
        """
        judge = self._extra.judge or held_out_loss
        average = self._state.average
        with with_adapter(self._base.transformer, 1.0, average, self._name, self._beside):
            loss = judge(self._base, self._held_out, self.settings.seed + 1)
        if self._reduce is None:
            return loss
        value = torch.tensor([loss], device=self._base.device)
        self._reduce([value])
        return float(value)

    def state(self) -> bytes:
        """Return all that a run resumes from, as safetensors: weights, average, best, moments, step."""
        masters = {key: value.detach() for key, value in self._masters.items()}
        states = self._optimizer.state
        moments = {
            key: (states[master]["exp_avg"], states[master]["exp_avg_sq"])
            for key, master in self._masters.items()
            if master in states
        }
        return pack_state(self._state, masters, moments, self._marks)

    def restore(self, content: bytes) -> None:
        """Continue from `state()` of a run of the same base, settings and examples (ValueError otherwise)."""
        saved = unpack_state(content, self._marks, self._masters)
        with torch.no_grad():
            for key, master in self._masters.items():
                master.copy_(saved.masters[key])
                self._parameters[key].copy_(master)
                if key in saved.moments:
                    first, second = saved.moments[key]
                    self._optimizer.state[master] = {
                        "step": torch.tensor(float(saved.state.step)),
                        "exp_avg": first.to(master.device),
                        "exp_avg_sq": second.to(master.device),
                    }
        for kept in (saved.state.average, saved.state.best or {}):
            kept.update({key: value.to(self._masters[key].device) for key, value in kept.items()})
        self._state = saved.state

    def _one_step(self) -> None:
        found, values = self.gradients(self.step)
        for master, gradient in zip(self._masters.values(), found):
            master.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(list(self._masters.values()), self.settings.clip)
        numbers = {"loss": float(values[0]), "hole_loss": float(values[1]), "gradient_norm": float(norm)}
        bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(
                f"tuning: {bad[0]} at step {self.step + 1}; the adapter of step {self.step} is kept; lower"
                f" the learning rate ({self.settings.rate:g}) or raise the warm-up"
                f" ({self.settings.warm_up} steps)"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.at(self.step)
        self._optimizer.step()
        with torch.no_grad():
            for parameter, master in zip(self._parameters.values(), self._masters.values()):
                parameter.copy_(master)
        self._state.step += 1
        update_average(self._state.average, self._masters, self.settings.ema, self.step)
        for name, value in numbers.items():
            self._state.sums[name] = self._state.sums.get(name, 0.0) + value
        self._state.counted += 1

    def _means(self) -> dict[str, float]:
        means = {name: value / self._state.counted for name, value in self._state.sums.items()}
        self._state.sums, self._state.counted = {}, 0
        return means | {"learning_rate": self._schedule.at(self.step - 1)}

    def _judge(self, log: Log) -> None:
        loss = self.held_out_loss()
        log(self.step, {"held_out_loss": loss})
        if loss < self._state.best_loss:
            self._state.best_loss, self._state.without_gain = loss, 0
            self._state.best = {key: value.clone() for key, value in self._state.average.items()}
        else:
            self._state.without_gain += 1


def _unmarked(settings: Settings) -> set[str]:
    """Return the settings that may differ when a run is continued, and those that do nothing."""
    idle = {"packed_share"} if not settings.packed_share else set()
    return _FREE | idle | ({"decay_from"} if settings.decay_from == 1 else set())


def _check_free(free: Mapping[str, Tensor], masters: Mapping[str, Tensor]) -> None:
    """Raise ValueError for masks of another adapter and for entries that should be 0 and are not."""
    for key, entries in free.items():
        if key not in masters or entries.shape != masters[key].shape:
            raise ValueError(f"tuning: the mask of {key!r} does not fit the adapter; make it for this one")
        if masters[key].detach()[~entries].any():
            raise ValueError(
                f"tuning: {key!r} is not 0 outside the chosen heads; start with `zero_outside`, or choose the"
                " heads that this adapter was tuned on"
            )


def _check(
    examples: Sequence[Example], settings: Settings, worker: tuple[int, int], reduce: Reduce | None
) -> None:
    rank, workers = worker
    if not examples or not sum(example.share for example in examples) > 0:
        raise ValueError("tuning: there are no examples with a share; make pairs of the clip first")
    if not 0 <= rank < workers or settings.batch < 1 or settings.batch % workers:
        raise ValueError(
            f"tuning: worker {rank} of {workers} cannot share batches of {settings.batch};"
            " use a multiple of the number of workers"
        )
    if workers > 1 and reduce is None:
        raise ValueError(f"tuning: {workers} workers need a `reduce` that averages their gradients")
