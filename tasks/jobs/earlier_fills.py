"""A clip's earlier fills, read for one window of a later fill that is to agree with them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.packed import FinishedView, finished_view, same_moments
from recapture.models.fill.windows import Window
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.scene_reader import path_of, read_frames, read_view

FILL, RENDER = "fill", "render"


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

    def read(self, span: Window) -> list[FinishedView]:
        """Return the earlier fills, in their order, cut to the frames of the window's moments."""
        found = (self._read(number, span) for number in range(len(self._fills)))
        return [view for view in found if view is not None]

    def _read(self, number: int, span: Window) -> FinishedView | None:
        times = self._times[number]
        frames = torch.nonzero((times >= span.start) & (times < span.stop)).flatten()
        if not len(frames):
            return None
        fill, render = self._fills[number]
        picked = frames.numpy()
        filled = read_frames(fill, picked)
        return finished_view(
            read_view(render, self._paths[number], picked, self._device),
            to_video(filled["rgb"], self._device),
            times[frames] - span.start,
            to_video(filled["unpasted"], self._device) if "unpasted" in filled else None,
        )
