"""Edit masks: which pixels of a clip are redrawn (True), read from files named by the clip's id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import fsspec
import numpy as np

from recapture.datasets.clips.box_track import box_pixels, boxes_at, read_box_track
from recapture.datasets.clips.clip import MAX_SCALE, Clip, ClipError, check_pixels
from recapture.datasets.media.npz_rows import NpzRows, array_shape
from recapture.datasets.media.pictures import FRAME_SUFFIXES, list_pictures, read_picture
from recapture.datasets.media.video import VIDEO_SUFFIXES, iterate_frames, probe
from recapture.datasets.store.keys import file_hash

NPZ, BOXES = ".npz", (".json", ".csv")
MASK_SUFFIXES = (NPZ, *BOXES, *FRAME_SUFFIXES, *VIDEO_SUFFIXES)
ASPECT_TOLERANCE = 0.02
_ROWS = 16


def find_by_id(
    uri: str, clip: Clip, suffixes: Sequence[str], what: str, *, picture_folders: bool = False
) -> str:
    """Return the one file below the folder uri that is named by the clip's id; uri itself if it is a file.

    picture_folders: also accept a folder of pictures named by the id. what: the setting, for messages.
    Raises: ClipError if there is none, or more than one.
    """
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isfile(path):
        return uri
    if not fs.exists(path):
        raise ClipError(f"clip {clip.id!r}: {what} {uri!r} does not exist; correct the setting")
    stem, below = f"{uri.rstrip('/')}/{clip.id}", f"{path.rstrip('/')}/{clip.id}"
    found = [stem + suffix for suffix in suffixes if fs.isfile(below + suffix)]
    if picture_folders and fs.isdir(below) and list_pictures(stem):
        found.append(stem)
    if len(found) == 1:
        return found[0]
    kinds = "a folder of pictures, or one of " if picture_folders else ""
    if not found:
        raise ClipError(
            f"clip {clip.id!r}: {what} {uri!r} has nothing called {clip.id!r} "
            f"({kinds}{', '.join(suffixes)}); add it, or leave the clip out"
        )
    raise ClipError(f"clip {clip.id!r}: {what} has {' and '.join(map(repr, found))}; keep one of them")


def find_mask(uri: str, clip: Clip) -> str:
    """Return the mask of a clip below uri; see find_by_id."""
    return find_by_id(uri, clip, MASK_SUFFIXES, "mask.uri", picture_folders=True)


def find_first_frame(uri: str, clip: Clip) -> str:
    """Return the edited first frame of a clip below uri; see find_by_id."""
    return find_by_id(uri, clip, FRAME_SUFFIXES, "mask.first_frame")


def mask_hash(uri: str) -> str:
    """Return the sha256 over a mask's bytes, whether it is one file or a folder of pictures."""
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.isfile(path):
        return file_hash(uri)
    hashes = [file_hash(picture) for picture in list_pictures(uri)]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def read_edit_mask(
    uri: str, clip: Clip, frames: range, height: int, width: int, *, threshold: float, invert: bool
) -> Iterator[np.ndarray]:
    """Yield, for consecutive frames of the clip, which pixels are redrawn: [height,width] bool.

    A pixel is redrawn if any part of it is masked. A single picture applies to all frames.
    threshold: 0 to 1, for pictures and videos (mean of R, G, B). invert: the masked pixels are kept instead.
    Raises: ClipError, naming the clip, if length or aspect differ from the clip's or the file is not a mask.
    """
    if uri.lower().endswith(BOXES):
        track = read_box_track(uri, clip)
        for box in boxes_at(track, np.array(frames)):
            yield box_pixels(box, clip, height, width) ^ invert
    else:
        for stored in _stored(uri, clip, frames, threshold):
            yield shrink(stored ^ invert, height, width)


def shrink(edit: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask [H,W] bool: a pixel becomes True if any part of it was."""
    if edit.shape == (height, width):
        return edit
    smaller = edit.shape[0] > height or edit.shape[1] > width
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(edit.astype(np.float32), (width, height), interpolation=how) > 0)


def check_aspect(clip: Clip, array: np.ndarray, what: str) -> None:
    """Raise ClipError if a picture or mask [H,W,...] made for a clip has a different aspect."""
    height, width = array.shape[:2]
    if abs(width / height / (clip.width / clip.height) - 1) > ASPECT_TOLERANCE:
        raise ClipError(
            f"clip {clip.id!r}: {what} is {width}x{height}, a different aspect from the clip's "
            f"{clip.width}x{clip.height}; make it at the clip's size"
        )


def _stored(uri: str, clip: Clip, frames: range, threshold: float) -> Iterator[np.ndarray]:
    try:
        count, shown = _opened(uri, clip, frames, threshold)
    except ValueError as error:
        raise ClipError(f"clip {clip.id!r}: mask {error}") from error
    if count not in (None, clip.frames):
        raise ClipError(
            f"clip {clip.id!r}: mask {uri!r} has {count} frames, the clip has {clip.frames}; "
            "give one mask per frame"
        )
    for one in _naming(clip, shown):
        check_aspect(clip, one, f"mask {uri!r}")
        yield one


def _naming(clip: Clip, shown: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    try:
        yield from shown
    except ValueError as error:
        raise ClipError(f"clip {clip.id!r}: mask {error}") from error


def _opened(uri: str, clip: Clip, frames: range, threshold: float) -> tuple[int | None, Iterator[Any]]:
    """Return a mask's number of frames (None: one for all), and the requested ones, [H,W] bool each."""
    lower, limit = uri.lower(), MAX_SCALE * clip.width * clip.height
    if lower.endswith(NPZ):
        shape = array_shape(uri, "mask")
        if len(shape) != 3:
            raise ClipError(f"{uri!r} has shape {list(shape)}; it must be [T, H, W]")
        check_pixels(repr(uri), shape[2], shape[1], clip.width, clip.height)
        return shape[0], _rows(uri, frames)
    if lower.endswith(VIDEO_SUFFIXES):
        video = iterate_frames(uri, frames.start, frames.stop)
        found = probe(uri)
        check_pixels(repr(uri), found.width, found.height, clip.width, clip.height)
        return found.frames, (_white(frame, threshold) for frame in video)
    if lower.endswith(FRAME_SUFFIXES):
        picture = _white(read_picture(uri, limit), threshold)
        return None, (picture for _ in frames)
    pictures = list_pictures(uri)
    wanted = pictures[frames.start : frames.stop]
    return len(pictures), (_white(read_picture(one, limit), threshold) for one in wanted)


def _rows(uri: str, frames: range) -> Iterator[np.ndarray]:
    rows = NpzRows(uri, "mask")
    for start in range(frames.start, frames.stop, _ROWS):
        yield from rows.read(start, min(start + _ROWS, frames.stop)) != 0


def _white(picture: np.ndarray, threshold: float) -> np.ndarray:
    return np.asarray(picture.mean(axis=2) > 255 * threshold)
