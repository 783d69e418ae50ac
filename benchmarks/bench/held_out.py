"""Held-out procedural scenes seen from an orbit, and what a fill of their holes is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recapture.conf.fill import FillConfig
from recapture.conf.schema import RenderConfig
from recapture.datasets.scenes.render import render_scene, source_cameras
from recapture.datasets.scenes.sampling import Variety, sample_scene
from recapture.models.fill.compositing import Compositing
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import preset_path
from recapture.models.metrics.image import ssim
from recapture.models.wan.load import Base
from recapture.models.wan.vae import decode_latents, encode_video
from recapture.tasks.jobs.render import surface_settings

FRAMES, SIDE = 17, 128
SURFACE = surface_settings(RenderConfig())
CEILING = "truth through the VAE (ceiling)"


def default_filler(base: Base, **changes: Any) -> DiffusionFiller:
    """Return a filler with a job's default settings, of fill.method base, and these changes."""
    settings = FillConfig()
    filler = DiffusionFiller(
        base,
        SURFACE,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        negative_prompt=settings.negative_prompt,
        scheduler=settings.scheduler,
        shift=settings.shift,
        noise_scale=settings.noise_scale,
        compositing=Compositing(settings.compositing, settings.feathered),
    )
    return replace(filler, **changes)


def round_trip(base: Base, video: Tensor) -> Tensor:
    """Return the video encoded and decoded by the base's VAE: no fill of this base can be closer to it."""
    return decode_latents(base.vae, encode_video(base.vae, video)).clamp(-1, 1)


def held_out(
    seed: int, variety: Variety, angle: float
) -> tuple[RenderedView, SourceView, Tensor, Tensor, str]:
    """Return a held-out scene seen from an orbit, its source, the true picture, its room, and its caption.

    Its room: bool [T, H, W], where the true picture shows the room; an orbit may leave a small one.
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
    """Return PSNR, SSIM and sharpness in holes, PSNR of the frames' differences there, and PSNR overall."""
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
    """Return the size of the brightness gradient, [T, H, W]."""
    grey = torch.nn.functional.pad(video.mean(1), (0, 1, 0, 1), mode="replicate")
    return grey[:, :-1].diff(dim=2).abs() + grey[:, :, :-1].diff(dim=1).abs()


def decibel(error: Tensor) -> float:
    """Return the PSNR for a range of 2."""
    return float(10 * torch.log10(4 / error.mean().clamp_min(1e-10)))
