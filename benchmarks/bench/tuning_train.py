"""The pairs and trainings of tuning.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from bench.held_out import SURFACE
from bench.tuning_plan import ARMS, MASKS, PACKING, ROUNDS, Arm, Plan, filler, source_of
from recapture.conf.tune import TrainingConfig
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.tuning.cycle import cycle_pair, round_trip
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.masks import draw_composite
from recapture.models.tuning.other_view import frames_beside, other_view
from recapture.models.tuning.pairs import Pair, draw_moves, source_pairs
from recapture.models.tuning.trainer import LoraTrainer
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.lora import add_lora, load_adapter, remove_lora
from recapture.models.wan.text import encode_text
from recapture.tasks.tune.encoded_pairs import EncodedPair, open_pairs, pack_pairs, training_examples
from recapture.tasks.tune.train_adapter import settings_of


def make_pairs(job: tuple[Plan, int, int]) -> None:
    """Write a clip's encoded pairs, a file for each kind of masks and each round."""
    plan, clip, seed = job
    if time.time() > plan.ends:
        return
    source, pivot, caption = source_of(clip)
    text = encode_text(filler(plan.base).base, caption, None).prompt
    random, others = (torch.Generator().manual_seed(1000 * seed + clip + more) for more in (0, 500))
    for number, (low, high) in enumerate(ROUNDS):
        count = plan.moves if clip in plan.scenes else max(1, plan.moves // 3)
        moves = draw_moves(count, low, high, random, direct_share=1.0)
        pairs = list(source_pairs(source, pivot, moves, SURFACE))
        beside = [
            frames_beside(source, pair, other_view(source, pivot, move, SURFACE), PACKING, SURFACE)
            for pair, move in zip(pairs, draw_moves(count, low, high, others, direct_share=1.0))
        ]
        for kind in MASKS:
            found = [encoded(plan, *both, kind, text, random) for both in zip(pairs, beside)]
            partial = plan.pairs(clip, seed, kind, number).with_suffix(".partial")
            partial.write_bytes(pack_pairs(found))
            partial.rename(plan.pairs(clip, seed, kind, number))


def encoded(
    plan: Plan, pair: Pair, beside: Tensor | None, kind: str, text: Tensor, random: torch.Generator
) -> EncodedPair:
    """Return a pair under two masks of a kind; the first frame is never made free, as nothing shows it."""
    count = 1 if kind == "point cloud" else 2
    masks = draw_composite(
        pair.visible.expand(count, *pair.visible.shape), random, shares=MASKS[kind], free_first_frame=0.0
    )
    examples = encode_pair(filler(plan.base).base, pair, masks.visible, text, packed=beside)
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
                pairs += open_pairs(plan.pairs(one, seed, arm.masks, low_to_high))
        if number and arm.cycles:
            pairs += list(recaptured(plan, arm, part[0], seed))
        config = TrainingConfig(
            batch=plan.batch,
            rate=plan.rate / (3 if arm.scope == "both" else 1),
            warm_up=20,
            ema=0.98,
            log_every=50,
        )
        settings = settings_of(config, steps // len(parts), 1000 * seed + number, arm.packed_share)
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
            return fill_views.fill_both(
                propagate_static(view, source, surface=SURFACE), caption=caption, seed=seed
            ).video

        for move in draw_moves(arm.cycles, *ROUNDS[number], random, direct_share=1.0):
            trip = round_trip(source, pivot, move, fill, surface=SURFACE)
            yield encoded(plan, cycle_pair(source, trip.returned, move.angle), None, arm.masks, text, random)
            if arm.pseudo:
                target = torch.where(trip.view.visible[:, None], trip.view.video, trip.video)
                pseudo = Pair(*(trip.view.video, trip.view.visible, target, "pseudo", move.angle, arm.pseudo))
                yield encoded(plan, pseudo, None, "point cloud", text, random)
