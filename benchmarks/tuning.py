"""What tuning on a dataset's own clips is worth, on procedural scenes whose other views are known.

    python benchmarks/tuning.py                # trains every adapter that is missing, then measures
    python benchmarks/tuning.py --table        # the tables of what is measured already

Scenes as in embedded_base.py, 17 frames of 128 x 128, true depth; the target is an orbit to the right by the
full angle in every frame. Adapters are trained on the scenes' source videos alone, one for all scenes and one
training for each seed; every one makes the same number of steps. `single`: all pairs from the start;
`iterative`: three rounds of growing angles, from the second one on with the clips' own recaptures (cycle
pairs). All fill as a job does, propagation and paste included. `packed` shows the base frames of its fill at
the angle before. Every measurement goes to --rows as a JSON line and is not made again; processes share the
work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from embedded_base import FRAMES, SIDE, held_out, score
from parallel import device, share
from torch import Tensor
from tuning_tables import print_tables

from recapture.conf.schema import FillConfig
from recapture.conf.tune import MaskSharesConfig
from recapture.datasets.scenes import render_scene, sample_scene
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import FinishedView, Packing
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.inverse.solvers import inverse_solver
from recapture.models.metrics.backwarp import back_warp
from recapture.models.tuning.cycle import cycle_pair, round_trip
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.masks import draw_composite
from recapture.models.tuning.objective import Objective
from recapture.models.tuning.pairs import Move, Pair, draw_moves, source_pairs
from recapture.models.tuning.step import Settings
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import add_lora, load_adapter, remove_lora, save_adapter
from recapture.models.wan.paste import paste_known
from recapture.models.wan.sampling import Step, sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import decode_latents
from recapture.tasks.tune_examples import (
    EncodedPair,
    pack_pairs,
    training_examples,
    unpack_pairs,
)

ROUNDS = ((5.0, 15.0), (15.0, 30.0), (30.0, 45.0))
MASKS = {"point cloud": {"point_cloud": 1.0}, "composite": MaskSharesConfig().model_dump()}


@dataclass(frozen=True)
class Arm:
    """One way to train; its adapter goes by its name."""

    name: str
    masks: str = "composite"
    iterative: bool = False
    cycles: int = 2  # recaptures a clip and round
    pseudo: float = 0.0  # weight of a recapture as a target
    rounds: int = len(ROUNDS)  # trained on the pairs of so many
    first_block: int = 0
    more: int = 0  # further clips that are trained on and not measured
    scope: str = "dataset"  # or a clip: an adapter for each; both: the same, from the dataset's own


@dataclass(frozen=True)
class Fill:
    """One way to fill; `arm` None is the base."""

    name: str
    arm: str | None = None
    inverse: bool = False
    packed: bool = False
    steps: int | None = None  # of sampling, in place of the default


ARMS = (
    Arm("point-cloud masks", masks="point cloud"),
    Arm("single"),
    Arm("rounds without cycle pairs", iterative=True, cycles=0),
    Arm("iterative", iterative=True),
    Arm("single, 5-15 only", rounds=1),
    Arm("iterative, pseudo-targets", iterative=True, pseudo=0.25),
    Arm("single, upper five of seven blocks", first_block=2),
    Arm("single, 168 more clips", more=168),
    Arm("a clip", scope="clip"),
    Arm("both", scope="both"),
)
FILLS = (
    Fill("base"),
    Fill("base, one step", steps=1),
    *(Fill(arm.name, arm.name) for arm in ARMS),
    Fill("single, one step", "single", steps=1),
    Fill("inverse", inverse=True),
    Fill("iterative, inverse", "iterative", inverse=True),
    Fill("iterative, packed", "iterative", packed=True),
)


@dataclass(frozen=True)
class Plan:
    """What is the same in all jobs."""

    base: str
    adapters: str
    first: int
    clips: int
    steps: int
    clip_steps: int
    batch: int
    rank: int
    rate: float
    moves: int  # pairs a clip and round
    angles: tuple[float, ...]
    ends: float  # begin nothing after this time

    @property
    def scenes(self) -> range:
        """Return the seeds of the scenes."""
        return range(self.first, self.first + self.clips)

    def adapter(self, arm: Arm, seed: int, clip: int) -> Path:
        """Return the folder of the adapter that a clip is filled under."""
        name = f"{arm.name.replace(' ', '_').replace(',', '')}-{seed}"
        return Path(self.adapters) / (name if arm.scope == "dataset" else f"{name}-{clip}")

    def missing(self, arm: Arm, seed: int) -> list[int]:
        """Return the clips whose adapter is missing; one stands for all that share it."""
        clips = self.scenes if arm.scope != "dataset" else self.scenes[:1]
        return [clip for clip in clips if not self.adapter(arm, seed, clip).exists()]

    def further(self, arm: Arm) -> range:
        """Return the clips that an arm is trained on besides."""
        return range(1000, 1000 + arm.more)

    def pairs(self, clip: int, seed: int, masks: str, number: int) -> Path:
        """Return the file of a clip's encoded pairs of a round."""
        name = f"{clip}-{seed}-{masks.replace(' ', '_')}-{number}.safetensors"
        return Path(self.adapters).parent / "pairs" / name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--adapters", default="outputs/benchmarks/adapters")
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/tuning.jsonl"))
    parser.add_argument("--first", type=int, default=0, help="The first scene.")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 30.0, 45.0, 60.0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--clip-steps", type=int, default=150, help="Of an adapter a clip.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--moves", type=int, default=6)
    parser.add_argument("--only", nargs="+", help="These arms, and fills with them or the base.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Begin nothing after so long.")
    parser.add_argument("--table", action="store_true", help="Measure nothing.")
    given = parser.parse_args()
    plan = Plan(
        *(given.base, given.adapters, given.first, given.clips, given.steps, given.clip_steps, given.batch),
        *(given.rank, given.rate, given.moves, tuple(given.angles), time.time() + given.seconds),
    )
    arms = [arm for arm in ARMS if not given.only or arm.name in given.only]
    fills = [fill for fill in FILLS if fill.arm is None or fill.arm in {arm.name for arm in arms}]
    if not given.table:
        work(plan, arms, fills, given)
    print_tables(given.rows, [fill.name for fill in fills], plan.scenes, given.seeds)


def work(plan: Plan, arms: Sequence[Arm], fills: Sequence[Fill], given: argparse.Namespace) -> None:
    """Make the pairs, the adapters and the measurements that are missing."""
    pool = {"workers": given.workers, "device": given.device}
    seeds = range(given.seeds)
    Path(plan.adapters).mkdir(parents=True, exist_ok=True)
    plan.pairs(0, 0, "", 0).parent.mkdir(exist_ok=True)
    wanted = {
        (plan, clip, seed)
        for arm in arms
        for seed in seeds
        if plan.missing(arm, seed)
        for clip in (*plan.scenes, *plan.further(arm))
        if not plan.pairs(clip, seed, [*MASKS][-1], len(ROUNDS) - 1).exists()
    }
    begun = time.time()
    list(share(make_pairs, sorted(wanted, key=lambda job: job[1:]), **pool))
    print(f"pairs of {len(wanted)} clips: {time.time() - begun:.0f} s", flush=True)
    for scopes in (("dataset",), ("clip", "both")):  # the second kind goes on from the first
        todo = [
            (plan, arm, seed, clip)
            for seed in seeds
            for arm in sorted(arms, key=lambda arm: -arm.cycles * arm.iterative)
            if arm.scope in scopes
            for clip in plan.missing(arm, seed)
        ]
        for line in share(train_arm, todo, **pool):
            print(f"[{time.time() - begun:.0f} s] {line}", flush=True)
    measured = set()
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    if given.rows.exists():
        measured = {tuple(json.loads(line)[:4]) for line in given.rows.read_text().splitlines()}
    by_name = {arm.name: arm for arm in arms}
    jobs = []
    for seed in seeds:
        for clip in plan.scenes:
            missing = [
                fill
                for fill in fills
                if (fill.arm is None or plan.adapter(by_name[fill.arm], seed, clip).exists())
                and any((fill.name, clip, seed, angle) not in measured for angle in plan.angles)
            ]
            if missing:
                jobs.append((plan, clip, seed, [(fill, by_name.get(fill.arm or "")) for fill in missing]))
    for rows in share(measure, jobs, **pool):
        with given.rows.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


@cache
def filler(base: str) -> DiffusionFiller:
    """Return what fills as a job's defaults do, on this process's device."""
    settings = FillConfig()
    return DiffusionFiller(
        load_base(base, device=device()),
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        scheduler=settings.scheduler,
        shift=settings.shift,
        noise_scale=settings.noise_scale,
        feather=settings.feather,
        packing=Packing(2, 8),
    )


def source_of(clip: int) -> tuple[SourceView, float, str]:
    """Return a scene's source view on this process's device, the depth of the pivot, and the caption."""
    _, source, _, _, caption = held_out(clip, "wide", 0.0)
    side = source.depth.shape[-1]
    third = slice(side // 3, side - side // 3)
    return on_device(source), float(source.depth[0, third, third].median()), caption


def on_device(view: Any) -> Any:
    """Return a view with its tensors on this process's device."""
    return replace(
        view, **{name: value.to(device()) for name, value in vars(view).items() if isinstance(value, Tensor)}
    )


def make_pairs(job: tuple[Plan, int, int]) -> None:
    """Write a clip's encoded pairs, a file for each kind of masks and each round."""
    plan, clip, seed = job
    if time.time() > plan.ends:
        return
    source, pivot, caption = source_of(clip)
    text = encode_text(filler(plan.base).base, caption, None).prompt
    random = torch.Generator().manual_seed(1000 * seed + clip)
    for number, (low, high) in enumerate(ROUNDS):
        count = plan.moves if clip in plan.scenes else max(1, plan.moves // 3)
        moves = draw_moves(count, low, high, random, direct_share=1.0)
        pairs = list(source_pairs(source, pivot, moves))
        for kind in MASKS:
            found = [encoded(plan, pair, kind, text, random) for pair in pairs]
            partial = plan.pairs(clip, seed, kind, number).with_suffix(".partial")
            partial.write_bytes(pack_pairs(found))
            partial.rename(plan.pairs(clip, seed, kind, number))


def encoded(plan: Plan, pair: Pair, kind: str, text: Tensor, random: torch.Generator) -> EncodedPair:
    """Return a pair under two masks of a kind; the first frame is never made free, as nothing shows it."""
    count = 1 if kind == "point cloud" else 2
    masks = draw_composite(
        pair.visible.expand(count, *pair.visible.shape), random, shares=MASKS[kind], free_first_frame=0.0
    )
    examples = encode_pair(filler(plan.base).base, pair, masks.visible, text)
    return EncodedPair(tuple(examples), pair.kind, pair.angle, pair.weight)


def train_arm(job: tuple[Plan, Arm, int, int]) -> str:
    """Train and save an adapter; return a line about it."""
    plan, arm, seed, clip = job
    if time.time() > plan.ends:
        return f"{arm.name}, seed {seed}: not begun"
    begun = time.time()
    base = filler(plan.base).base
    if arm.scope == "both":
        single = next(one for one in ARMS if one.name == "single")
        load_adapter(base.transformer, plan.adapter(single, seed, clip))
    else:
        add_lora(base.transformer, rank=plan.rank, first_block=arm.first_block, seed=seed)
    empty = encode_text(base, "", None).prompt[0]
    rounds = range(arm.rounds)
    parts = [[number] for number in rounds] if arm.iterative else [list(rounds)]
    clips = (*plan.scenes, *plan.further(arm)) if arm.scope == "dataset" else (clip,)
    steps = plan.steps if arm.scope == "dataset" else plan.clip_steps
    pairs: list[EncodedPair] = []
    losses: list[float] = []
    weights: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        for one in clips:
            for low_to_high in part:
                pairs += unpack_pairs(plan.pairs(one, seed, arm.masks, low_to_high).read_bytes())
        if number and arm.cycles:
            pairs += list(recaptured(plan, arm, part[0], seed))
        settings = Settings(
            steps=steps // len(parts),
            batch=plan.batch,
            rate=plan.rate / (3 if arm.scope == "both" else 1),
            warm_up=20,
            ema=0.98,
            seed=1000 * seed + number,
            objective=Objective("mixed", 2.0, 1.0, 0.1),
            log_every=50,
        )
        trainer = LoraTrainer(base, training_examples(pairs, 0.4), settings, empty_text=empty)
        trainer.run(lambda step, values: losses.append(values["hole_loss"]))
        weights = trainer.weights()
    folder = plan.adapter(arm, seed, clip)
    partial = folder.with_suffix(".partial")
    save_adapter(partial, base.transformer, weights=weights)
    partial.rename(folder)
    remove_lora(base.transformer)
    return (
        f"{arm.name}, seed {seed}, clip {clip}: {len(pairs)} pairs, {steps} steps, "
        f"{time.time() - begun:.0f} s, hole loss {losses[0]:.3f} -> {sum(losses[-4:]) / len(losses[-4:]):.3f}"
    )


def recaptured(plan: Plan, arm: Arm, number: int, seed: int) -> Iterator[EncodedPair]:
    """Yield the pairs that the adapter in the base makes of the clips at a round's angles."""
    fill_views = replace(filler(plan.base), steps=8)
    random = torch.Generator().manual_seed(77 + 1000 * seed + number)
    for clip in plan.scenes:
        source, pivot, caption = source_of(clip)
        text = encode_text(fill_views.base, caption, None).prompt

        def fill(view: RenderedView, source: SourceView = source, caption: str = caption) -> Tensor:
            return fill_views.fill_both(propagate_static(view, source), caption=caption, seed=seed).video

        for move in draw_moves(arm.cycles, *ROUNDS[number], random, direct_share=1.0):
            trip = round_trip(source, pivot, move, fill)
            yield encoded(plan, cycle_pair(source, trip.returned, move.angle), arm.masks, text, random)
            if arm.pseudo:
                target = torch.where(trip.view.visible[:, None], trip.view.video, trip.video)
                pseudo = Pair(*(trip.view.video, trip.view.visible, target, "pseudo", move.angle, arm.pseudo))
                yield encoded(plan, pseudo, "point cloud", text, random)


def measure(job: tuple[Plan, int, int, list[tuple[Fill, Arm | None]]]) -> list[list[Any]]:
    """Return [fill, scene, seed, angle, scores] of every fill of a job at every angle, in order."""
    plan, clip, seed, fills = job
    if time.time() > plan.ends:
        return []
    angles = sorted(plan.angles)
    shots = [shot(clip, angle) for angle in angles]
    back = [returned(clip, angle) for angle in angles]
    rows: list[list[Any]] = []
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
            scores = score(videos[place].cpu(), current.truth, current.seen.cpu(), current.inside)
            if place:
                scores["agreement"] = agreement(videos[place], videos[place - 1], shots[place - 1], current)
            source = back[place][1]
            hole = ~back[place][0].view.visible
            error = (again[place] - source).square().mean(1)[hole]
            scores["returned_hole"] = float(10 * torch.log10(4 / error.mean().clamp_min(1e-10)))
            rows.append([one.name, clip, seed, angle, scores])
    return rows


def fill_at_once(using: DiffusionFiller, shots: Sequence[Shot], seed: int) -> list[Tensor]:
    """Return what `using.fill_both` makes of each view, sampled as one batch."""
    base = using.base
    given = [condition(base, grey_holes(s.view.video, s.view.visible), s.view.visible) for s in shots]
    noise = torch.randn(1, *given[0].latent_shape, generator=torch.Generator().manual_seed(seed))
    solver = None
    if using.make_solver is not None:
        each = [using.make_solver(base, s.view.video, s.view.visible) for s in shots]
        solver = AtOnce(each)
    latents = sample(
        base,
        replace(given[0], channels=torch.cat([one.channels for one in given])),
        encode_text(base, shots[0].caption, None),
        scheduler=make_scheduler(using.scheduler, using.shift),
        steps=using.steps,
        generator=torch.Generator(),
        latents=using.noise_scale * noise.expand(len(shots), -1, -1, -1, -1),
        solver=solver,
    )
    videos = decode_latents(base.vae, latents)
    return [
        paste_known(video, s.view.video, s.view.visible, using.feather) for video, s in zip(videos, shots)
    ]


@dataclass(frozen=True)
class AtOnce:
    """Solvers of several clips as one of a batch of them; a `SteppingSolver`."""

    each: Sequence[Any]

    def visits(self, step: Step) -> int:
        """Return how often the step is taken, the same for all."""
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
    """A scene from an angle, its holes filled from other frames as far as those saw them."""

    view: RenderedView  # after propagation
    seen: Tensor  # [T, H, W] bool, before it
    truth: Tensor  # [T, 3, H, W], on the CPU
    depth: Tensor  # [T, H, W] true depth, inf where the room is not shown
    inside: Tensor  # [T, H, W] bool, on the CPU
    caption: str


def shot(clip: int, angle: float) -> Shot:
    """Return a scene as it is to be filled."""
    view, source, truth, inside, caption = held_out(clip, "wide", angle)
    times = torch.arange(FRAMES, dtype=torch.float32)
    scene = sample_scene(clip, variety="wide")
    depth = render_scene(scene, view.intrinsics, view.world_to_camera, times, SIDE, SIDE).depth
    view, source = on_device(view), on_device(source)
    return Shot(propagate_static(view, source), view.visible, truth, depth.to(device()), inside, caption)


def returned(clip: int, angle: float) -> tuple[Shot, Tensor]:
    """Return a clip that went to an angle, the other way than any shot, and back; and the clip itself."""
    source, pivot, caption = source_of(clip)
    pair = next(source_pairs(source, pivot, [Move(-angle, 0.0, 0.0, direct=True)]))
    eye = torch.eye(4, device=device()).expand(len(pair.visible), 4, 4)
    far = torch.full(pair.visible.shape, torch.inf, device=device())
    view = RenderedView(pair.degraded, pair.visible, far, torch.ones_like(far), eye[:, :3, :3], eye)
    nowhere = torch.empty(0)
    return Shot(view, pair.visible, nowhere, far, nowhere, caption), pair.target


def agreement(result: Tensor, earlier: Tensor, first: Shot, second: Shot) -> float | None:
    """PSNR of a fill against the earlier one, looked up through true depth, where both were invented."""
    new = torch.where(first.view.visible, 0.0, 1.0)[:, None].expand_as(earlier)
    there, invented = (
        back_warp(
            video,
            first.depth,
            torch.isfinite(first.depth),
            first.view.intrinsics,
            first.view.world_to_camera,
            second.depth,
            second.view.intrinsics,
            second.view.world_to_camera,
        )
        for video in (earlier, new)
    )
    both = ~second.view.visible & there.co_visible & (invented.video[:, 0] > 0.999)
    if not both.any():
        return None
    error = (result - there.video).square().mean(1)[both]
    return float(10 * torch.log10(4 / error.mean().clamp_min(1e-10)))


if __name__ == "__main__":
    main()
