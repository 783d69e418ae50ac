"""The one sampling loop: predict the velocity, let the solver correct it, step the scheduler."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from recapture.models.wan.conditioning import Conditioning
from recapture.models.wan.leading import behind_leading
from recapture.models.wan.load import TEXT_LENGTH, Base
from recapture.models.wan.packing import append_packed, rotary_positions
from recapture.models.wan.step_cache import Saving, StepCache
from recapture.models.wan.text import Text


@dataclass(frozen=True)
class Step:
    """Where the loop stands. sigma is the noise level of the latents, next_sigma that after the step."""

    index: int
    count: int
    sigma: float
    next_sigma: float


class Solver(Protocol):
    """Holds sampling to what is known."""

    def correct(self, latents: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """Return the corrected velocity [1, z, T', h, w] float32, after guidance.

        latents: [1, z, T', h, w] float32 at noise level step.sigma. With x_s = (1-s) x0 + s e the clean
        estimate is x0 = latents - sigma * velocity; to move it by d, return velocity - d / sigma. Where
        nothing is known it must return velocity as it came, bit for bit. sigma is never 0.
        """
        ...


@runtime_checkable
class SteppingSolver(Solver, Protocol):
    """A solver that also takes the steps, on Euler's grid: it may add fresh noise, or go back and repeat one.

    A multistep scheduler's history would not survive that.
    """

    def visits(self, step: Step) -> int:
        """Return how often the step is taken, at least 1; before each repeat `go_back` is called."""
        ...

    def advance(self, latents: Tensor, velocity: Tensor, corrected: Tensor, step: Step) -> Tensor:
        """Return the latents at step.next_sigma, from those at step.sigma, the velocity and `correct`'s."""
        ...

    def go_back(self, latents: Tensor, step: Step) -> Tensor:
        """Return latents at step.sigma from those at step.next_sigma."""
        ...


# Given the step and the clean estimate [1, z, T', h, w] after correction
OnStep = Callable[[Step, Tensor], None]
Predict = Callable[[Tensor], Tensor]  # latents -> velocity, both [1, z, T', h, w] float32
EXACT = Saving()


def sample(
    base: Base,
    conditioning: Conditioning,
    text: Text,
    *,
    scheduler: Any,
    steps: int,
    generator: torch.Generator,
    guidance_scale: float = 1.0,
    guidance_scale_2: float | None = None,
    latents: Tensor | None = None,
    solver: Solver | None = None,
    saving: Saving = EXACT,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample normalised latents [1, z, T', h, w] float32.

    It has the arguments of the stock pipelines, hence their number. scheduler: from `make_scheduler`.
    generator: draws the initial noise, on its own device, and nothing else; latents: that noise, in its
    place. guidance_scale: classifier-free guidance, off at 1 or below (text.negative is then not used);
    guidance_scale_2: that of Wan2.2's second transformer, by default the first's. solver: a `SteppingSolver`
    needs the Euler scheduler (ValueError). saving: passes through the transformer to leave out; a step cache
    cannot serve a solver that repeats steps (ValueError). on_step: called at each step, for previews.

    In float32 the result equals the stock `WanPipeline`, `WanImageToVideoPipeline` and `WanVACEPipeline`
    with output_type='latent'. Under bfloat16 weights the velocity is made float32 before guidance, where the
    stock pipelines go on in bfloat16.
    """
    _check(base, text, scheduler, steps, guidance_scale, solver)
    if latents is None:
        latents = torch.randn(1, *conditioning.latent_shape, generator=generator, device=generator.device)
    latents = latents.to(base.device, torch.float32)
    scheduler.set_timesteps(steps, device=base.device)
    scales = guidance_scale, guidance_scale if guidance_scale_2 is None else guidance_scale_2
    if solver is not None and conditioning.leading:
        solver = behind_leading(solver, conditioning.leading)
    cache = StepCache(saving, fresh=isinstance(solver, SteppingSolver))
    for i, timestep in enumerate(scheduler.timesteps):
        step = Step(i, steps, float(scheduler.sigmas[i]), float(scheduler.sigmas[i + 1]))
        model, scale = _model_and_scale(base, scheduler, timestep, scales)
        guided = text if guidance_scale > 1.0 and saving.guides(step) else Text(text.prompt, None)
        given = (base, model, timestep, conditioning, guided, step)
        compute = partial(guided_velocity, *given, guidance_scale=scale)
        kind = (id(model), guided.negative is None)
        predict = partial(cache.velocity, step=step, kind=kind, compute=compute)
        if isinstance(solver, SteppingSolver):
            latents = _visits(predict, latents, solver, step, saving, on_step)
            continue
        velocity = predict(latents)
        corrected = velocity if solver is None else solver.correct(latents, velocity, step)
        if on_step is not None:
            on_step(step, latents - step.sigma * corrected)
        latents = scheduler.step(corrected, timestep, latents, return_dict=False)[0]
    return latents[:, :, conditioning.leading :]


def _check(
    base: Base, text: Text, scheduler: Any, steps: int, guidance_scale: float, solver: Solver | None
) -> None:
    """Raise ValueError for what cannot be sampled."""
    if steps < 1:
        raise ValueError(f"sampling: {steps} steps; use 1 or more")
    if guidance_scale > 1.0 and text.negative is None:
        raise ValueError(f"sampling: guidance_scale {guidance_scale} needs a negative prompt; '' will do")
    if base.transformer.config.image_dim is not None and text.prompt.shape[1] != TEXT_LENGTH:
        raise ValueError(
            f"sampling: the image branch of this base takes {TEXT_LENGTH} text tokens,"
            f" not {text.prompt.shape[1]}"
        )
    stepping = isinstance(solver, SteppingSolver)
    if stepping and not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        raise ValueError(
            f"sampling: this solver takes the steps itself, which {type(scheduler).__name__} does not allow;"
            " use the 'euler' scheduler or a solver with the velocity transition"
        )


def _model_and_scale(
    base: Base, scheduler: Any, timestep: Tensor, scales: tuple[float, float]
) -> tuple[Any, float]:
    """Return the transformer of a timestep and its guidance scale: below Wan2.2's boundary the second."""
    boundary = base.boundary_ratio
    if boundary is None or timestep >= boundary * scheduler.config.num_train_timesteps:
        return base.transformer, scales[0]
    return base.transformer_2, scales[1]


def _visits(
    predict: Predict,
    latents: Tensor,
    solver: SteppingSolver,
    step: Step,
    saving: Saving,
    on_step: OnStep | None,
) -> Tensor:
    """Let a stepping solver take the step, as often as it wants to."""
    visits = solver.visits(step)
    if visits > 1 and saving.budget:
        raise ValueError(
            "sampling: this solver repeats steps, which a step cache cannot serve; turn the cache off"
        )
    for visit in range(visits):
        if visit:
            latents = solver.go_back(latents, step)
        velocity = predict(latents)
        corrected = solver.correct(latents, velocity, step)
        if on_step is not None:
            on_step(step, latents - step.sigma * corrected)
        latents = solver.advance(latents, velocity, corrected, step)
    return latents


def guided_velocity(
    base: Base,
    model: Any,
    timestep: Tensor,
    conditioning: Conditioning,
    text: Text,
    step: Step,
    latents: Tensor,
    *,
    guidance_scale: float,
) -> Tensor:
    """Predict the velocity under classifier-free guidance; without a negative prompt there is none."""
    if base.guidance_batched and text.negative is not None and text.negative.shape == text.prompt.shape:
        both = predict_velocity(
            *(base, model, torch.cat([latents, latents]), timestep, conditioning),
            torch.cat([text.prompt, text.negative]).repeat_interleave(len(latents), dim=0),
            step,
        )
        velocity, without = both.chunk(2)
        return without + guidance_scale * (velocity - without)
    velocity = predict_velocity(base, model, latents, timestep, conditioning, text.prompt, step)
    if text.negative is None:
        return velocity
    without = predict_velocity(
        base, model, latents, timestep, conditioning, text.negative, step, branch="uncond"
    )
    return without + guidance_scale * (velocity - without)


@torch.no_grad()
def predict_velocity(
    base: Base,
    model: Any,
    latents: Tensor,
    timestep: Tensor,
    conditioning: Conditioning,
    embedded: Tensor,
    step: Step,
    *,
    branch: str = "cond",
) -> Tensor:
    """Return the velocity (noise - clean) [B, z, T', h, w] float32 that `model`, one of the base's, predicts.

    latents: [B, z, T', h, w] float32; timestep: scalar tensor, 1000 sigma; embedded: [1, L, text_dim],
    or [B, L, text_dim].
    Packed frames are appended to the latents here and removed from the velocity again.
    """
    batch, length, packed = len(latents), latents.shape[2], conditioning.packed
    first, noised = conditioning.first, latents
    if first is not None:
        latents = first.shown_in(latents)
    if packed is not None:
        latents = append_packed(base, packed, latents, step.sigma)
    given: dict[str, Any] = {"encoder_hidden_states": _batched(embedded, batch, model.dtype)}
    hidden = latents.to(model.dtype)
    if conditioning.channels is not None:
        channels = conditioning.channels.to(latents.device).expand(batch, -1, -1, -1, -1)
        hidden = torch.cat([latents, channels], dim=1).to(model.dtype)
    if conditioning.image is not None:
        given["encoder_hidden_states_image"] = conditioning.image.to(model.dtype).repeat(batch, 1, 1)
    if conditioning.control is not None:
        given["control_hidden_states"] = _batched(conditioning.control, batch, model.dtype)
    times = timestep.expand(batch)
    if base.expand_timesteps:
        _, patch_h, patch_w = model.config.patch_size
        tokens = (latents.shape[3] // patch_h) * (latents.shape[4] // patch_w)  # of a latent frame
        times = timestep.float().expand(batch, length * tokens)
        if first is not None:
            times = first.times(times, (patch_h, patch_w))
        if packed is not None:
            times = torch.cat([times, times.new_zeros(batch, packed.latents.shape[2] * tokens)], dim=1)
    with (
        rotary_positions(model, length, packed),
        model.cache_context(branch, step_index=step.index, sigma=step.sigma, num_inference_steps=step.count),
    ):
        velocity = model(hidden_states=hidden, timestep=times, return_dict=False, **given)[0]
    velocity = velocity[:, :, :length].float()
    return velocity if first is None else first.held(velocity, noised, step.sigma)


def _batched(tensor: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).expand(batch, *tensor.shape[1:])
