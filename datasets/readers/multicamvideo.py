"""MultiCamVideo (ReCamMaster, arXiv 2503.11647): SCENE/videos/camNN.mp4, cameras/camera_extrinsics.json.

A parent folder such as f24_aperture5 names the lens: focal length in millimetres, sensor 23.76 x 23.76 mm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from recapture.datasets.cameras.cameras import pinhole
from recapture.datasets.cameras.multicamvideo import focal_pixels, read_multicamvideo
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import joined, parent_of, stem_of
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_LENS_FOLDER = re.compile(r"f(\d+(?:\.\d+)?)_aperture[\d.]+")
_SIDE = 1280  # pixels; scaled to the videos' own, which must be square


def _is_scene(names: frozenset[str]) -> bool:
    return {"videos", "cameras"} <= names


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, scene in tree.below(_is_scene):
        for name in tree.listed(f"{scene}/videos"):
            if name.lower().endswith(".mp4"):
                yield joined(inside, "videos", stem_of(name)), f"{scene}/videos/{name}"


def _load(uri: str, asked: Asked) -> View:
    scene = parent_of(parent_of(uri))
    lens = _LENS_FOLDER.search(scene)
    if lens is None:
        raise ClipError(
            f"no parent folder of {uri!r} names the lens; keep MultiCamVideo's folder, such as f24_aperture5"
        )
    file = f"{scene}/cameras/camera_extrinsics.json"
    asked.files([file])
    cameras = read_multicamvideo(file, stem_of(uri))
    focal = focal_pixels(float(lens[1]), _SIDE)
    matrix = np.broadcast_to(pinhole(focal, focal, _SIDE / 2, _SIDE / 2), (len(cameras), 3, 3)).copy()
    cameras = replace(cameras, intrinsics=matrix, size=(_SIDE, _SIDE))
    return View(video=uri, cameras=cameras, group=scene, described_by=(file,))


MULTICAMVIDEO = Layout(
    "multicamvideo",
    lambda names: _is_scene(names) or any(_LENS_FOLDER.fullmatch(name) for name in names),
    _find,
    _load,
)
