"""COLMAP projects: PROJECT/images with PROJECT/sparse/0. The registered pictures, by name, are the video."""

from __future__ import annotations

from collections.abc import Iterator

from recapture.datasets.cameras.colmap import FOLDERS, model_files, read_colmap
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.pictures import frame_rate
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import joined, name_of
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_MODEL_NAMES = {"sparse", "colmap", "cameras.bin", "cameras.txt"}


def _is_project(names: frozenset[str]) -> bool:
    return bool(names & _MODEL_NAMES)


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, project in tree.below(_is_project):
        yield inside or name_of(uri), project


def _load(uri: str, asked: Asked) -> View:
    cameras, model = read_colmap(uri), model_files(uri)
    assert model is not None and cameras.names is not None
    images = f"{uri}/images"
    for folder in FOLDERS:  # a better model may be added
        for name in ("cameras.", "images."):
            asked.entries(joined(uri, folder), name)
    pictures = tuple(f"{images}/{name}" for name in cameras.names)
    missing = [picture for picture in pictures if not asked.has(picture)]
    if missing:
        raise ClipError(
            f"picture {missing[0]!r} of the model is missing, and {len(missing) - 1} more; "
            "put the pictures into the project's folder 'images'"
        )
    return View(pictures=pictures, fps=frame_rate(images), cameras=cameras, described_by=model)


COLMAP = Layout("colmap", lambda names: _is_project(names) and "images" in names, _find, _load)
