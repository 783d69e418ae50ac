"""The filler of benchmarks/motion.py, which needs neither Ray nor a video library."""

from __future__ import annotations

from torch import Tensor

from recapture.conf.fill import FillConfig
from recapture.conf.schema import RenderConfig
from recapture.models.fill.compositing import Compositing
from recapture.models.fill.diffusion import DiffusionFiller, MakeSolver
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.wan.load import Base
from recapture.models.wan.vae import decode_latents, encode_video

_RENDER = RenderConfig()
SURFACE = SurfaceSettings(_RENDER.break_ratio, _RENDER.shell, _RENDER.max_stretch)


def motion_filler(base: Base, steps: int, make_solver: MakeSolver | None = None) -> DiffusionFiller:
    """Return a filler as `recapture transfer` samples: default settings, at full initial noise."""
    settings = FillConfig()
    return DiffusionFiller(
        base,
        SURFACE,
        steps=steps,
        guidance_scale=settings.guidance_scale,
        negative_prompt=settings.negative_prompt,
        scheduler=settings.scheduler,
        shift=settings.shift,
        noise_scale=1.0,
        compositing=Compositing(settings.compositing, settings.feathered),
        make_solver=make_solver,
    )


def round_trip(base: Base, video: Tensor) -> Tensor:
    """Return the video encoded and decoded by the base's VAE: the ceiling of whatever this base samples."""
    return decode_latents(base.vae, encode_video(base.vae, video)).clamp(-1, 1)
