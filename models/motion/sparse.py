"""Sparse motion sampling: which moments of a reference a training step sees, and their temporal positions.

Source: Follow-Your-Motion (arXiv 2506.05207) trains on every s-th frame under stretched rotary positions
('frames' with 'paper'). The other kinds are this project's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from recapture.models.tuning.step import Drawn

Kind = Literal["full", "frames", "latents", "mixed"]
Positions = Literal["native", "paper", "aligned"]
SAMPLES = 4  # per period of the fastest motion, at least
POWER = 0.9  # share of a path's power that lies below its fastest frequency


@dataclass(frozen=True)
class Sparse:
    """What a step sees of a window.

    full: everything. frames: every s-th frame, encoded anew, at `positions`. latents: every s-th latent frame
    of the whole encoding, at its own position. mixed: a new subset of the latent frames each step, half of
    the steps strided from a random offset, half a contiguous run; the first latent frame is always in it,
    since it is what the base is shown. window, kept: frames of the whole window and of what is kept, 4n+1.
    positions: of 'frames' alone.
    """

    kind: Kind
    window: int
    kept: int
    positions: Positions

    def __post_init__(self) -> None:
        sparse_frames(self.window, self.kept)

    def frames(self) -> list[int]:
        """Return which frames of the window are encoded."""
        kept = self.kept if self.kind == "frames" else self.window
        return sparse_frames(self.window, kept)

    def narrowed(self, drawn: Drawn, random: torch.Generator) -> Drawn:
        """Return the part of a step's draw that is trained on, with its temporal positions."""
        if self.kind == "full" or self.kept == self.window:
            return drawn
        if self.kind == "frames":
            return replace(drawn, positions=temporal_positions(self.window, self.kept, self.positions))
        length, kept = drawn.batch.clean.shape[2], (self.kept - 1) // 4 + 1
        if self.kind == "mixed":
            return of_latents(drawn, draw_latents(length, kept, random))
        return of_latents(drawn, strided(length, kept))


def sparse_frames(frames: int, kept: int) -> list[int]:
    """Return which of `frames` frames 'frames' keeps: evenly spread, with the first and the last.

    Raises ValueError unless both are 4n+1, and 5 <= kept <= frames.
    """
    if frames % 4 != 1 or kept % 4 != 1 or not 5 <= kept <= frames:
        raise ValueError(f"sparse: {kept} of {frames} frames; both must be 4n+1, and 5 <= kept <= frames")
    return strided(frames, kept)


def temporal_positions(frames: int, kept: int, positions: Positions) -> tuple[float, ...]:
    """Return the temporal position of each latent frame of `kept` frames out of `frames`.

    native: 0, 1, ...; paper: i F / F_s over latent frames, so that the last one is not at the end; aligned: i
    (F - 1) / (F_s - 1), where the base will find the same moment when it samples the whole window.
    """
    sparse_frames(frames, kept)
    whole, few = (frames - 1) // 4 + 1, (kept - 1) // 4 + 1
    step = {"native": 1.0, "paper": whole / few, "aligned": (whole - 1) / (few - 1)}[positions]
    return tuple(i * step for i in range(few))


def strided(count: int, kept: int) -> list[int]:
    """Return `kept` of 0 ... count - 1, evenly spread, with the first and the last."""
    return [round(i * (count - 1) / (kept - 1)) for i in range(kept)]


def draw_latents(length: int, kept: int, random: torch.Generator) -> list[int]:
    """Draw `kept` of `length` latent frames: the first, and others strided or contiguous, half and half."""
    stride = (length - 1) // (kept - 1)
    if stride < 2 or float(torch.rand(1, generator=random, device=random.device)) < 0.5:
        stride = 1
    last = length - 1 - (kept - 2) * stride  # largest first index
    first = 1 + int(torch.randint(0, last, (1,), generator=random, device=random.device))
    return [0, *(first + i * stride for i in range(kept - 1))]


def of_latents(drawn: Drawn, chosen: list[int]) -> Drawn:
    """Return a draw restricted to these latent frames, each at its own temporal position."""
    batch = drawn.batch
    at = torch.tensor(chosen, device=batch.clean.device)
    few = replace(batch, clean=batch.clean[:, :, at], channels=batch.channels[:, :, at])
    return replace(drawn, batch=few, noise=drawn.noise[:, :, at], positions=tuple(map(float, chosen)))


def fastest_period(paths: Tensor) -> float:
    """Return the period, in frames, of the fastest motion on paths [N, T, 2] in pixels; inf if nothing turns.

    Each path without its linear trend; the frequency below which POWER of the power of all paths lies.
    """
    count = paths.shape[1]
    at = torch.linspace(-1, 1, count, dtype=torch.float64)
    moved = paths.double() - paths.double().mean(1, keepdim=True)
    slope = (moved * at[None, :, None]).sum(1, keepdim=True) / at.square().sum()
    power = torch.fft.rfft(moved - slope * at[None, :, None], dim=1).abs().square().sum((0, 2))[1:]
    if power.sum() <= 0.25 * count**2 * len(paths):  # less than about a pixel of anything but a straight line
        return float("inf")
    first = int((power.cumsum(0) >= POWER * power.sum()).nonzero()[0]) + 1
    return count / first


def kept_frames(paths: Tensor, fewest: int) -> int:
    """Return how many frames of a reference to keep: at least SAMPLES latent frames per fastest period.

    paths: [N, T, 2] in pixels, T = 4n+1. fewest: lower bound, 4n+1. The motion between the samples is not
    learned, so a fast reference keeps more frames, up to all.
    """
    frames = paths.shape[1]
    period = fastest_period(paths)
    return min(frames, max(fewest, 4 * math.ceil(SAMPLES * (frames - 1) / period) + 1))
