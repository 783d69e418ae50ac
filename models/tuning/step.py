"""One step of tuning: what is drawn, a function of seed and step alone, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from recapture.conf.heartbeat import beating
from recapture.models.training.noise_levels import draw_sigma
from recapture.models.training.seeds import generator, uniform
from recapture.models.tuning.examples import Batch, Example, draw_rows, packable, stack
from recapture.models.tuning.objective import (
    Objective,
    add_noise,
    flow_matching_loss,
    latent_holes,
    velocity_of,
)
from recapture.models.wan.load import Base
from recapture.models.wan.rotary import temporal_rows

LEVELS = (0.2, 0.4, 0.6, 0.8)  # noise levels of the held-out loss


@dataclass(frozen=True)
class Settings:
    """How an adapter is trained; the values come from `tune.training` in the configuration.

    warm_up: steps of linear warm-up, then the rate is constant up to the share `decay_from` of all
    steps and falls to 0 from there. clip: largest gradient norm. ema: decay of
    the running average of the adapter, which is what a run is judged by. patience: held-out losses without
    a new best, measured every `validate_every` steps, after which training stops; 0: never. micro_batch:
    samples that go through the model at once; None: the worker's whole share. packed_share: share of steps
    whose examples have frames from other cameras packed beside them, as many as all of them have.
    """

    steps: int
    batch: int
    rate: float
    weight_decay: float
    warm_up: int
    clip: float
    ema: float
    seed: int
    objective: Objective
    micro_batch: int | None
    gradient_checkpointing: bool
    log_every: int
    validate_every: int
    patience: int
    packed_share: float
    decay_from: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """One worker's part of a step's batch."""

    batch: Batch
    sigma: Tensor  # [B]
    noise: Tensor  # [B, z, t, h, w]
    packed_noise: Tensor | None = None  # [B, z, K, h, w], where frames are packed
    positions: tuple[float, ...] | None = None  # [t] temporal positions; None: 0, 1, ...

    @property
    def hole(self) -> Tensor:
        """Return bool [B, t, h, w], True where a latent has a hole."""
        return latent_holes(self.batch.channels, self.batch.channels.shape[1] - self.batch.clean.shape[1])


@dataclass(frozen=True)
class Extra:
    """What a training adds to flow matching on whole windows.

    narrow: returns the part of a step's draw that is trained on, by a generator of that step alone. term:
    returns each sample's addition [B] to its loss, from the predicted velocity [B, z, t, h, w]. judge:
    returns the held-out loss in place of `held_out_loss`, from the base, the held-out examples and a seed.
    marks: what a run that continues this one must share with it.
    """

    narrow: Callable[[Drawn, torch.Generator], Drawn] | None = None
    term: Callable[[Drawn, Tensor], Tensor] | None = None
    judge: Callable[[Base, Sequence[Example], int], float] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


PLAIN = Extra()


def draw_step(
    examples: Sequence[Example],
    settings: Settings,
    step: int,
    empty_text: Tensor,  # [L, text_dim], shown where the caption is dropped
    *,
    worker: tuple[int, int] = (0, 1),
    device: torch.device | str = "cpu",
) -> Drawn:
    """Draw a step's examples, noise levels, dropped captions and noise, from (seed, step) alone.

    worker (rank, count) takes every count-th row of the whole batch, from row `rank`.
    """
    random = generator(settings.seed, step, "cpu")
    chosen = draw_rows(examples, settings.batch, random)
    sigma = draw_sigma(settings.batch, random, settings.objective.sigma, settings.objective.shift)
    dropped = uniform(0, 1, (settings.batch,), random) < settings.objective.caption_dropout
    noise = torch.randn((settings.batch, *examples[chosen[0]].clean.shape), generator=random)
    packed_noise, count = None, 0
    if settings.packed_share and float(uniform(0, 1, (1,), random)) < settings.packed_share:
        count = packable([examples[index] for index in chosen])
        channels, _, *size = noise.shape[1:]
        packed_noise = torch.randn((settings.batch, channels, count, *size), generator=random)
    mine = slice(worker[0], None, worker[1])
    batch = stack([examples[index] for index in chosen[mine]], torch.device(device), count)
    text = torch.where(dropped[mine, None, None].to(device), empty_text.to(batch.text), batch.text)
    batch = replace(batch, text=text)
    beside = packed_noise[mine].to(device) if packed_noise is not None and count else None
    return Drawn(batch, sigma[mine].to(device), noise[mine].to(device), beside)


def predicted(base: Base, drawn: Drawn) -> Tensor:
    """Return the velocity [B, z, t, h, w] that the base predicts for a draw, with gradients."""
    batch = drawn.batch
    noised = add_noise(batch.clean, drawn.noise, drawn.sigma)
    with temporal_rows(base.transformer, drawn.positions):
        return velocity_of(
            base,
            noised,
            drawn.sigma,
            batch.channels,
            batch.text,
            batch.image,
            packed=batch.packed,
            packed_noise=drawn.packed_noise,
        )


def losses(base: Base, drawn: Drawn, hole_weight: float, extra: Extra = PLAIN) -> tuple[Tensor, Tensor]:
    """Return each sample's loss [B], and its part in holes [B]."""
    velocity = predicted(base, drawn)
    loss, inside = flow_matching_loss(velocity, drawn.batch.clean, drawn.noise, drawn.hole, hole_weight)
    return loss if extra.term is None else loss + extra.term(drawn, velocity), inside


def gradients(
    base: Base,
    parameters: Iterable[nn.Parameter],
    drawn: Drawn,
    settings: Settings,
    extra: Extra = PLAIN,
) -> tuple[list[Tensor], Tensor]:
    """Return gradients (float32) of the mean loss for the adapter's parameters, and [loss, hole_loss].

    The same for any micro_batch, up to rounding, with and without gradient checkpointing.
    """
    parameters = list(parameters)
    totals = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
    values = torch.zeros(2, device=base.device)
    count = len(drawn.sigma)
    model = base.transformer
    if settings.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    for rows in beating(torch.arange(count, device=base.device).split(settings.micro_batch or count)):
        loss, in_holes = losses(base, _rows(drawn, rows), settings.objective.hole_weight, extra)
        for total, gradient in zip(totals, torch.autograd.grad(loss.sum() / count, parameters)):
            total += gradient
        values += torch.stack([loss.detach().sum(), in_holes.detach().sum()]) / count
    if settings.gradient_checkpointing:
        model.disable_gradient_checkpointing()
    return totals, values


@torch.no_grad()
def held_out_loss(base: Base, held_out: Sequence[Example], seed: int) -> float:
    """Return the mean loss in holes (over all latents without any), at fixed noise and levels LEVELS."""
    found = []
    for number, example in enumerate(held_out):
        batch = stack([example], base.device)
        random = generator(seed, number, "cpu")
        noise = torch.randn(batch.clean.shape, generator=random).to(base.device)
        for level in beating(LEVELS):
            sigma = torch.full((1,), level, device=base.device)
            drawn = Drawn(batch, sigma, noise)
            loss, in_holes = losses(base, drawn, 0.0)
            found.append(float(in_holes if drawn.hole.any() else loss))
    return sum(found) / len(found)


def _rows(drawn: Drawn, rows: Tensor) -> Drawn:
    batch = drawn.batch

    def taken(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[rows]

    part = Batch(
        batch.clean[rows], batch.channels[rows], batch.text[rows], taken(batch.image), taken(batch.packed)
    )
    return replace(
        drawn,
        batch=part,
        sigma=drawn.sigma[rows],
        noise=drawn.noise[rows],
        packed_noise=taken(drawn.packed_noise),
    )
