"""RealEstate10K: one pose file per clip. It ships no videos, so these are searched for in the usual places.

For POSES/ID.txt: POSES/ID.mp4 or frames in POSES/ID; or, as in CameraCtrl (arXiv 2404.02101), in video_clips
next to pose_files, directly or in a folder named by the YouTube id. Frames named by their time are matched by
it; otherwise there must be one frame per pose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import fsspec
import numpy as np

from recapture.datasets.cameras.cameras import Cameras
from recapture.datasets.cameras.realestate10k import read_realestate10k
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.pictures import frame_rate
from recapture.datasets.media.video import VIDEO_SUFFIXES
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.layout_files import (
    joined,
    name_of,
    parent_of,
    stem_of,
)
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.views import Layout, View

_BESIDE = ("", "../video_clips", "../videos", "../frames")


def _poses(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(".txt") and name != "fps.txt"]


def _find(uri: str, tree: Tree) -> Iterator[tuple[str, str]]:
    for inside, folder in tree.below(lambda names: bool(_poses(names)), nested=True):
        for name in _poses(tree.listed(folder)):
            yield joined(inside, stem_of(name)), f"{folder}/{name}"


def _load(uri: str, asked: Asked) -> View:
    asked.files([uri])
    cameras = read_realestate10k(uri)
    for place in _places(uri):
        clip_id = stem_of(uri)
        videos = [name for name in asked.listed(place, clip_id) if stem_of(name) == clip_id]
        videos = [name for name in videos if name.lower().endswith(VIDEO_SUFFIXES)]
        if videos:
            return View(video=f"{place}/{videos[0]}", cameras=cameras, described_by=(uri,))
        pictures = asked.pictures_in(f"{place}/{clip_id}")
        if pictures:
            return _of_pictures(uri, cameras, pictures, asked)
    raise ClipError(
        f"pose file {uri!r} has no video '{stem_of(uri)}.mp4' and no folder of frames next to it; "
        "RealEstate10K ships only poses: add the clip, or remove the file"
    )


def _places(uri: str) -> Iterator[str]:
    folder = parent_of(uri)
    youtube_id = _first_line(uri).rsplit("=", 1)[-1].rsplit("/", 1)[-1]
    for beside in _BESIDE:
        place = f"{parent_of(folder)}/{beside[3:]}" if beside else folder
        yield place
        if beside and youtube_id:
            yield f"{place}/{youtube_id}"


def _first_line(uri: str) -> str:
    with fsspec.open(uri, "rb") as stream:
        first = stream.read(4096).decode(errors="replace").splitlines()[:1]
    return first[0].strip() if first and len(first[0].split()) == 1 else ""


def _of_pictures(uri: str, cameras: Cameras, pictures: tuple[str, ...], asked: Asked) -> View:
    times = cameras.names or ()
    by_time = {stem_of(picture): picture for picture in pictures}
    if set(times) & set(by_time):
        missing = [time for time in times if time not in by_time]
        if missing:
            raise ClipError(
                f"the frame at {missing[0]} microseconds is missing, and {len(missing) - 1} more; "
                f"extract them again, or remove their lines from {name_of(uri)!r}"
            )
        pictures = tuple(by_time[time] for time in times)
    rate = frame_rate(parent_of(pictures[0]))
    if len(times) > 1 and not asked.named(parent_of(pictures[0]), "fps.txt"):
        step = float(np.median(np.diff([float(time) for time in times])))
        if step > 0:
            rate = Fraction(1e6 / step).limit_denominator(1001)
    return View(pictures=pictures, fps=rate, cameras=cameras, described_by=(uri,))


REALESTATE10K = Layout("realestate10k", lambda names: "pose_files" in names, _find, _load)
