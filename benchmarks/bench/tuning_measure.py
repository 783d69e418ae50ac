"""The fills of tuning.py, and their scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.agreement import looked_up
from bench.held_out import FRAMES, SIDE, SURFACE, decibel, held_out, score
from bench.parallel import device
from bench.tuning_plan import Arm, Fill, Plan, filler, on_device, source_of
from recapture.conf.schema import FillConfig
from recapture.datasets.scenes.render import render_scene
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import FinishedView
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.tuning.pairs import Move, source_pairs
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.lora import load_adapter, remove_lora
from recapture.models.wan.sampling import Step, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents

Measurement = tuple[tuple[str, int, int, float], dict[str, float | None]]


def measure(job: tuple[Plan, int, int, list[tuple[Fill, Arm | None]]]) -> list[Measurement]:
    """Return ((fill, scene, seed, angle), scores) of every fill of a job at every angle, in order."""
    plan, clip, seed, fills = job
    if time.time() > plan.ends:
        return []
    angles = sorted(plan.angles)
    shots = [shot(clip, angle) for angle in angles]
    back = [returned(clip, angle) for angle in angles]
    rows: list[Measurement] = []
    for one, arm in fills:
        using = replace(filler(plan.base), steps=one.steps or filler(plan.base).steps)
        if arm is not None:
            load_adapter(using.base.transformer, plan.adapter(arm, seed, clip))
        if one.inverse:
            chosen = FillConfig().inverse
            given = chosen.model_dump(exclude={"mask"}, exclude_none=True)
            using = replace(using, make_solver=inverse_solver(kind=chosen.mask, seed=seed, **given))
        videos = fill_in_turn(using, shots, seed) if one.packed else fill_at_once(using, shots, seed)
        again = fill_at_once(using, [shot for shot, _ in back], seed)
        remove_lora(using.base.transformer)
        for place, (angle, current) in enumerate(zip(angles, shots)):
            scores: dict[str, float | None] = {
                **score(videos[place].cpu(), current.truth, current.seen.cpu(), current.inside)
            }
            if place:
                scores["agreement"] = agreement(videos[place], videos[place - 1], shots[place - 1], current)
            source = back[place][1]
            hole = ~back[place][0].view.visible
            error = (again[place] - source).square().mean(1)[hole]
            scores["returned_hole"] = decibel(error)
            rows.append(((one.name, clip, seed, angle), scores))
    return rows


def fill_at_once(using: DiffusionFiller, shots: Sequence[Shot], seed: int) -> list[Tensor]:
    """Return what `using.fill_both` would make of each view, sampled as one batch."""
    base = using.base
    given = [condition(base, grey_holes(s.view.video, s.view.visible), s.view.visible) for s in shots]
    channels = torch.cat([one.channels for one in given if one.channels is not None])
    noise = torch.randn(1, *given[0].latent_shape, generator=torch.Generator().manual_seed(seed))
    solver = None
    if using.make_solver is not None:
        each = [using.make_solver(base, s.view.video, s.view.visible) for s in shots]
        solver = AtOnce(each)
    latents = sample(
        base,
        replace(given[0], channels=channels),
        encode_text(base, shots[0].caption, None),
        scheduler=make_scheduler(using.scheduler, using.shift),
        steps=using.steps,
        generator=torch.Generator(),
        latents=using.noise_scale * noise.expand(len(shots), -1, -1, -1, -1),
        solver=solver,
    )
    videos = decode_latents(base.vae, latents)
    return [using.compositing(video, s.view.video, s.view.visible) for video, s in zip(videos, shots)]


@dataclass(frozen=True)
class AtOnce:
    """The solvers of several clips as one solver of a batch of them; a `SteppingSolver`."""

    each: Sequence[Any]

    def visits(self, step: Step) -> int:
        """Return how often the step is taken, which is the same for all clips."""
        return int(self.each[0].visits(step))

    def correct(self, latents: Tensor, velocity: Tensor, step: Step) -> Tensor:
        """Correct each clip's velocity."""
        return torch.cat(
            [s.correct(*one, step) for s, *one in zip(self.each, latents[:, None], velocity[:, None])]
        )

    def advance(self, latents: Tensor, velocity: Tensor, corrected: Tensor, step: Step) -> Tensor:
        """Take each clip's step."""
        parts = zip(self.each, latents[:, None], velocity[:, None], corrected[:, None])
        return torch.cat([s.advance(*one, step) for s, *one in parts])

    def go_back(self, latents: Tensor, step: Step) -> Tensor:
        """Go back a step with each clip."""
        return torch.cat([s.go_back(one, step) for s, one in zip(self.each, latents[:, None])])


def fill_in_turn(using: DiffusionFiller, shots: Sequence[Shot], seed: int) -> list[Tensor]:
    """Return the fills, each with frames of the one before packed."""
    videos: list[Tensor] = []
    for place, current in enumerate(shots):
        packed = []
        if place:
            before = shots[place - 1].view.visible
            packed = [FinishedView(videos[-1], before, torch.arange(len(before)))]
        filled = using.fill_both(current.view, caption=current.caption, seed=seed, packed=packed)
        videos.append(filled.video)
    return videos


@dataclass(frozen=True)
class Shot:
    """A scene from an angle, its holes filled from other frames as far as these saw them."""

    view: RenderedView  # after propagation
    seen: Tensor  # [T, H, W] bool, before it
    truth: Tensor  # [T, 3, H, W], on the CPU
    depth: Tensor  # [T, H, W] true depth, inf where the room is not shown
    inside: Tensor  # [T, H, W] bool, on the CPU
    caption: str


def shot(clip: int, angle: float) -> Shot:
    """Return a scene as a fill gets it."""
    view, source, truth, inside, caption = held_out(clip, "wide", angle)
    times = torch.arange(FRAMES, dtype=torch.float32)
    scene = sample_scene(clip, variety="wide")
    depth = render_scene(scene, view.intrinsics, view.world_to_camera, times, SIDE, SIDE).depth
    view, source = on_device(view), on_device(source)
    return Shot(
        propagate_static(view, source, surface=SURFACE),
        view.visible,
        truth,
        depth.to(device()),
        inside,
        caption,
    )


def returned(clip: int, angle: float) -> tuple[Shot, Tensor]:
    """Return a clip that was sent to an angle, in the other direction than any shot, and back; and itself."""
    source, pivot, caption = source_of(clip)
    pair = next(source_pairs(source, pivot, [Move(-angle, 0.0, 0.0, direct=True)], SURFACE))
    eye = torch.eye(4, device=device()).expand(len(pair.visible), 4, 4)
    far = torch.full(pair.visible.shape, torch.inf, device=device())
    view = RenderedView(pair.degraded, pair.visible, far, torch.ones_like(far), eye[:, :3, :3], eye)
    nowhere = torch.empty(0)
    return Shot(view, pair.visible, nowhere, far, nowhere, caption), pair.target


def agreement(result: Tensor, earlier: Tensor, first: Shot, second: Shot) -> float | None:
    """Return the PSNR of a fill against the earlier one, looked up through depth, where both invented."""
    there, both = looked_up(earlier, first.view, first.depth, second.view, second.depth)
    if not both.any():
        return None
    return decibel((result - there).square().mean(1)[both])
