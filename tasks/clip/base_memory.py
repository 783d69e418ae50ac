"""The base in the memory that there is: loading it into its place, and what a job will take of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig, RecaptureConfig
from recapture.datasets.clips.clip import Clip
from recapture.models.wan.chunked_vae import CHUNK
from recapture.models.wan.footprint import ClipSize, Footprint, footprint
from recapture.models.wan.load import Base
from recapture.models.wan.memory import (
    Choice,
    DoesNotFit,
    Mode,
    choose,
    free_on_host,
    load_placed,
    modes,
)
from recapture.models.wan.tensor_files import CheckpointError
from recapture.tasks.clip.base_files import base_sources
from recapture.tasks.clip.working_size import working_size
from recapture.tasks.engine.model_revision import once

SIDE = 480  # pixels of the short side where neither settings nor clips tell: what the Wan family is made for
WIDE, HIGH = 16, 9


@dataclass(frozen=True)
class Forecast:
    """What the base of a job takes, for one GPU."""

    size: ClipSize
    modes: dict[Mode, Choice]  # the smallest estimate of each
    chosen: Choice | None  # None: none fits, as the error says
    error: str = ""


def load_base_placed(
    config: FillConfig, device: torch.device, *, size: ClipSize | None = None, resident: bool = False
) -> Base:
    """Return the base that the settings name, where `fill.memory` puts it.

    size: the largest of the clips, by default of 480 lines; resident: on the device whatever fill.memory
    says, as training needs it. Raises UserError for a base that does not fit, with the numbers.
    """
    try:
        return load_placed(
            base_sources(config),
            size or usual_size(config, None),
            wanted="gpu" if resident else config.memory,
            dtype=getattr(torch, config.precision),
            vae_dtype=getattr(torch, config.vae_precision),
            device=device,
            chunk=vae_chunk(config),
        )
    except DoesNotFit as error:
        raise UserError(str(error)) from None
    except CheckpointError as error:
        raise CheckpointError(f"fill.{error}") from None


def vae_chunk(config: FillConfig) -> int:
    """Return how many latent frames the VAE takes at once."""
    return CHUNK if config.speed.chunked_vae else 1


def usual_size(config: FillConfig, short_side: int | None) -> ClipSize:
    """Return the size of a window of a wide clip, where no clip is known yet."""
    side = short_side or SIDE
    whole = working_size(side, round(side * WIDE / HIGH), None)
    return ClipSize(config.window, whole.height, whole.width)


def largest_size(config: RecaptureConfig, clips: Sequence[Clip]) -> ClipSize:
    """Return the size of the largest window among clips; without clips, the usual size."""
    short_side, window = config.ingest.short_side, config.fill.window
    sizes = [(clip.frames, working_size(clip.height, clip.width, short_side)) for clip in clips]
    found = [
        ClipSize(min(window, frames + -(frames - 1) % 4), size.height, size.width) for frames, size in sizes
    ]
    return max(found, key=lambda size: size.volume, default=usual_size(config.fill, short_side))


def base_footprint(config: FillConfig) -> Footprint:
    """Return the footprint of the base, from headers. Raises UserError for files that cannot be read."""
    sources = base_sources(config)
    dtype, vae_dtype = getattr(torch, config.precision), getattr(torch, config.vae_precision)
    try:
        return once(("footprint", sources, dtype, vae_dtype), lambda: footprint(sources, dtype, vae_dtype))
    except CheckpointError as error:
        raise UserError(f"fill.{error}") from None


def forecast_memory(config: FillConfig, size: ClipSize, free: int) -> Forecast:
    """Return what the base takes of a GPU with so many bytes free, and what `fill.memory` chooses there."""
    found, host = base_footprint(config), free_on_host()
    chunk = vae_chunk(config)
    every = modes(found, size, host, chunk)
    try:
        chosen = choose(found, size, free=free, host=host, wanted=config.memory, chunk=chunk)
    except DoesNotFit as error:
        return Forecast(size, every, None, str(error))
    return Forecast(size, every, chosen)
