"""Whether packed frames of an earlier trajectory make a later one agree with it, on the embedded base.

    python benchmarks/packing.py --clips 24 --seeds 3

Held-out procedural scenes as in embedded_base.py. Each is filled from an orbit by the first angle, then from
the second with nothing packed and with the best frames of the first fill packed, at both kinds of positions;
the same once more with frames of the ground truth packed, which no fill can better. Measured on what the base
invented (not on what was propagated): PSNR against ground truth, and agreement: PSNR against the first fill,
looked up through true depth, where both invented. Prints a Markdown table with the differences to nothing
packed and their 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import torch
from embedded_base import FRAMES, SIDE, decibel, held_out, interval
from torch import Tensor

from recapture.conf.schema import FillConfig
from recapture.datasets.scenes import render_scene, sample_scene
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import FinishedView, Packing
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView
from recapture.models.metrics.backwarp import back_warp
from recapture.models.wan.load import load_base

METRICS = ("psnr_invented", "agreement")
NOTHING = "nothing packed"
POSITIONS: tuple[Literal["appended", "time_aligned"], ...] = ("appended", "time_aligned")
Rows = dict[str, dict[int, list[dict[str, float]]]]  # by fill, by clip


@dataclass(frozen=True)
class Shot:
    """A held-out scene from one orbit, gathered from other frames, with its true picture and geometry."""

    view: RenderedView
    truth: Tensor  # [T, 3, H, W]
    depth: Tensor  # [T, H, W], inf where the room is not shown
    caption: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs=2, default=[15.0, 30.0])
    parser.add_argument("--variety", default="wide")
    parser.add_argument("--frames", type=int, default=2, help="packed frames")
    parser.add_argument("--spacing", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    settings = FillConfig()
    filler = DiffusionFiller(
        load_base(given.base),
        steps=given.steps,
        guidance_scale=settings.guidance_scale,
        scheduler=settings.scheduler,
        shift=settings.shift,
        noise_scale=settings.noise_scale,
        feather=settings.feather,
        packing=Packing(given.frames, given.spacing),
    )
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for clip in range(given.clips):
        first, second = (shot(clip, given.variety, angle) for angle in given.angles)
        for seed in range(given.seeds):
            for name, scores in results(filler, first, second, seed):
                rows[name][clip].append(scores)
    print(f"`python benchmarks/packing.py {shlex.join(sys.argv[1:])}`,", end=" ")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}\n")
    print(f"{given.variety}, {given.angles[0]:g}° then {given.angles[1]:g}°, {given.frames} frames packed\n")
    print_table(rows)


def shot(seed: int, variety: str, angle: float) -> Shot:
    """Return the held-out scene `seed` from the orbit."""
    view, source, truth, _, caption = held_out(seed, variety, angle)
    times = torch.arange(FRAMES, dtype=torch.float32)
    scene = sample_scene(seed, variety=variety)
    depth = render_scene(scene, view.intrinsics, view.world_to_camera, times, SIDE, SIDE).depth
    return Shot(propagate_static(view, source), truth, depth, caption)


def results(
    filler: DiffusionFiller, first: Shot, second: Shot, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (fill, scores) of the second shot; agreement is with one fill of the first."""
    earlier = filler.fill_both(first.view, caption=first.caption, seed=seed).video
    alone = filler.fill_both(second.view, caption=second.caption, seed=seed).video
    yield NOTHING, score(alone, earlier, first, second)
    for name, shown in (("its fill", earlier), ("the truth", first.truth)):
        packed = FinishedView(shown, first.view.visible, torch.arange(FRAMES))
        for positions in POSITIONS:
            packing = replace(filler.packing, positions=positions)
            filled = replace(filler, packing=packing).fill_both(
                second.view, caption=second.caption, seed=seed, packed=[packed]
            )
            yield f"{name}, {positions}", score(filled.video, earlier, first, second)


def score(result: Tensor, earlier: Tensor, first: Shot, second: Shot) -> dict[str, float]:
    """PSNR of the second shot's fill where it was invented, and its agreement with the first's."""
    invented = ~second.view.visible & torch.isfinite(second.depth)
    before = torch.where(first.view.visible, 0.0, 1.0)[:, None].expand_as(earlier)
    there, new = (
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
        for video in (earlier, before)
    )
    both = invented & there.co_visible & (new.video[:, 0] > 0.999)
    return {
        "psnr_invented": decibel((result - second.truth).square().mean(1)[invented]),
        "agreement": decibel((result - there.video).square().mean(1)[both]),
        "both": float(both.float().mean()),
    }


def print_table(rows: Rows) -> None:
    """Means, and differences to nothing packed with their intervals."""
    shares = [scores["both"] for of_clip in rows[NOTHING].values() for scores in of_clip]
    print(f"Both invented {100 * np.mean(shares):.1f} % of the image.\n")
    print(
        "| packed | " + " | ".join(METRICS) + " | " + " | ".join(f"Δ {metric}" for metric in METRICS) + " |"
    )
    print("|---|" + "---|" * (2 * len(METRICS)))
    for name, of_clips in rows.items():
        cells = []
        means = {metric: clip_means(of_clips, metric) for metric in METRICS}
        cells += [f"{np.nanmean(means[metric]):.2f}" for metric in METRICS]
        for metric in METRICS:
            gains = means[metric] - clip_means(rows[NOTHING], metric)
            gains = gains[~np.isnan(gains)]
            low, high = interval(gains)
            cells.append("" if name == NOTHING else f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"| {name} | " + " | ".join(cells) + " |")


def clip_means(of_clips: dict[int, list[dict[str, float]]], metric: str) -> np.ndarray:
    """Mean over seeds of each clip, NaN for a clip in which nothing could be compared."""
    return np.array([np.mean([scores[metric] for scores in seeds]) for seeds in of_clips.values()])


if __name__ == "__main__":
    main()
