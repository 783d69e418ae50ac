"""What stands still in a clip, gathered over all its frames, for the windows in which it is worked on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock

import torch

from recapture.models.fill.propagate import static_clouds
from recapture.models.fill.view import SourceView
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.geometry.static_cloud import StaticCloud, key_frames
from recapture.tasks.clip.scene_reader import SceneReader


class StaticScene:
    """The static point clouds of one clip, made when they are asked for first; from any thread."""

    def __init__(self, reader: SceneReader, surface: SurfaceSettings) -> None:
        self._reader, self._surface = reader, surface
        self._lock = Lock()
        self._clouds: Mapping[int, StaticCloud] | None = None

    def beside(self, source: SourceView) -> SourceView:
        """Return a part of the clip with the clouds of the whole."""
        with self._lock:
            if self._clouds is None:
                self._clouds = self._made()
        return replace(source, clouds=self._clouds)

    def _made(self) -> Mapping[int, StaticCloud]:
        frames = key_frames(self._reader.groups)
        if not frames:
            return {}
        chosen = torch.cat(list(frames.values())).sort().values
        return static_clouds(self._reader.source_at(chosen), self._surface)
