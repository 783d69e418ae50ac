"""Whether packed frames of an earlier trajectory make a later one agree with it, on the embedded base.

    python benchmarks/packing.py --clips 24 --seeds 3
    python benchmarks/packing.py --clips 24 --seeds 3 --device cuda --workers 15

Held-out procedural scenes as in embedded_base.py. Each is filled from an orbit by the first angle, then from
the second with nothing packed and with the best frames of the first fill packed, at both kinds of positions;
the same once more with frames of the ground truth packed, which no fill can better. Frames are chosen as a
job chooses them: by what they show of the second view's holes. --adapter: of a base tuned to use them.
Measured on what the base invented (not on what was propagated): PSNR against ground truth, and agreement:
PSNR against the first fill, looked up through true depth, where both invented. Prints a Markdown table with
the differences to nothing packed and their 95 % bootstrap intervals over clips. Every measurement goes to
--rows as a JSON line; a clip and seed that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from agreement import looked_up
from embedded_base import FRAMES, SIDE, SURFACE, decibel, default_filler, held_out, interval
from parallel import device, share
from torch import Tensor

from recapture.datasets.scenes.render import render_scene
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import Packing, finished_view
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import load_adapter

METRICS = ("psnr_invented", "agreement")
NOTHING = "nothing packed"
POSITIONS: tuple[Literal["appended", "time_aligned"], ...] = ("appended", "time_aligned")
Rows = dict[str, dict[int, list[dict[str, float]]]]  # by fill, by clip


@dataclass(frozen=True)
class Setting:
    """What a measurement depends on, beside clip and seed."""

    base: str
    adapter: str | None
    adapter_scale: float
    first: float  # degrees
    second: float
    variety: str
    frames: int
    spacing: int
    steps: int


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
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--adapter-scale", type=float, default=1.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/packing.jsonl"))
    given = parser.parse_args()
    setting = Setting(
        given.base,
        given.adapter,
        given.adapter_scale,
        *given.angles,
        given.variety,
        given.frames,
        given.spacing,
        given.steps,
    )
    measured = read_rows(given.rows)
    wanted = [(clip, seed) for clip in range(given.clips) for seed in range(given.seeds)]
    jobs = [one for one in wanted if (*astuple(setting), *one) not in measured]
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for clip, seed, found in share(
        partial(measure, setting), jobs, workers=given.workers, device=given.device
    ):
        key = (*astuple(setting), clip, seed)
        with given.rows.open("a") as file:
            file.write(json.dumps([*key, found]) + "\n")
        measured[key] = found
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for clip, seed in wanted:
        for name, scores in measured[(*astuple(setting), clip, seed)].items():
            rows[name][clip].append(scores)
    print(f"`python benchmarks/packing.py {shlex.join(sys.argv[1:])}`,", end=" ")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}\n")
    print(f"{given.variety}, {given.angles[0]:g}° then {given.angles[1]:g}°, {given.frames} frames packed\n")
    print_table(rows)


def measure(setting: Setting, job: tuple[int, int]) -> tuple[int, int, dict[str, dict[str, float]]]:
    """Return clip, seed and fill -> scores."""
    clip, seed = job
    first, second = (shot(clip, setting.variety, angle) for angle in (setting.first, setting.second))
    return clip, seed, dict(results(open_filler(setting), first, second, seed))


@cache
def open_filler(setting: Setting) -> DiffusionFiller:
    """Return the filler on this process's device."""
    base = load_base(setting.base, device=device())
    if setting.adapter is not None:
        load_adapter(base.transformer, setting.adapter, scale=setting.adapter_scale)
    return default_filler(base, steps=setting.steps, packing=Packing(setting.frames, setting.spacing))


def read_rows(path: Path) -> dict[tuple[Any, ...], dict[str, dict[str, float]]]:
    """(setting, clip, seed) -> fill -> what was measured before."""
    if not path.exists():
        return {}
    return {tuple(key): found for *key, found in map(json.loads, path.read_text().splitlines())}


@cache
def shot(seed: int, variety: str, angle: float) -> Shot:
    """Return the held-out scene `seed` from the orbit."""
    view, source, truth, _, caption = held_out(seed, variety, angle)
    times = torch.arange(FRAMES, dtype=torch.float32)
    scene = sample_scene(seed, variety=variety)
    depth = render_scene(scene, view.intrinsics, view.world_to_camera, times, SIDE, SIDE).depth
    return Shot(propagate_static(view, source, surface=SURFACE), truth, depth, caption)


def results(
    filler: DiffusionFiller, first: Shot, second: Shot, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (fill, scores) of the second shot; agreement is with one fill of the first."""
    filled = filler.fill_both(first.view, caption=first.caption, seed=seed)
    earlier = filled.video
    alone = filler.fill_both(second.view, caption=second.caption, seed=seed).video
    yield NOTHING, score(alone, earlier, first, second)
    times = torch.arange(FRAMES)
    fill = finished_view(first.view, earlier, times, filled.unpasted)
    for name, packed in (("its fill", fill), ("the truth", finished_view(first.view, first.truth, times))):
        for positions in POSITIONS:
            packing = replace(filler.packing, positions=positions)
            filled = replace(filler, packing=packing).fill_both(
                second.view, caption=second.caption, seed=seed, packed=[packed]
            )
            yield f"{name}, {positions}", score(filled.video, earlier, first, second)


def score(result: Tensor, earlier: Tensor, first: Shot, second: Shot) -> dict[str, float]:
    """PSNR of the second shot's fill where it was invented, and its agreement with the first's."""
    invented = ~second.view.visible & torch.isfinite(second.depth)
    there, both = looked_up(earlier, first.view, first.depth, second.view, second.depth)
    return {
        "psnr_invented": decibel((result - second.truth).square().mean(1)[invented]),
        "agreement": decibel((result - there).square().mean(1)[both]),
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
