"""Tune, sample and score the cells of benchmarks/motion.py, and keep each as one JSON file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.motion_fill import SURFACE, motion_filler, round_trip
from bench.motion_plan import ROWS, Job, cell_name
from bench.motion_truth import Known, known_transfer, reference_of, scored
from bench.parallel import device
from recapture.models.fill.diffusion import MakeSolver
from recapture.models.fill.view import RenderedView
from recapture.models.inverse.measurement import LatentMeasurement
from recapture.models.inverse.solvers import make_solver
from recapture.models.motion.examples import MotionExamples, motion_examples, shown_at_start
from recapture.models.motion.explicit import (
    background_view,
    body_moves,
    camera_moves,
    explicit_view,
    pivot_of,
)
from recapture.models.motion.heads import head_shares, heads_by_share
from recapture.models.motion.tune import tune_motion
from recapture.models.training.schedule import Diverged
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.lora import remove_lora, with_adapter
from recapture.models.wan.sampling import Solver
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import encode_video

SIGMAS, QUERY_ROWS = (0.3, 0.6), 64


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    base: str
    frames: int
    side: int
    references: int
    targets: int
    steps: int  # of sampling
    folder: str
    ends: float  # start no job after this time


def measure(setting: Setting, job: Job) -> list[str]:
    """Measure the cells of a job and store them; return their names."""
    if time.time() > setting.ends:
        return []
    base = open_base(setting.base)
    weights: dict[str, Tensor] = {}
    spent: dict[str, Any] = {}
    if job.tuning is not None:
        try:
            weights, spent = tuned(base, setting, job)
        except Diverged as error:  # a failure that counts: its clips are the base's
            remove_lora(base.transformer)
            spent = {"failed": str(error)}
    names = []
    for row, reference in job.cells:
        name = cell_name(row, job.category, reference, job.seed)
        try:
            scores = cell(base, setting, row, reference, job, weights)
        except (ValueError, RuntimeError) as error:  # it stays missing, and the others go on
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            continue
        store(Path(setting.folder) / f"{name}.json", {"row": row, "targets": scores, "tuning": spent})
        names.append(name)
    if weights:
        remove_lora(base.transformer)
    return names


def cell(
    base: Base, setting: Setting, row: str, reference: int, job: Job, weights: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Return the scores of a row for each target of a reference."""
    scores = {}
    for target in range(setting.targets):
        known = known_transfer(job.category, reference, target, setting.frames, setting.side)
        video = made(base, setting, row, known, job, weights)
        without = base_sample(base, setting, known, job.seed)
        scores[str(target)] = scored(video, without, known)
    return scores


def tuned(base: Base, setting: Setting, job: Job) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Tune the adapter of a job, which stays in the base; return its weights, and what it took."""
    assert job.tuning is not None
    settings = job.tuning.settings(setting.frames, job.seed)
    every = range(setting.references) if job.tuning.whole_category else (job.reference,)
    examples = [examples_of(base, setting, job, number) for number in every]
    heads = None
    if job.tuning.heads != "all":
        heads = chosen_heads(base, examples[0], job)
    empty = encode_text(base, "", None).prompt[0]
    started = time.monotonic()
    made_of = MotionExamples(tuple(one for some in examples for one in some.training), ())
    adapter = tune_motion(base, made_of, settings, empty_text=empty, heads=heads)
    spent = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": adapter.cpu_seconds,
        "loss": adapter.curve[-1][1]["loss"],
    }
    return adapter.weights, spent


def examples_of(base: Base, setting: Setting, job: Job, reference: int) -> MotionExamples:
    """Encode the copies of a reference."""
    assert job.tuning is not None
    clip = reference_of(job.category, reference, setting.frames, setting.side)
    video = clip.video.flip(0) if job.tuning.reversed else clip.video
    shape = setting.frames, setting.side, setting.side
    return motion_examples(
        base,
        video.to(base.device),
        encode_text(base, clip.scene.caption, None).prompt,
        visible=shown_at_start("first_frame", *shape).to(base.device),
        sparse=job.tuning.settings(setting.frames, job.seed).sparse,
        copies_trained=job.tuning.copies,
        copies_held_out=0,
        augmentation=job.tuning.augmentation(),
        random=torch.Generator().manual_seed(1000 * job.seed + reference),
    )


def chosen_heads(base: Base, examples: MotionExamples, job: Job) -> Tensor:
    """Return the heads that an adapter may change."""
    assert job.tuning is not None
    random = torch.Generator().manual_seed(job.seed)
    shares = head_shares(base, examples.training[:2], sigmas=SIGMAS, rows=QUERY_ROWS, random=random)
    return heads_by_share(shares, job.tuning.heads, random)


def made(
    base: Base, setting: Setting, row: str, known: Known, job: Job, weights: dict[str, Tensor]
) -> Tensor:
    """Return a row's clip [T, 3, H, W] for a target."""
    picture = known.truths["picture"].video
    method = ROWS[row].method
    if method == "truth":
        return round_trip(base, picture.to(base.device)).cpu()
    if method == "still":
        return picture[:1].expand_as(picture)
    if method == "base" or (ROWS[row].tuning is not None and not weights):
        return base_sample(base, setting, known, job.seed)
    filler = motion_filler(base, setting.steps)
    caption, seed = known.scene.caption, sample_seed(known, job.seed)
    if method in ("explicit", "completed"):
        view = on(explicit(base, setting, known, seed, by_base=method == "completed"), base.device)
        return filler.fill_both(view, caption=caption, seed=seed).video.cpu()
    if method in ("guided", "both"):
        clip = reference_of(known.category, job.reference, setting.frames, setting.side).video
        filler = motion_filler(base, setting.steps, follower(clip))
    view = first_frame_view(known, base.device)
    if method == "guided":
        return filler.fill_both(view, caption=caption, seed=seed).video.cpu()
    with with_adapter(base.transformer, ROWS[row].scale, weights, "temporal"):
        return filler.fill_both(view, caption=caption, seed=seed).video.cpu()


def follower(clip: Tensor) -> MakeSolver:
    """Return the maker of the solver that follows a reference's latents."""

    def make(base: Base, video: Tensor, visible: Tensor) -> Solver:
        latents = encode_video(base.vae, clip.to(base.device))[None]
        return make_solver("motion", LatentMeasurement(latents, torch.ones_like(latents)))

    return make


def explicit(base: Base, setting: Setting, known: Known, seed: int, *, by_base: bool) -> RenderedView:
    """Return the target moved by the true masks, depth and cameras of both scenes.

    by_base: what is behind the bodies comes from the base, without a prompt; else it is inpainted.
    """
    clip = reference_of(known.category, known.reference, setting.frames, setting.side)
    lens = known.scene.cameras()[0][0]
    frame, depth = known.truths["picture"].video[0], known.depth[0]
    if known.category == "camera":
        nothing = torch.zeros(0, *depth.shape, dtype=torch.bool)
        camera = camera_moves(*clip.scene.cameras(), pivot_of(clip.depth[0]))
        return explicit_view(frame, depth, nothing, lens, surface=SURFACE, camera=camera)
    moves = body_moves(clip.bodies, clip.depth)
    bodies, behind = known.bodies[:, 0], None
    if by_base:
        hidden = on(background_view(frame, depth, bodies, lens), base.device)
        filler = motion_filler(base, setting.steps)
        behind = filler.fill_both(hidden, caption="", seed=seed).video[0].cpu()
    return explicit_view(frame, depth, bodies, lens, surface=SURFACE, moves=moves, behind=behind)


def first_frame_view(known: Known, where: torch.device) -> RenderedView:
    """Return a view that shows the target's first frame and nothing else."""
    video = known.truths["picture"].video
    frames, _, height, width = video.shape
    visible = shown_at_start("first_frame", frames, height, width)
    lens, pose = known.scene.cameras()
    depth = torch.where(visible, known.depth, torch.inf)
    shown = torch.where(visible[:, None], video, 0.0)
    return on(RenderedView(shown, visible, depth, torch.ones_like(depth), lens, pose), where)


def on(view: RenderedView, where: torch.device) -> RenderedView:
    """Return a view on a device."""
    parts = view.video, view.visible, view.depth, view.stretch, view.intrinsics, view.world_to_camera
    return RenderedView(*(part.to(where) for part in parts))


def base_sample(base: Base, setting: Setting, known: Known, seed: int) -> Tensor:
    """Return the base's own sample for a target, stored so that it is made once."""
    place = Path(setting.folder) / "base" / f"{known.name}-{seed}.npz"
    if place.exists():
        with np.load(place) as stored:
            return torch.from_numpy(stored["video"]).float() / 127.5 - 1
    filler = motion_filler(base, setting.steps)
    with without_adapter(base):
        video = filler.fill_both(
            first_frame_view(known, base.device), caption=known.scene.caption, seed=sample_seed(known, seed)
        ).video.cpu()
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().byte()
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, video=pixels.numpy())
    part.replace(place)
    return pixels.float() / 127.5 - 1


@contextmanager
def without_adapter(base: Base) -> Iterator[None]:
    """Use the base alone, whatever adapter it has."""
    if not getattr(base.transformer, "peft_config", None):
        yield
        return
    base.transformer.disable_adapters()
    try:
        yield
    finally:
        base.transformer.enable_adapters()


def sample_seed(known: Known, seed: int) -> int:
    """Return the seed of the noise: the same in all rows of a target."""
    return 100_000 * seed + 100 * known.reference + known.target


@cache
def open_base(path: str) -> Base:
    """Return the base on this process's device."""
    return load_base(path, device=device())


def store(path: Path, content: dict[str, Any]) -> None:
    """Write a cell in one step."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


def stored(folder: Path, targets: int) -> dict[str, dict[str, Any]]:
    """Return the cells of a folder that have all targets, by name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        cell = json.loads(path.read_text())
        if len(cell["targets"]) >= targets:
            found[path.stem] = cell
    return found
