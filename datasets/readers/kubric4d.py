"""Kubric-4D (GCD, arXiv 2405.14868): scnNNNNN/frames_pP_vV with rgba, depth and segmentation of each frame.

scnNNNNN_pP_vV.json next to the folder holds the view's camera. Depth is the distance along rays, in metres.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from recapture.datasets.cameras.kubric import ray_to_z_depth, read_kubric
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import (
    joined,
    maps_of,
    name_of,
    parent_of,
    read_flat,
    read_ids,
)
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_SCENE = re.compile(r"scn\d+")
_FRAMES = re.compile(r"frames_(p\d+_v\d+)")
_RATE = Fraction(24)


def _is_scene(names: frozenset[str]) -> bool:
    return any(_FRAMES.fullmatch(name) for name in names)


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, scene in tree.below(_is_scene):
        for name in tree.listed(scene):
            if _FRAMES.fullmatch(name):
                yield joined(inside, name), f"{scene}/{name}"


def _load(uri: str, asked: Asked) -> View:
    scene, view = parent_of(uri), name_of(uri).removeprefix("frames_")
    files = [name for name in asked.listed(scene) if name.endswith(f"_{view}.json")]
    if not files:
        raise ClipError(f"there is no camera file '*_{view}.json' in {scene!r}; unpack the whole scene")
    cameras = read_kubric(f"{scene}/{files[0]}")
    lens, size = cameras.intrinsics, cameras.size
    assert lens is not None and size is not None

    def z_depth(index: int, file: str, limit: int) -> np.ndarray:
        distance = read_flat(file, limit).astype(np.float64)
        factors = np.array([[distance.shape[1] / size[0]], [distance.shape[0] / size[1]], [1.0]])
        return ray_to_z_depth(distance, lens[index] * factors)

    return View(
        pictures=asked.pictures_in(uri, "rgba_"),
        fps=_RATE,
        cameras=cameras,
        depth=maps_of(asked.pictures_in(uri, "depth_"), z_depth),
        objects=maps_of(asked.pictures_in(uri, "segmentation_"), read_ids),
        group=scene,
        described_by=(f"{scene}/{files[0]}",),
    )


KUBRIC4D = Layout(
    "kubric4d",
    lambda names: _is_scene(names) or any(_SCENE.fullmatch(name) for name in names),
    _find,
    _load,
)
