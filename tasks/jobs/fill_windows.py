"""The windows of one clip's fill: read before their turn, and kept as parts once they are filled."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recapture.conf.fill import FillConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.behind import Behind
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.parts import Parts
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.compositing import kept_pixels
from recapture.models.fill.packed import FinishedView
from recapture.models.fill.propagate import propagate_static
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.fill.windows import Window, WindowJoin, window_weights, windows
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.tasks.clip.beside import beside, taken
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.clip.read_ahead import read_ahead
from recapture.tasks.clip.scene_reader import Scene, SceneReader
from recapture.tasks.clip.static_scene import StaticScene
from recapture.tasks.jobs.earlier_fills import EarlierFill, EarlierFills

SHARED = "shared.npz"


@dataclass(frozen=True)
class FilledWindow:
    """What a window was filled with."""

    videos: dict[str, Tensor]  # name in the artifact -> [T, 3, H, W] in [-1, 1]
    moments: list[int]  # frames of the clip that were packed beside it


@dataclass(frozen=True)
class KeptWindow:
    """A window that was filled before, in host memory."""

    frames: dict[str, np.ndarray]  # name in the artifact -> uint8 [T, H, W, 3]
    shared: dict[str, np.ndarray]  # its frames that fade into other windows, as they were [S, 3, H, W]
    moments: list[int]


@dataclass(frozen=True)
class ReadWindow:
    """What a window is filled from, in host memory."""

    span: Window
    scene: Scene
    earlier: list[EarlierFill]
    given: GivenWindow | None = None  # where that was made beside the turn of another call


@dataclass(frozen=True)
class GivenWindow:
    """What a window is filled from, on the device."""

    view: RenderedView  # with what other frames saw of its holes, unless fill.propagate is off
    source: SourceView
    edit: Tensor | None
    earlier: list[FinishedView]
    kept: Tensor  # [T, H, W] bool, known pixels that a composite keeps


class ClipWindows:
    """The windows of one clip. surface: how it was rendered."""

    def __init__(
        self,
        inputs: Mapping[str, Artifact],
        device: torch.device,
        config: FillConfig,
        surface: SurfaceSettings,
    ) -> None:
        self._device, self._surface = device, surface
        self._propagates = config.propagate and config.method != "classical"  # which does so by itself
        self._by = config.propagate_by
        self._scene, self.earlier = SceneReader(inputs, device), EarlierFills(inputs, device)
        clouds = config.propagate and config.propagate_by == "cloud"
        self._static = StaticScene(self._scene, surface) if clouds else None
        self.frames, self._overlap = self._scene.frames, config.overlap
        self.spans = windows(self.frames, config.window, config.overlap)
        self._weights = window_weights(self.spans, config.overlap)

    def __len__(self) -> int:
        return len(self.spans)

    def read(self, number: int) -> ReadWindow:
        """Read what a window is filled from; where there is room, what is given is made as well."""
        span = self.spans[number]
        scene = self._scene.load(np.array(span.indices()))
        read = ReadWindow(span, scene, self.earlier.load(span))
        pixels = scene.render["visible"].numel()
        return replace(read, given=beside(lambda: self._given(read), self._device, pixels))

    def ahead(self, parts: Parts | None) -> Generator[ReadWindow | KeptWindow, None, None]:
        """Yield the windows in order, the next one read meanwhile; those that are kept as parts as such."""

        def one(number: int) -> ReadWindow | KeptWindow:
            return self.kept(number, parts) or self.read(number)

        return read_ahead(one, range(len(self)))

    def given(self, read: ReadWindow) -> GivenWindow:
        """Return on the device what a window is filled from."""
        return self._given(read) if read.given is None else taken(read.given)

    def _given(self, read: ReadWindow) -> GivenWindow:
        rendered, source = self._scene.view(read.scene), self._scene.source(read.scene)
        view = rendered
        if self._static is not None:
            source = self._static.beside(source)
        if self._propagates:
            view = propagate_static(rendered, source, surface=self._surface, by=self._by)
        edit, earlier = self._scene.edit(read.scene), self.earlier.views(read.earlier)
        return GivenWindow(view, source, edit, earlier, kept_pixels(rendered, view, source))

    def join(self) -> Joined:
        """Return what joins the filled windows."""
        return Joined(self.spans, self._overlap)

    def keep(self, number: int, filled: FilledWindow) -> KeptWindow:
        """Return a filled window so that `restored` gives what joins to the same bytes.

        A frame that one window alone gives to the clip is exact as uint8; those that windows share are not.
        """
        shared = self._shared(number)
        return KeptWindow(
            {name: to_frames(video) for name, video in filled.videos.items()},
            {name: video[shared].cpu().numpy() for name, video in filled.videos.items()},
            filled.moments,
        )

    def restored(self, number: int, kept: KeptWindow) -> FilledWindow:
        """Return a window as it was filled, as far as the clip shows it."""
        shared = self._shared(number)
        videos = {}
        for name, frames in kept.frames.items():
            videos[name] = to_video(frames, self._device)
            videos[name][shared] = torch.from_numpy(kept.shared[name]).to(self._device)
        return FilledWindow(videos, kept.moments)

    def _shared(self, number: int) -> Tensor:
        """Return the frames of a window that fade into another one."""
        weights = self._weights[number]
        return torch.nonzero((weights > 0) & (weights < 1)).flatten()

    def kept(self, number: int, parts: Parts | None) -> KeptWindow | None:
        """Return a window that is kept as a part, if it is; a damaged one is deleted."""
        if parts is None or (part := parts.finished(part_name(number))) is None:
            return None
        try:
            reader, shared = part.frames(), part.read_npz(SHARED)
            return KeptWindow(reader.read(0, reader.frames), shared, part.meta["moments"])
        except ArtifactError:
            parts.discard(part_name(number))
            return None


class Joined:
    """The windows' videos, joined frame by frame."""

    def __init__(self, spans: Sequence[Window], overlap: int) -> None:
        self._spans, self._overlap = spans, overlap
        self._joins: dict[str, WindowJoin] = {}

    def add(self, filled: FilledWindow) -> dict[str, np.ndarray]:
        """Take the next window and return the frames that are final now, uint8 [T,H,W,3] by name."""
        return {name: to_frames(self._join(name).add(video)) for name, video in filled.videos.items()}

    def _join(self, name: str) -> WindowJoin:
        return self._joins.setdefault(name, WindowJoin(self._spans, self._overlap))


def window_count(frames: int, config: FillConfig) -> int:
    """Return in how many windows a clip is filled."""
    return len(windows(frames, config.window, config.overlap))


def part_name(number: int) -> str:
    """Return the name of a window as a part of its clip's fill."""
    return f"window-{number}"


def write_kept(kept: KeptWindow, output: ArtifactWriter) -> None:
    """Write a filled window into the artifact of a part."""
    with output.frames() as writer:
        writer.append(**kept.frames)
    output.write_npz(SHARED, **kept.shared)
    output.meta["moments"] = kept.moments


class KeepsParts:
    """Writes filled windows as parts, beside the next window; without parts it does nothing."""

    def __init__(self, windows: ClipWindows, parts: Parts | None) -> None:
        self._windows, self._parts, self._behind = windows, parts, Behind()

    def __enter__(self) -> KeepsParts:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._behind.finish()
        else:
            self._behind.give_up()

    def keep(self, number: int, filled: FilledWindow) -> None:
        """Have a window written; the last one of a clip is not worth it."""
        if (parts := self._parts) is None or number + 1 == len(self._windows):
            return
        kept = self._windows.keep(number, filled)

        def write() -> None:
            with parts.create(part_name(number)) as output:
                write_kept(kept, output)

        self._behind.do(write)
