"""How well the embedded base fills the holes of a camera move, against ground truth and simpler fills.

    python benchmarks/embedded_base.py --clips 24 --seeds 3

Held-out procedural scenes (seeds from 0; training used 1,000,000 on), 17 frames of 128 x 128, seen from an
orbit to the right by the full angle in every frame. Prints Markdown tables: means over clips and seeds, and
the difference to the classical fill with 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import FillConfig, RenderConfig
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import sample_scene
from recapture.models.fill.classical import ClassicalFiller
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path
from recapture.models.metrics.image import ssim
from recapture.models.wan.load import Base, load_base
from recapture.models.wan.paste import paste_known
from recapture.models.wan.vae import decode_latents, encode_video
from recapture.tasks.jobs.render import surface_settings

FRAMES, SIDE = 17, 128
SURFACE = surface_settings(RenderConfig())
METRICS = ("psnr_hole", "ssim_hole", "temporal_hole", "sharpness_hole", "psnr")
COMPARED = ("psnr_hole", "ssim_hole", "temporal_hole")
CLASSICAL, CEILING = "classical", "truth through the VAE (ceiling)"
Rows = dict[str, list[tuple[int, dict[str, float]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="weights/base")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--angles", type=float, nargs="+", default=[20.0, 45.0])
    parser.add_argument("--varieties", nargs="+", default=["wide"])
    given = parser.parse_args()
    base = load_base(given.base)
    print(f"`python benchmarks/embedded_base.py --clips {given.clips} --seeds {given.seeds}`,", end=" ")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}\n", flush=True)
    for variety in given.varieties:
        for angle in given.angles:
            rows: Rows = defaultdict(list)
            for clip in range(given.clips):
                view, source, truth, inside, caption = held_out(clip, variety, angle)
                ceiling = paste_known(round_trip(base, truth), view.video, view.visible)
                rows[CEILING].append((clip, score(ceiling, truth, view.visible, inside)))
                for name, result, took in results(base, view, source, caption, given.seeds):
                    rows[name].append((clip, {**score(result, truth, view.visible, inside), "seconds": took}))
            print_table(f"{variety}, {angle:g}°", rows)


def results(
    base: Base, view: RenderedView, source: SourceView, caption: str, seeds: int
) -> Iterator[tuple[str, Tensor, float]]:
    """Yield (fill, video, seconds); a fill that draws noise comes once a seed."""
    begun = time.perf_counter()
    classical = ClassicalFiller(SURFACE).fill(view, source, caption=caption, seed=0)
    yield CLASSICAL, classical, time.perf_counter() - begun
    known = view.visible[:, None]
    mean = (view.video * known).sum((0, 2, 3)) / known.sum()
    yield "mean colour", torch.where(known, view.video, mean.view(1, 3, 1, 1)), 0.0
    begun = time.perf_counter()
    gathered = propagate_static(view, source, surface=SURFACE)
    gathering = time.perf_counter() - begun
    default = default_filler(base)
    for name, filler, given, before in (
        ("base (default)", default, gathered, gathering),
        ("base, nothing propagated", default, view, 0.0),
        ("base, full noise", replace(default, noise_scale=1.0), gathered, gathering),
        ("base, 20 steps", replace(default, steps=20), gathered, gathering),
        ("base, one step", replace(default, steps=1), gathered, gathering),
    ):
        for seed in range(seeds):
            begun = time.perf_counter()
            filled = filler.fill_both(given, caption=caption, seed=seed)
            took = time.perf_counter() - begun + before
            yield name, filled.video, took
            if name.endswith("(default)"):
                yield "base, nothing pasted", filled.unpasted.clamp(-1, 1), took


def default_filler(base: Base, **changes: Any) -> DiffusionFiller:
    """Return what fills as a job's defaults do, but for the changes."""
    settings = FillConfig()
    filler = DiffusionFiller(
        base,
        SURFACE,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        scheduler=settings.scheduler,
        shift=settings.shift,
        noise_scale=settings.noise_scale,
        feather=settings.feather,
    )
    return replace(filler, **changes)


def round_trip(base: Base, video: Tensor) -> Tensor:
    """The video after the base's VAE: no fill of this base can be closer to the truth."""
    return decode_latents(base.vae, encode_video(base.vae, video)).clamp(-1, 1)


def held_out(seed: int, variety: str, angle: float) -> tuple[RenderedView, SourceView, Tensor, Tensor, str]:
    """Return a held-out scene seen from the orbit, its source, the true picture, where it shows the room (an
    orbit may leave a small one), and its caption.
    """
    scene = sample_scene(seed, variety=variety)
    times = torch.arange(FRAMES, dtype=torch.float32)
    cameras = source_cameras(scene, FRAMES, SIDE, SIDE)
    shot = render_scene(scene, *cameras, times, SIDE, SIDE)
    third = slice(SIDE // 3, SIDE - SIDE // 3)
    pivot = float(shot.depth[0, third, third].median())
    path = preset_path("orbit_right", *cameras, pivot, angle_degrees=angle, mode="direct")
    target = path.intrinsics.float(), path.world_to_camera.float()
    truth = render_scene(scene, *target, times, SIDE, SIDE)
    seen = render(shot.video, shot.depth, *cameras, *target, surface=SURFACE)
    view = RenderedView(seen.video, seen.visible, seen.depth, seen.stretch, *target)
    known = torch.isfinite(shot.depth)
    source = SourceView(shot.video, shot.depth, known, *cameras, torch.arange(FRAMES))
    return view, source, truth.video, torch.isfinite(truth.depth), scene.captions[0]


def score(result: Tensor, truth: Tensor, visible: Tensor, inside: Tensor) -> dict[str, float]:
    """PSNR, SSIM and sharpness in holes, PSNR of the frames' differences there, PSNR overall."""
    holes = ~visible & inside
    error = (result - truth).square().mean(1)
    both = holes[1:] & holes[:-1]
    moved = (result.diff(dim=0) - truth.diff(dim=0)).square().mean(1)
    return {
        "psnr_hole": decibel(error[holes]),
        "ssim_hole": float(ssim(result, truth, holes)),
        "temporal_hole": decibel(moved[both]),
        "sharpness_hole": float(gradient(result)[holes].mean() / gradient(truth)[holes].mean()),
        "psnr": decibel(error[inside]),
        "hole_share": float(holes.float().mean()),
    }


def gradient(video: Tensor) -> Tensor:
    """Size of the brightness gradient [T, H, W]."""
    grey = torch.nn.functional.pad(video.mean(1), (0, 1, 0, 1), mode="replicate")
    return grey[:, :-1].diff(dim=2).abs() + grey[:, :, :-1].diff(dim=1).abs()


def decibel(error: Tensor) -> float:
    """PSNR for a range of 2."""
    return float(10 * torch.log10(4 / error.mean().clamp_min(1e-10)))


def print_table(title: str, rows: Rows) -> None:
    """Means, and differences to the classical fill with their intervals."""
    share = np.mean([scores["hole_share"] for _, scores in rows[CLASSICAL]])
    print(f"### {title} (holes {100 * share:.0f} %)\n")
    print(
        "| fill | " + " | ".join(METRICS) + " | " + " | ".join(f"Δ {metric}" for metric in COMPARED), end=""
    )
    print(" | seconds |\n|---|" + "---|" * (len(METRICS) + len(COMPARED) + 1))
    for name in (CLASSICAL, *(name for name in rows if name != CLASSICAL)):
        measured = rows[name]
        cells = [f"{np.mean([scores[metric] for _, scores in measured]):.3g}" for metric in METRICS]
        for metric in COMPARED:
            reference = {clip: scores[metric] for clip, scores in rows[CLASSICAL]}
            by_clip = defaultdict(list)
            for clip, scores in measured:
                by_clip[clip].append(scores[metric] - reference[clip])
            gains = np.array([np.mean(values) for values in by_clip.values()])
            low, high = interval(gains)
            cells.append("" if name == CLASSICAL else f"{gains.mean():+.2f} [{low:+.2f}, {high:+.2f}]")
        took = [scores["seconds"] for _, scores in measured if "seconds" in scores]
        print(f"| {name} | " + " | ".join(cells) + (f" | {np.median(took):.1f} |" if took else " | |"))
    print(flush=True)


def interval(values: np.ndarray, draws: int = 4000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    random = np.random.default_rng(0)
    means = random.choice(values, (draws, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
