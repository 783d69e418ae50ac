"""One training loop for every part of the base: schedule, average of the weights, checkpoint and resume.

All randomness of step n comes from (seed, n), so a run that was killed and resumed makes the same steps as
one that was not. Several workers, each with its own seed, average their gradients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recapture.models.pretraining.captured import Batch, CapturedPass, CapturedUpdate
from recapture.models.pretraining.optimizer import MuonAdamW
from recapture.models.training.average import update_average
from recapture.models.training.parallel import ALONE, Workers
from recapture.models.training.schedule import Diverged, Log, Schedule


class Learner(Protocol):
    """What is trained: its modules, and the loss of one step.

    `companion` is what the loss trains for itself, such as an adversary; its state is kept in checkpoints.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def companion(self) -> Companion | None: ...

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        """Return whether Muon steps this parameter (AdamW otherwise)."""
        ...

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a step, a function of weights and step alone, and what else to log."""
        ...


@runtime_checkable
class TwoPartLearner(Protocol):
    """A learner whose loss is `forward(draw(step))`, the second part without randomness or a look at values.

    On a GPU such steps are recorded and replayed.
    """

    def draw(self, step: int) -> Batch: ...

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]: ...


class Companion(Protocol):
    """A state that changes with the steps beside the learner's weights."""

    def state(self) -> dict[str, Tensor]: ...

    def load_state(self, state: Mapping[str, Tensor]) -> None: ...


class OtherSettings(ValueError):
    """The checkpoint was made with other settings than those of this run."""


class Trainer:
    """Trains one learner; `folder` holds its last checkpoint.

    ema: the decay of the running average of the weights, which is what a finished run is judged by.
    made_with: settings of the learner, as JSON knows them; a checkpoint made with others is refused.
    """

    def __init__(
        self,
        name: str,
        learner: Learner,
        schedule: Schedule,
        folder: Path,
        ema: float,
        made_with: Mapping[str, Any] | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self.name, self.learner, self.schedule, self._folder, self._ema = name, learner, schedule, folder, ema
        self._made_with = {**asdict(schedule), "ema": ema, "workers": workers.size, **(made_with or {})}
        self._workers = workers
        self._parameters = dict(learner.module.named_parameters())
        self._device = next(iter(self._parameters.values())).device
        self.averaged = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._optimizer = MuonAdamW(self._parameters, learner.is_matrix)
        self._update: Callable[[], Tensor] = self._optimizer.update
        self._captured: CapturedPass | None = None
        if self._device.type == "cuda" and isinstance(learner, TwoPartLearner):
            self._captured = CapturedPass(learner.forward, list(self._parameters.values()))
            self._update = CapturedUpdate(self._optimizer.update)
        self.step = 0

    @property
    def finished(self) -> bool:
        """Return whether every step of the schedule has been made."""
        return self.step >= self.schedule.steps

    def run(
        self,
        log: Log,
        *,
        log_every: int = 50,
        save_seconds: float = 60.0,
        until: float = math.inf,
        stop_at: int | None = None,
    ) -> bool:
        """Resume from the folder and train; return whether the schedule is finished.

        until: time.monotonic() after which to save and stop (several workers look at it once per
        `log_every` steps); stop_at: a step to save and stop at. Raises Diverged when the loss is not finite;
        the last checkpoint stays.
        """
        self.resume()
        saved = time.monotonic()
        sums: dict[str, Tensor] = {}
        begun, counted = time.monotonic(), 0
        last = min(self.schedule.steps, self.schedule.steps if stop_at is None else stop_at)
        while self.step < last and not self._late(until, log_every):
            parts = self._one_step()
            for key, value in parts.items():
                sums[key] = sums.get(key, 0) + value.detach().float()
            counted += 1
            if self.step % log_every == 0 or self.step == last:
                self._check_finite(sums)
                means = {key: float(value) / counted for key, value in sums.items()}
                means["steps_per_second"] = counted / (time.monotonic() - begun)
                means["learning_rate"] = self.schedule.at(self.step - 1)
                log(self.step, means)
                sums, counted, begun = {}, 0, time.monotonic()
            if self._workers.first and time.monotonic() - saved >= save_seconds:
                self._check_finite(sums)
                self.save()
                saved = time.monotonic()
        self._check_finite(sums)
        if self._workers.first:
            self.save()
        self._workers.wait()
        return self.finished

    def _late(self, until: float, log_every: int) -> bool:
        if self._workers.size > 1 and self.step % log_every:
            return False
        return self._workers.agree(time.monotonic() >= until, self._device)

    def _check_finite(self, sums: Mapping[str, Tensor]) -> None:
        for key in ("loss", "gradient_norm"):
            value = float(sums.get(key, 0.0))
            if not math.isfinite(value):
                raise Diverged(
                    f"{self.name}: the {key} is {value} by step {self.step}; "
                    f"lower the learning rate ({self.schedule.rate:g}) or raise the warm-up"
                )

    def _one_step(self) -> dict[str, Tensor]:
        loss, parts = self._loss_and_gradients()
        self._workers.average([p.grad for p in self._parameters.values() if p.grad is not None])
        self._optimizer.prepare(self.schedule.at(self.step))
        norm = self._update()
        self.step += 1
        update_average(self.averaged, self._parameters, self._ema, self.step)
        return {"loss": loss, "gradient_norm": norm, **parts}

    def _loss_and_gradients(self) -> tuple[Tensor, dict[str, Tensor]]:
        if self._captured is not None and isinstance(self.learner, TwoPartLearner):
            return self._captured(self.learner.draw(self.step))
        self._optimizer.zero_grad()
        loss, parts = self.learner.loss(self.step)
        loss.backward()
        return loss, parts

    def use_average(self) -> None:
        """Put the averaged weights into the module."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self.averaged[name])

    def save(self) -> None:
        """Write the checkpoint: whole, or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weights.{n}": p.detach().contiguous() for n, p in self._parameters.items()}
        tensors |= {f"average.{n}": p.contiguous() for n, p in self.averaged.items()}
        tensors |= {f"optimizer.{n}": p.contiguous() for n, p in self._optimizer.state().items()}
        if self.learner.companion is not None:
            tensors |= {f"companion.{n}": p.contiguous() for n, p in self.learner.companion.state().items()}
        path = self._folder / f"{self.name}.safetensors"
        partial = path.with_suffix(".partial")
        note = {"step": self.step, "made_with": self._made_with}
        save_file(tensors, partial, metadata={"recapture": json.dumps(note)})
        partial.replace(path)

    def resume(self) -> None:
        """Continue from the folder's checkpoint, if there is one; raises OtherSettings."""
        path = self._folder / f"{self.name}.safetensors"
        if not path.exists():
            return
        with safe_open(path, "pt", device=str(self._device)) as file:
            note = json.loads(file.metadata()["recapture"])
            if changed := changed_settings(note["made_with"], self._made_with):
                raise OtherSettings(
                    f"{self.name}: the checkpoint {path} was made with {changed}; "
                    "remove it or restore the settings"
                )
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(file.get_tensor(f"weights.{name}"))
                    self.averaged[name].copy_(file.get_tensor(f"average.{name}"))
            names = self._optimizer.state()
            self._optimizer.load_state({name: file.get_tensor(f"optimizer.{name}") for name in names})
            if self.learner.companion is not None:
                names = self.learner.companion.state()
                self.learner.companion.load_state(
                    {name: file.get_tensor(f"companion.{name}") for name in names}
                )
        self.step = note["step"]


def changed_settings(made_with: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say "steps=30, not 31" of every setting that differs; '' when none does."""
    names = [name for name in {**made_with, **wanted} if made_with.get(name) != wanted.get(name)]
    return ", ".join(f"{name}={made_with.get(name)!r}, not {wanted.get(name)!r}" for name in names)
