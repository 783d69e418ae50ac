"""Read published datasets as clips: a layout says which files make up a view; the rest is shared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import fsspec
import numpy as np

from recapture.datasets.cameras.cameras import Cameras, intrinsics_for
from recapture.datasets.clips.clip import MAX_SCALE, Clip, ClipError, LayoutKind
from recapture.datasets.media.pictures import PictureError, probe_files, read_picture
from recapture.datasets.media.read_once import hashed
from recapture.datasets.media.undistort import Undistortion
from recapture.datasets.media.video import VideoError, iterate_frames, probe
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.tree import Tree
from recapture.datasets.readers.unread import Found, Unread
from recapture.datasets.store.keys import file_hash

_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Maps:
    """One file per frame, and the function that reads it as an array [H, W].

    read: takes the number of the frame, the URI, and the most pixels that it may read.
    """

    files: tuple[str, ...]
    read: Callable[[int, str, int], np.ndarray]


@dataclass(frozen=True)
class View:
    """One camera's recording: a video, or pictures in order, and what the dataset provides with it."""

    video: str | None = None
    pictures: tuple[str, ...] = ()
    fps: Fraction | None = None  # of pictures
    cameras: Cameras | None = None
    depth: Maps | None = None  # z-depth
    known: Maps | None = None  # True where a pixel may be used
    objects: Maps | None = None  # object ids, 0 the background
    covisible: Maps | None = None  # True where the dataset's training views see the pixel too
    moments: tuple[int, ...] | None = None  # time of each frame, on the clock of its group
    group: str | None = None
    described_by: tuple[str, ...] = ()  # files that the cameras or the caption come from
    caption: str = ""


@dataclass(frozen=True)
class Layout:
    """A published layout: recognise it by the names in its root, find its views (id, uri), load one."""

    kind: LayoutKind
    recognise: Callable[[frozenset[str]], bool]
    find: Callable[[str, Tree], Iterator[tuple[str, str]]]
    load: Callable[[str, Asked], View]


def read_layout(layout: Layout, uri: str, folders: Folders, own: Sequence[str] = ()) -> Iterator[Found]:
    """Yield every view of a dataset, and what in its folders cannot be read; `own` is that of read_folder.

    Raises: FileNotFoundError if there is nothing at uri, ClipError if it holds no view.
    """
    fs, root = fsspec.core.url_to_fs(uri)
    if not fs.exists(root):
        raise FileNotFoundError(f"{uri!r} does not exist")
    found, tree = False, Tree(folders, own)
    for clip_id, view_uri in layout.find(folders.root, tree):
        found = True
        yield Unread(clip_id, view_uri, partial(read_view, layout, clip_id, view_uri))
    yield from tree.others
    if not found:
        raise ClipError(f"{uri!r} holds nothing in the layout {layout.kind!r}; check dataset.kind")


def read_view(layout: Layout, clip_id: str, uri: str, asked: Asked) -> Clip:
    """Read one view of a dataset; raises ValueError or OSError with the reason if it cannot be used."""
    view = layout.load(uri, asked)
    all_maps = [maps for maps in (view.depth, view.known, view.objects, view.covisible) if maps]
    files = [*view.pictures, *view.described_by, *(file for maps in all_maps for file in maps.files)]
    asked.files(files if view.video is None else [view.video, *files])
    if view.pictures:
        asked.entries(view.pictures[0].rpartition("/")[0], "fps.txt")
    try:
        found, digest = _probed(view)
    except PictureError as error:
        raise ClipError(str(error)) from error
    _check(view, found.frames, found.width, found.height)
    hashes = [digest, *(file_hash(file) for file in view.described_by)]
    for maps in all_maps:
        hashes += [file_hash(file) for file in maps.files]

    def first(maps: Maps | None) -> str | None:
        return maps.files[0].rsplit("/", 1)[0] if maps else None

    return Clip(
        id=clip_id,
        uri=uri,
        kind=layout.kind,
        fps=str(found.fps),
        frames=found.frames,
        width=found.width,
        height=found.height,
        duration=found.duration,
        audio=found.audio and view.video == uri,  # sound is read from the clip's uri
        caption=view.caption,
        content_hash=hashlib.sha256(" ".join(hashes).encode()).hexdigest(),
        depth_uri=first(view.depth),
        cameras_uri=view.described_by[0] if view.cameras is not None and view.described_by else None,
        known_uri=first(view.known),
        objects_uri=first(view.objects),
        group=view.group,
    )


def _probed(view: View) -> tuple[Any, str]:
    if view.video is not None:
        with hashed(view.video) as stream:
            return probe(view.video), stream.hexdigest()
    if not view.pictures or view.fps is None:
        raise ClipError("there is no picture; check that the dataset was unpacked completely")
    return probe_files(view.pictures, view.fps)


def _check(view: View, frames: int, width: int, height: int) -> None:
    counted = {"depth": view.depth, "known": view.known, "objects": view.objects}
    for name, maps in counted.items():
        if maps is not None and len(maps.files) != frames:
            raise ClipError(
                f"there are {len(maps.files)} files of {name} for {frames} frames; give one per frame"
            )
    cameras = view.cameras
    if cameras is None:
        return
    if len(cameras) != frames:
        raise ClipError(f"there are {len(cameras)} cameras for {frames} frames; give one per frame")
    if cameras.intrinsics is None:
        raise ClipError("the cameras have no intrinsics; add them, or use the folder reader without cameras")
    if cameras.size not in (None, (1, 1)):
        stated = cameras.size[0] / cameras.size[1]
        if abs(stated / (width / height) - 1) > _ASPECT_TOLERANCE:
            raise ClipError(
                f"the cameras are for {cameras.size[0]}x{cameras.size[1]} pictures, the frames are "
                f"{width}x{height}, a different aspect; use frames that were scaled, not cropped"
            )


class ViewSource:
    """An opened view of a published dataset; a distorted lens is corrected."""

    def __init__(self, clip: Clip, load: Callable[[str, Asked], View]) -> None:
        self._clip = clip
        try:
            self._view = load(clip.uri, Asked(Folders(clip.uri)))
        except ValueError as error:
            raise ClipError(f"clip {clip.id!r}: {error}") from error
        self._intrinsics = None
        self._straight: Undistortion | None = None
        cameras = self._view.cameras
        if cameras is not None:
            self._intrinsics = intrinsics_for(cameras, clip.width, clip.height)
            if cameras.distortion is not None and self._intrinsics is not None:
                self._straight = Undistortion(
                    self._intrinsics, cameras.distortion, clip.width, cameras.fisheye
                )

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """See ClipSource; raises ClipError or VideoError if frames are missing or broken."""
        try:
            for index, frame in enumerate(self._decoded(start, stop), start):
                yield frame if self._straight is None else self._straight.picture(index, frame)
        except VideoError as error:
            raise VideoError(f"clip {self._clip.id!r}: {error}") from error
        except PictureError as error:
            raise ClipError(f"clip {self._clip.id!r}: {error}") from error

    def depth(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource."""
        return self._maps(self._view.depth, start, stop, np.float32)

    def known(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; also False where the corrected lens shows nothing."""
        known = self._maps(self._view.known, start, stop, np.bool_)
        if known is None and self._straight is not None:
            whole = np.ones((self._clip.height, self._clip.width), bool)
            wanted = range(self._clip.frames)[start:stop]
            known = np.stack([self._straight.map(index, whole) for index in wanted])
        return known

    def objects(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; 0 is the background."""
        return self._maps(self._view.objects, start, stop, np.int64)

    def covisible(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return bool [t, H, W], True where the dataset's training views see the pixel, or None."""
        return self._maps(self._view.covisible, start, stop, np.bool_)

    def moments(self) -> np.ndarray:
        """Return the time of each frame [T] int64 on the clock that the views of its group share."""
        moments = self._view.moments
        return np.arange(self._clip.frames) if moments is None else np.array(moments, dtype=np.int64)

    def cameras(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See ClipSource."""
        if self._view.cameras is None or self._intrinsics is None:
            return None
        return self._intrinsics, self._view.cameras.world_to_camera

    def truth(
        self, intrinsics: Any, world_to_camera: Any, source_frame: Any, height: int, width: int
    ) -> dict[str, np.ndarray] | None:
        """Return None: only the other views of the group, which are clips of their own, have ground truth."""
        return None

    def _decoded(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        if self._view.video is not None:
            yield from iterate_frames(self._view.video, start, stop)
        else:
            for uri in self._view.pictures[start:stop]:
                yield read_picture(uri)

    def _maps(self, maps: Maps | None, start: int, stop: int | None, dtype: type) -> np.ndarray | None:
        if maps is None:
            return None
        limit = MAX_SCALE * self._clip.width * self._clip.height
        wanted: Sequence[int] = range(len(maps.files))[start:stop]
        try:
            read = [maps.read(index, maps.files[index], limit) for index in wanted]
        except (OSError, ValueError) as error:
            raise ClipError(f"clip {self._clip.id!r}: {error}") from error
        if self._straight is not None:
            read = [self._straight.map(index, values) for index, values in zip(wanted, read, strict=True)]
        return np.stack(read).astype(dtype) if read else np.zeros((0, 0, 0), dtype)
