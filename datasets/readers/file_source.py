"""Open a video file or a folder of frames with its sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recapture.datasets.cameras.files import read_cameras
from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.media.npz_rows import NpzRows
from recapture.datasets.media.pictures import PictureError, iterate_pictures
from recapture.datasets.media.video import VideoError, iterate_frames


class FileSource:
    """An opened clip of kind video or frames, with its sidecars."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._open: dict[str, NpzRows] = {}

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """See ClipSource; raises ClipError or VideoError if frames are missing or broken."""
        clip = self._clip
        decoded = iterate_frames if clip.kind == "video" else iterate_pictures
        try:
            yield from decoded(clip.uri, start, stop)
        except VideoError as error:
            raise VideoError(f"clip {clip.id!r}: {error}") from error
        except PictureError as error:
            raise ClipError(f"clip {clip.id!r}: {error}") from error

    def depth(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; depth may differ from the video in size, not in aspect."""
        return self._rows(self._clip.depth_uri, "depth", start, stop, np.float32)

    def known(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource."""
        return self._rows(self._clip.known_uri, "known", start, stop, np.bool_)

    def objects(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource."""
        return self._rows(self._clip.objects_uri, "objects", start, stop, np.int64)

    def _rows(
        self, uri: str | None, name: str, start: int, stop: int | None, dtype: type
    ) -> np.ndarray | None:
        if uri is None:
            return None
        try:
            if uri not in self._open:
                self._open[uri] = NpzRows(uri, name)
            return self._open[uri].read(start, self._clip.frames if stop is None else stop).astype(dtype)
        except ValueError as error:
            raise ClipError(f"clip {self._clip.id!r}: {name} {error}") from error

    def cameras(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See ClipSource."""
        if self._clip.cameras_uri is None:
            return None
        return clip_cameras(self._clip, self._clip.cameras_uri)

    def truth(
        self, intrinsics: Any, world_to_camera: Any, source_frame: Any, height: int, width: int
    ) -> dict[str, np.ndarray] | None:
        """Return None: a real clip has no ground truth for other cameras."""
        return None


def clip_cameras(clip: Clip, uri: str) -> tuple[np.ndarray, np.ndarray]:
    """Return intrinsics [T,3,3] and world_to_camera [T,4,4] of a clip's sidecar; raises ClipError."""
    world_to_camera, intrinsics = read_cameras(uri, size=(clip.width, clip.height))
    if intrinsics is None:
        raise ClipError(f"cameras {uri!r} have no intrinsics; add them as [T,3,3] or [3,3]")
    if len(world_to_camera) != clip.frames:
        raise ClipError(
            f"cameras {uri!r} are {len(world_to_camera)} for {clip.frames} frames; give one per frame"
        )
    return intrinsics.numpy(), world_to_camera.numpy()
