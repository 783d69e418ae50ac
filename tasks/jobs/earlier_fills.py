"""A clip's earlier fills, read for one window of a later fill that is to agree with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.packed import FinishedView, finished_view, same_moments
from recapture.models.fill.windows import Window
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.read_ahead import on_host
from recapture.tasks.clip.scene_reader import path_of, placed_view, read_frames

FILL, RENDER = "fill", "render"


@dataclass(frozen=True)
class EarlierFill:
    """The arrays of an earlier fill at some frames, in host memory."""

    number: int
    frames: Tensor  # [t] of its own path
    times: Tensor  # [t] of these moments in the window
    fill: dict[str, Tensor]
    render: dict[str, Tensor]


class EarlierFills:
    """The earlier fills among the inputs, fill/0, render/0, fill/1, ..., at the moments of a window."""

    def __init__(self, inputs: Mapping[str, Artifact], device: torch.device) -> None:
        self._device = device
        count = sum(name.startswith(f"{FILL}/") for name in inputs)
        self._fills = [(inputs[f"{FILL}/{n}"], inputs[f"{RENDER}/{n}"]) for n in range(count)]
        self._paths = [path_of(render) for _, render in self._fills]
        shown = path_of(inputs[RENDER])["source_frame"]
        self._times = [same_moments(path["source_frame"], shown) for path in self._paths]

    def __len__(self) -> int:
        return len(self._fills)

    def load(self, span: Window) -> list[EarlierFill]:
        """Read the earlier fills, in their order, at the frames of the window's moments into host memory."""
        found = (self._load(number, span) for number in range(len(self._fills)))
        return [one for one in found if one is not None]

    def _load(self, number: int, span: Window) -> EarlierFill | None:
        times = self._times[number]
        frames = torch.nonzero((times >= span.start) & (times < span.stop)).flatten()
        if not len(frames):
            return None
        fill, render = self._fills[number]
        filled, shown = read_filled(fill, render, frames.numpy()), read_frames(render, frames.numpy())
        moments = times[frames] - span.start
        return EarlierFill(number, frames, moments, *(on_host(one, self._device) for one in (filled, shown)))

    def views(self, loaded: Sequence[EarlierFill]) -> list[FinishedView]:
        """Return what was loaded on the device."""
        return [
            finished_view(
                placed_view(one.render, self._paths[one.number], one.frames, self._device),
                to_video(one.fill["rgb"], self._device),
                one.times,
                to_video(one.fill["unpasted"], self._device) if "unpasted" in one.fill else None,
            )
            for one in loaded
        ]
