"""DAVIS 2017 (arXiv 1704.00675): JPEGImages/480p/SEQUENCE, Annotations/480p/SEQUENCE; no cameras, no depth.

The dataset is given by its root, or by a list in ImageSets such as ImageSets/2017/val.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import fsspec

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import (
    maps_of,
    name_of,
    parent_of,
    read_ids,
)
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_RATE = Fraction(24)
_PREFERRED = "480p"  # every sequence is annotated at this size


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    wanted: list[str] | None = None
    root = uri
    if uri.endswith(".txt"):
        with fsspec.open(uri, "rb") as stream:
            wanted = stream.read().decode(errors="replace").split()
        root = parent_of(parent_of(parent_of(uri)))
    sizes = tree.listed(f"{root}/JPEGImages")
    if not sizes:
        raise ClipError(f"{root!r} has no JPEGImages; give the root of DAVIS or a list in its ImageSets")
    folder = f"{root}/JPEGImages/{_PREFERRED if _PREFERRED in sizes else sizes[0]}"
    for name in tree.listed(folder) if wanted is None else wanted:
        yield name, f"{folder}/{name}"


def _load(uri: str, asked: Asked) -> View:
    pictures = asked.pictures_in(uri)
    size = parent_of(uri)
    annotations = asked.pictures_in(
        f"{parent_of(parent_of(size))}/Annotations/{name_of(size)}/{name_of(uri)}"
    )
    # Test sequences have an annotation for the first frame only, which does not mask a video.
    complete = len(annotations) == len(pictures)
    return View(pictures=pictures, fps=_RATE, objects=maps_of(annotations if complete else (), read_ids))


DAVIS = Layout("davis", lambda names: "JPEGImages" in names, _find, _load)
