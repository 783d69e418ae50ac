"""The fill of one clip by itself: what a job's GPU would take per clip if nothing else cost anything."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch

from recapture.conf.load import load_config
from recapture.models.fill.diffusion import DiffusionFiller
from recapture.models.fill.view import RenderedView
from recapture.tasks.clip.base_memory import usual_size
from recapture.tasks.jobs.fill import open_filler
from recapture.tasks.jobs.render import surface_settings


def bare_fill(profile: str, settings: Sequence[str], frames: int, height: int, width: int) -> float:
    """Return the seconds in which a view of random pixels is conditioned on, sampled and decoded.

    In the job's own settings, after a first view, which compiles.
    """
    config = load_config(profile, arguments=settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    surface = surface_settings(config.render)
    size = usual_size(config.fill, config.ingest.short_side)
    filler = open_filler(config.fill, surface, device, config.seed, size=size)
    assert isinstance(filler, DiffusionFiller)
    seconds = 0.0
    for seed in range(2):
        view = _random_view(frames, height, width, device)
        _wait(device)
        started = time.perf_counter()
        filler.fill_both(view, caption="a room", seed=seed)
        _wait(device)
        seconds = time.perf_counter() - started
    return seconds


def _random_view(frames: int, height: int, width: int, device: torch.device) -> RenderedView:
    """Return a view of noise, of which the right fifth is a hole."""
    video = torch.rand(frames, 3, height, width, device=device) * 2 - 1
    visible = torch.ones(frames, height, width, dtype=torch.bool, device=device)
    visible[..., width * 4 // 5 :] = False
    depth = torch.where(visible, 1.0, torch.inf)
    eye = torch.eye(4, device=device).expand(frames, 4, 4)
    return RenderedView(video * visible[:, None], visible, depth, torch.ones_like(depth), eye[:, :3, :3], eye)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(words: Sequence[str]) -> None:
    profile, frames, height, width, *settings = words
    print("bare", bare_fill(profile, settings, int(frames), int(height), int(width)))


if __name__ == "__main__":
    main(sys.argv[1:])
