"""Folders of nerfstudio and DL3DV-10K: transforms.json with pictures, optionally depth and masks per frame.

Depth is z-depth in thousandths of the world's unit; a mask is 0 where a pixel must not be used. If there are
only scaled pictures (images_2, images_4, images_8), these are used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from recapture.datasets.cameras.cameras import read_bytes
from recapture.datasets.cameras.nerfstudio import FILE, read_nerfstudio, sorted_frames
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.pictures import FRAME_SUFFIXES, frame_rate
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import (
    joined,
    maps_of,
    name_of,
    parent_of,
    read_flat,
    read_mask,
)
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_DEPTH_UNIT = 0.001
_SCALED = ("", "_2", "_4", "_8")


def _is_project(names: frozenset[str]) -> bool:
    return FILE in names


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    if uri.endswith(".json"):
        yield name_of(parent_of(uri)), uri
        return
    for inside, project in tree.below(_is_project):
        yield inside or name_of(uri), f"{project}/{FILE}"


def _load(uri: str, asked: Asked) -> View:
    asked.files([uri])
    cameras, project = read_nerfstudio(uri), parent_of(uri)
    frames = sorted_frames(json.loads(read_bytes(uri)))
    pictures = tuple(_picture(project, frame["file_path"], asked) for frame in frames)

    def beside(key: str) -> tuple[str, ...]:
        named = [frame[key] for frame in frames if frame.get(key)]
        if named and len(named) != len(frames):
            raise ClipError(f"{len(named)} of {len(frames)} frames have {key}; give it for all or none")
        return tuple(joined(project, name.removeprefix("./")) for name in named)

    def depth(_: int, file: str, limit: int) -> np.ndarray:
        return read_flat(file, limit).astype(np.float64) * _DEPTH_UNIT

    return View(
        pictures=pictures,
        fps=frame_rate(parent_of(pictures[0])),
        cameras=cameras,
        depth=maps_of(beside("depth_file_path"), depth),
        known=maps_of(beside("mask_path"), read_mask),
        described_by=(uri,),
    )


def _picture(project: str, path: str, asked: Asked) -> str:
    """Return a frame's picture; its name may lack the suffix, its folder may be a scaled one."""
    folder, _, name = path.removeprefix("./").rpartition("/")
    asked.entries(project, folder)
    for scaled in _SCALED if folder else ("",):
        for suffix in ("", *FRAME_SUFFIXES):
            found = joined(project, folder + scaled, name + suffix)
            if asked.has(found):
                return found
    raise ClipError(f"picture {path!r} is missing next to transforms.json; add it")


NERFSTUDIO = Layout("nerfstudio", _is_project, _find, _load)
