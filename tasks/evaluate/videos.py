"""Find a video by name in a folder of results: a video file, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import numpy as np

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.pictures import PictureError, iterate_pictures
from recapture.datasets.media.video import VIDEO_SUFFIXES, VideoError, iterate_frames


def find_video(folder: str, name: str) -> str:
    """Return the URI of `name` in a folder; raises ClipError if there is none, or more than one."""
    fs, _ = fsspec.core.url_to_fs(folder)
    uri = f"{folder.rstrip('/')}/{name}"
    found = [uri + suffix for suffix in VIDEO_SUFFIXES if fs.isfile(uri + suffix)]
    found += [uri] if fs.isdir(uri) else []
    if not found:
        raise ClipError(f"there is neither {name}.mp4 nor a folder {name} of pictures in {folder!r}; add it")
    if len(found) > 1:
        raise ClipError(f"{' and '.join(map(repr, found))} are both {name}; keep one")
    return found[0]


def frames_of(uri: str) -> Iterator[np.ndarray]:
    """Yield the frames uint8 RGB [H, W, 3] of a video file or of a folder of pictures; raises ClipError."""
    try:
        yield from (iterate_frames if uri.lower().endswith(VIDEO_SUFFIXES) else iterate_pictures)(uri)
    except (VideoError, PictureError, OSError) as error:
        raise ClipError(str(error)) from error
