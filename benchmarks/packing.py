"""Whether packed frames of an earlier trajectory make a later one agree with it, on the embedded base.

    python benchmarks/packing.py --clips 24 --seeds 3
    python benchmarks/packing.py --clips 24 --seeds 3 --device cuda --workers 15

Held-out procedural scenes as in embedded_base.py. Each is filled from an orbit by the first angle, then from
an orbit by the second: with nothing packed, and with the best frames of the first fill packed, at both kinds
of positions; then once more with frames of the ground truth packed, which no fill can better. Frames are
chosen as a job chooses them: by what they show of the second view's holes. --adapter names an adapter that
was tuned to use them. Measured on what the base invented (not on what was propagated): PSNR against ground
truth, and agreement: PSNR against the first fill, looked up through true depth, where both were invented.
Differences are to nothing packed, with 95 % bootstrap intervals over clips. Rows that an earlier call
measured with the same settings are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.agreement import looked_up
from bench.cached_rows import CachedRows, setting_key
from bench.held_out import FRAMES, SIDE, SURFACE, decibel, default_filler, held_out
from bench.parallel import device, share
from bench.tables import Cell, Column, Run, Table, add_write, publish, this_run, with_interval
from recapture.datasets.scenes.render import render_scene
from recapture.datasets.scenes.sampling import Variety, sample_scene
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.packed import Packing, finished_view
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import load_adapter

METRICS = ("psnr_invented", "agreement")
NOTHING = "nothing packed"
CHOOSES = ("clips", "seeds")  # arguments that only choose what is measured
POSITIONS: tuple[Literal["appended", "time_aligned"], ...] = ("appended", "time_aligned")
Scores = dict[str, dict[str, float]]  # fill -> metric -> value


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    base: str
    adapter: str | None
    adapter_scale: float
    first: float  # degrees
    second: float
    variety: Variety
    frames: int
    spacing: int
    steps: int


@dataclass(frozen=True)
class Shot:
    """A held-out scene from one orbit, propagated from other frames, with its true picture and geometry."""

    view: RenderedView
    truth: Tensor  # [T, 3, H, W]
    depth: Tensor  # [T, H, W], inf where the room is not shown
    caption: str


def main() -> None:
    given = arguments()
    shared = {name: value for name, value in vars(given).items() if name in Setting.__annotations__}
    setting = Setting(**shared, first=given.angles[0], second=given.angles[1])
    measured = CachedRows(given.rows, setting_key(__file__, given, chooses=CHOOSES))
    wanted = [(clip, seed) for clip in range(given.clips) for seed in range(given.seeds)]
    jobs = [at for at in wanted if at not in measured]
    work = partial(measure, setting)
    for at, found in share(work, jobs, workers=given.workers, device=given.device):
        measured.add(at, found)
    run = this_run(device=given.device, base=given.base, measured_on=measured.measured_on())
    title = f"{given.variety}, {given.angles[0]:g}° then {given.angles[1]:g}°, {given.frames} frames packed, "
    title += f"{given.clips} clips, {given.seeds} seeds"
    by_clip = [[measured[clip, seed] for seed in range(given.seeds)] for clip in range(given.clips)]
    publish([table(given.write or "packing", title, by_clip, run)], write=given.write is not None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line, or those of `words`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs=2, default=[15.0, 30.0])
    parser.add_argument("--variety", choices=("classic", "wide"), default="wide")
    parser.add_argument("--frames", type=int, default=2, help="Number of packed frames.")
    parser.add_argument("--spacing", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--adapter-scale", type=float, default=1.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/benchmarks/packing.jsonl"))
    add_write(parser, "packing")
    return parser.parse_args(words)


def measure(setting: Setting, job: tuple[int, int]) -> tuple[tuple[int, int], Scores]:
    """Return (clip, seed), and fill -> scores."""
    clip, seed = job
    first, second = (shot(clip, setting.variety, angle) for angle in (setting.first, setting.second))
    return job, dict(results(open_filler(setting), first, second, seed))


@cache
def open_filler(setting: Setting) -> DiffusionFiller:
    """Return the filler on this process's device."""
    base = load_base(setting.base, device=device())
    if setting.adapter is not None:
        load_adapter(base.transformer, setting.adapter, scale=setting.adapter_scale)
    return default_filler(base, steps=setting.steps, packing=Packing(setting.frames, setting.spacing))


@cache
def shot(seed: int, variety: Variety, angle: float) -> Shot:
    """Return the held-out scene `seed` from an orbit."""
    view, source, truth, _, caption = held_out(seed, variety, angle)
    times = torch.arange(FRAMES, dtype=torch.float32)
    scene = sample_scene(seed, variety=variety)
    depth = render_scene(scene, view.intrinsics, view.world_to_camera, times, SIDE, SIDE).depth
    return Shot(propagate_static(view, source, surface=SURFACE), truth, depth, caption)


def results(
    filler: DiffusionFiller, first: Shot, second: Shot, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (fill, scores) of the second shot; agreement is with one fill of the first."""
    assert filler.packing is not None
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
    """Return the PSNR of the second shot's fill where it was invented, and its agreement with the first's."""
    invented = ~second.view.visible & torch.isfinite(second.depth)
    there, both = looked_up(earlier, first.view, first.depth, second.view, second.depth)
    return {
        "psnr_invented": decibel((result - second.truth).square().mean(1)[invented]),
        "agreement": decibel((result - there).square().mean(1)[both]),
        "both": float(both.float().mean()),
    }


def table(name: str, title: str, by_clip: Sequence[Sequence[Scores]], run: Run) -> Table:
    """Return means, and differences to nothing packed with their intervals."""

    def of_clips(fill: str, metric: str) -> np.ndarray:
        return np.array([np.mean([scores[fill][metric] for scores in seeds]) for seeds in by_clip])

    rows: list[list[Cell]] = []
    for fill in by_clip[0][0]:
        means: list[Cell] = [float(np.nanmean(of_clips(fill, metric))) for metric in METRICS]
        gains: list[Cell] = [
            None if fill == NOTHING else with_interval(of_clips(fill, metric) - of_clips(NOTHING, metric))
            for metric in METRICS
        ]
        rows.append([fill, *means, *gains])
    columns = [Column("packed"), *(Column(metric, ".2f") for metric in METRICS)]
    columns += [Column(f"Δ {metric}") for metric in METRICS]
    share = 100 * float(np.mean(of_clips(NOTHING, "both")))
    return Table(name, title, columns, rows, run, [f"Both fills invented {share:.1f} % of the image."])


if __name__ == "__main__":
    main()
