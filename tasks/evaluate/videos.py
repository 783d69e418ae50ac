"""Find a video by name in a folder of results: a video file, or a folder of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

import fsspec
import numpy as np

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.natural_order import natural
from recapture.datasets.media.pictures import PictureError, iterate_pictures
from recapture.datasets.media.video import VIDEO_SUFFIXES, VideoError, iterate_frames


def find_video(folder: str, name: str) -> str:
    """Return the URI of `name` in a folder: its folder of pictures, else its video; raises ClipError."""
    fs, _ = fsspec.core.url_to_fs(folder)
    uri = f"{folder.rstrip('/')}/{name}"
    if fs.isdir(uri):
        return uri
    found = [uri + suffix for suffix in VIDEO_SUFFIXES if fs.isfile(uri + suffix)]
    if not found:
        raise ClipError(f"there is neither {name}.mp4 nor a folder {name} of pictures in {folder!r}; add it")
    if len(found) > 1:
        raise ClipError(f"{' and '.join(map(repr, found))} are both {name}; keep one")
    return found[0]


def find_gcd(folder: str, scene: str, ending: str) -> list[str]:
    """Return the URIs of a scene in a folder: by its name alone, or as GCD's scripts/test.py names them.

    ending: a pattern of what GCD appends: `_gt`, or `_pred_s0` and so on for each sample. Before the scene it
    writes a tag of the run. Raises: ClipError if there is no video, or there are videos of several runs.
    """
    fs, path = fsspec.core.url_to_fs(folder)
    pattern = re.compile(rf"(.+_){re.escape(scene)}{ending}")
    listed = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(path, detail=False)]
    stems = {_stem(name) for name in listed}
    found = sorted((stem for stem in stems if pattern.fullmatch(stem)), key=natural)
    if not found or scene in stems:
        return [find_video(folder, scene)]
    runs = {match[1] for stem in found if (match := pattern.fullmatch(stem))}
    if len(runs) > 1:
        raise ClipError(f"{folder!r} has {scene} of {len(runs)} runs: {', '.join(sorted(runs))}; keep one")
    return [find_video(folder, stem) for stem in found]


def _stem(name: str) -> str:
    suffix = next((one for one in VIDEO_SUFFIXES if name.lower().endswith(one)), "")
    return name.removesuffix(name[len(name) - len(suffix) :])


def frames_of(uri: str) -> Iterator[np.ndarray]:
    """Yield the frames uint8 RGB [H, W, 3] of a video file or of a folder of pictures; raises ClipError."""
    try:
        yield from (iterate_frames if uri.lower().endswith(VIDEO_SUFFIXES) else iterate_pictures)(uri)
    except (VideoError, PictureError, OSError) as error:
        raise ClipError(str(error)) from error
