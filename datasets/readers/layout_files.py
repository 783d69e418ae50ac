"""Names of files, and maps, as the published layouts store them, on any fsspec URL."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import fsspec
import numpy as np

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.npz_rows import read_npy
from recapture.datasets.media.pictures import read_map
from recapture.datasets.readers.views import Maps


def name_of(path: str) -> str:
    """Return the last part of a path or URI."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def parent_of(uri: str) -> str:
    """Return everything but the last part of a path or URI."""
    return uri.rstrip("/").rsplit("/", 1)[0]


def stem_of(name: str) -> str:
    """Return a file's name without its suffix."""
    return name_of(name).rsplit(".", 1)[0]


def joined(*parts: str) -> str:
    """Join the non-empty parts of a path with slashes."""
    return "/".join(part for part in parts if part)


def maps_of(files: tuple[str, ...], read: Callable[[int, str, int], np.ndarray]) -> Maps | None:
    """Return the maps of these files, or None if there are no files."""
    return Maps(files, read) if files else None


def read_flat(uri: str, limit: int) -> np.ndarray:
    """Read a map [H, W] of numbers from a picture or an npy file (no pickle); equal channels become one.

    limit: the most pixels that are read. Raises: ClipError or PictureError.
    """
    array = _npy(uri, limit) if uri.endswith(".npy") else read_map(uri, limit)
    if array.ndim == 3 and (array.shape[2] == 1 or (array[..., :1] == array[..., :3]).all()):
        array = array[..., 0]
    if array.ndim != 2:
        raise ClipError(f"map {uri!r} is {list(array.shape)}, it must have one channel; write it as [H, W]")
    return array


def read_mask(_: int, uri: str, limit: int) -> np.ndarray:
    """Read a map as bool [H, W], True where it is not 0."""
    return read_flat(uri, limit) != 0


def read_ids(_: int, uri: str, limit: int) -> np.ndarray:
    """Read object ids [H, W]; a palette image gives its indices."""
    return read_flat(uri, limit)


def _npy(uri: str, limit: int) -> np.ndarray:
    with fsspec.open(uri, "rb") as stream:
        content = BytesIO(stream.read())
    try:
        return read_npy(content, 4 * limit)  # up to four channels
    except (ValueError, EOFError) as error:
        raise ClipError(f"map {uri!r} cannot be read ({error}); replace it") from error
