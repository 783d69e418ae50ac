"""List folders and read maps as the published layouts store them, on any fsspec URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import fsspec
import numpy as np

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.natural_order import natural
from recapture.datasets.media.pictures import FRAME_SUFFIXES, read_map
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


def listed(uri: str) -> list[str]:
    """Return the names in a folder in natural order; none if there is no such folder."""
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.isdir(path):
        return []
    names = (name_of(entry) for entry in fs.ls(path, detail=False))
    return sorted((name for name in names if not name.startswith(".")), key=natural)


def pictures_in(uri: str, prefix: str = "") -> tuple[str, ...]:
    """Return the pictures in a folder whose names start with a prefix, in natural order."""
    names = (name for name in listed(uri) if name.lower().endswith(FRAME_SUFFIXES))
    return tuple(f"{uri}/{name}" for name in names if name.startswith(prefix))


def folders_below(
    uri: str, wanted: Callable[[frozenset[str]], bool], *, nested: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield the folders at or below uri whose contents are wanted, as (path from uri, URI).

    nested: also search below a wanted folder.
    """
    fs, _ = fsspec.core.url_to_fs(uri)
    waiting = [""]
    while waiting:
        inside = waiting.pop(0)
        here = joined(uri, inside)
        names = listed(here)
        if wanted(frozenset(names)):
            yield inside, here
            if not nested:
                continue
        folders = [name for name in names if fs.isdir(fsspec.core.url_to_fs(f"{here}/{name}")[1])]
        waiting += [joined(inside, name) for name in folders]


def maps_of(files: tuple[str, ...], read: Callable[[int, str], np.ndarray]) -> Maps | None:
    """Return the maps of these files, or None if there are no files."""
    return Maps(files, read) if files else None


def read_flat(uri: str) -> np.ndarray:
    """Read a map [H, W] of numbers from a picture or an npy file (no pickle); equal channels become one."""
    array = _npy(uri) if uri.endswith(".npy") else read_map(uri)
    if array.ndim == 3 and (array.shape[2] == 1 or (array[..., :1] == array[..., :3]).all()):
        array = array[..., 0]
    if array.ndim != 2:
        raise ClipError(f"map {uri!r} is {list(array.shape)}, it must have one channel; write it as [H, W]")
    return array


def read_mask(_: int, uri: str) -> np.ndarray:
    """Read a map as bool [H, W], True where it is not 0."""
    return read_flat(uri) != 0


def read_ids(_: int, uri: str) -> np.ndarray:
    """Read object ids [H, W]; a palette image gives its indices."""
    return read_flat(uri)


def _npy(uri: str) -> np.ndarray:
    with fsspec.open(uri, "rb") as stream:
        content = BytesIO(stream.read())
    try:
        return np.load(content, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ClipError(f"map {uri!r} cannot be read ({error}); replace it") from error
