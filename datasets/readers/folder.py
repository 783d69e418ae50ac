"""Read a folder tree as a dataset: video files, folders of frames, and scenes files, with their sidecars.

Sidecars of NAME.mp4, or of a folder NAME that holds frames, are NAME.txt (caption), NAME.depth.npz,
NAME.known.npz, NAME.objects.npz and NAME.cameras.npz or .json. A folder of frames may hold fps.txt. A folder
that contains a video is not a folder of frames: its pictures are taken for thumbnails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from recapture.datasets.cameras.files import read_cameras
from recapture.datasets.clips.clip import Clip, ClipError, ClipKind, Rejected, validate_clip_id
from recapture.datasets.media.npz_rows import array_shape, read_rows
from recapture.datasets.media.pictures import FRAME_SUFFIXES, PictureError, iterate_pictures, probe_pictures
from recapture.datasets.media.video import VIDEO_SUFFIXES, VideoError, VideoInfo, iterate_frames, probe
from recapture.datasets.readers import scenes
from recapture.datasets.store.keys import canonical_json, file_hash

SCENES_FILES = ("scenes.yaml", "scenes.yml", "scenes.json")
MAX_CAPTION = 4000


def read_folder(uri: str) -> Iterator[Clip | Rejected]:
    """Yield every clip below a folder, in no particular order, and every entry that should be one but is not.

    Raises: FileNotFoundError or NotADirectoryError if uri itself is not a folder.
    """
    fs, root = fsspec.core.url_to_fs(uri)
    fs.invalidate_cache()
    if not fs.exists(root):
        raise FileNotFoundError(f"{uri!r} does not exist")
    if not fs.isdir(root):
        raise NotADirectoryError(f"{uri!r} is not a folder")
    for folder, folders, files in fs.walk(root, detail=True):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]
        yield from _Folder(fs, root, folder, frozenset(files)).clips(folders)


def read_file(uri: str) -> Iterator[Clip | Rejected]:
    """Yield a single video file as a dataset of one clip, named by its stem."""
    fs, path = fsspec.core.url_to_fs(uri)
    folder = fs._parent(path)
    beside = frozenset(_name(entry) for entry in fs.ls(folder, detail=False))
    yield _Folder(fs, folder, folder, beside).attempt(_name(path), "video")


def read_listed(uri: str, clip_id: str, given: Mapping[str, str | None]) -> Clip | Rejected:
    """Return a video file or a folder of frames that a list names; `given` takes precedence over sidecars.

    given: any of caption, depth_uri, cameras_uri, known_uri, objects_uri.
    """
    try:
        validate_clip_id(clip_id)
        fs, path = fsspec.core.url_to_fs(uri)
        kind: ClipKind = "video" if _name(path).lower().endswith(VIDEO_SUFFIXES) else "frames"
        if not fs.exists(path):
            raise ClipError(f"{uri!r} does not exist; correct the list")
        folder = fs._parent(path)
        beside = frozenset(_name(entry) for entry in fs.ls(folder, detail=False))
        stem = _name(path).rsplit(".", 1)[0] if kind == "video" else _name(path)
        return _Folder(fs, folder, folder, beside)._clip(clip_id, _name(path), stem, kind, given)
    except Exception as error:  # one bad entry must not stop the others
        return Rejected.because(clip_id, uri, error)


@dataclass(frozen=True)
class _Folder:
    """One folder of the tree and the names of the files in it."""

    fs: Any
    root: str
    path: str
    files: frozenset[str]

    def clips(self, folders: dict[str, Any]) -> Iterator[Clip | Rejected]:
        """Yield the clips directly in this folder; remove from `folders` those that must not be entered."""
        shown = {name for name in self.files if not name.startswith(".")}
        if not shown and not folders:
            error = ClipError("the folder is empty; put a video or frames into it, or remove it")
            yield Rejected.because(self.clip_id("") or _name(self.root), self.uri(""), error)
        videos = {name for name in shown if name.lower().endswith(VIDEO_SUFFIXES)}
        for name in [name for name in folders if name.lower().endswith(VIDEO_SUFFIXES)]:
            del folders[name]
            videos.add(name)
        for name in sorted(videos):
            yield self.attempt(name, "video")
        for name in sorted(shown & set(SCENES_FILES)):
            yield from scenes.read_scenes_file(self.uri(name), self.clip_id(""))
        if not videos and any(name.lower().endswith(FRAME_SUFFIXES) for name in shown):
            yield self._above().attempt(_name(self.path), "frames")

    def attempt(self, name: str, kind: ClipKind) -> Clip | Rejected:
        """Return the clip called `name` in this folder, or the reason why it is not one."""
        stem = name if kind == "frames" else name[: name.rindex(".")]
        clip_id = self.clip_id(stem)
        try:
            validate_clip_id(clip_id)
            return self._clip(clip_id, name, stem, kind)
        except Exception as error:  # one bad file must not stop the others
            return Rejected.because(clip_id, self.uri(name), error)

    def _above(self) -> _Folder:
        folder = self.fs._parent(self.path)
        beside = frozenset(_name(entry) for entry in self.fs.ls(folder, detail=False))
        return _Folder(self.fs, folder if self.path == self.root else self.root, folder, beside)

    def clip_id(self, stem: str) -> str:
        inside = self.path[len(self.root) :].strip("/")
        return "/".join(part for part in (inside, stem) if part)

    def uri(self, name: str) -> str:
        path = f"{self.path.rstrip('/')}/{name}".rstrip("/")
        return path if isinstance(self.fs, LocalFileSystem) else str(self.fs.unstrip_protocol(path))

    def _beside(self, stem: str, *suffixes: str) -> str | None:
        return next((self.uri(stem + suffix) for suffix in suffixes if stem + suffix in self.files), None)

    def _clip(
        self,
        clip_id: str,
        name: str,
        stem: str,
        kind: ClipKind,
        given: Mapping[str, str | None] = MappingProxyType({}),
    ) -> Clip:
        uri = self.uri(name)
        found, own_hash = _probed(uri, kind)
        depth = given.get("depth_uri") or self._beside(stem, ".depth.npz")
        known = given.get("known_uri") or self._beside(stem, ".known.npz")
        cameras = given.get("cameras_uri") or self._beside(stem, ".cameras.npz", ".cameras.json")
        objects = given.get("objects_uri") or self._beside(stem, ".objects.npz")
        clip = Clip(
            id=clip_id,
            uri=uri,
            kind=kind,
            fps=str(found.fps),
            frames=found.frames,
            width=found.width,
            height=found.height,
            duration=found.duration,
            audio=found.audio,
            caption=_checked_caption(given.get("caption") or _caption(self._beside(stem, ".txt"))),
            content_hash=_joint_hash(
                own_hash, {"depth": depth, "known": known, "cameras": cameras, "objects": objects}
            ),
            depth_uri=depth,
            cameras_uri=cameras,
            known_uri=known,
            objects_uri=objects,
        )
        _check_sidecars(clip)
        return clip


class FileSource:
    """An opened clip of kind video or frames, with its sidecars."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """See ClipSource; raises ClipError or VideoError if frames are missing or broken."""
        clip = self._clip
        decoded = iterate_frames if clip.kind == "video" else iterate_pictures
        try:
            yield from decoded(clip.uri, start, stop)
        except VideoError as error:
            raise VideoError(f"clip {clip.id!r}: {error}") from error
        except PictureError as error:
            raise ClipError(f"clip {clip.id!r}: {error}") from error

    def depth(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource; depth may differ from the video in size, not in aspect."""
        return self._rows(self._clip.depth_uri, "depth", start, stop, np.float32)

    def known(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource."""
        return self._rows(self._clip.known_uri, "known", start, stop, np.bool_)

    def objects(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """See ClipSource."""
        return self._rows(self._clip.objects_uri, "objects", start, stop, np.int64)

    def _rows(
        self, uri: str | None, name: str, start: int, stop: int | None, dtype: type
    ) -> np.ndarray | None:
        if uri is None:
            return None
        try:
            return read_rows(uri, name, start, self._clip.frames if stop is None else stop).astype(dtype)
        except ValueError as error:
            raise ClipError(f"clip {self._clip.id!r}: {name} {error}") from error

    def cameras(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See ClipSource."""
        if self._clip.cameras_uri is None:
            return None
        return _cameras(self._clip, self._clip.cameras_uri)

    def truth(
        self, intrinsics: Any, world_to_camera: Any, source_frame: Any, height: int, width: int
    ) -> dict[str, np.ndarray] | None:
        """Return None: a real clip has no ground truth for other cameras."""
        return None


def _probed(uri: str, kind: ClipKind) -> tuple[VideoInfo, str]:
    """Return what a clip holds and the hash of its bytes."""
    if kind == "video":
        return probe(uri), file_hash(uri)
    try:
        return probe_pictures(uri)
    except PictureError as error:
        raise ClipError(str(error)) from error


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _text(uri: str) -> str:
    with fsspec.open(uri, "rb") as stream:
        return bytes(stream.read()).decode()


def _caption(uri: str | None) -> str:
    if uri is None:
        return ""
    try:
        return _text(uri)
    except UnicodeDecodeError as error:
        raise ClipError(f"caption {uri!r} is not UTF-8 ({error.reason}); save it as UTF-8") from error


def _checked_caption(text: str) -> str:
    if len(text) > MAX_CAPTION:
        raise ClipError(f"the caption has {len(text)} characters, the limit is {MAX_CAPTION}; shorten it")
    return " ".join(text.split())


def _joint_hash(own_hash: str, sidecars: Mapping[str, str | None]) -> str:
    """Return the clip's own hash, or a hash over clip and sidecars if there are any."""
    hashes = {name: file_hash(uri) for name, uri in sidecars.items() if uri is not None}
    if not hashes:
        return own_hash
    return hashlib.sha256(canonical_json({"clip": own_hash} | hashes).encode()).hexdigest()


def _check_sidecars(clip: Clip) -> None:
    for name, uri in (("depth", clip.depth_uri), ("known", clip.known_uri), ("objects", clip.objects_uri)):
        if uri is None:
            continue
        shape = array_shape(uri, name)
        if len(shape) != 3 or shape[0] != clip.frames:
            raise ClipError(
                f"{name} {uri!r} has shape {list(shape)}; "
                f"it must be [{clip.frames}, H, W], one map per frame of the clip"
            )
        if abs(shape[2] / shape[1] / (clip.width / clip.height) - 1) > 0.02:
            raise ClipError(
                f"{name} {uri!r} is {shape[2]}x{shape[1]}, a different aspect from the clip's "
                f"{clip.width}x{clip.height}; make it at the clip's aspect"
            )
    if clip.cameras_uri is not None:
        _cameras(clip, clip.cameras_uri)


def _cameras(clip: Clip, uri: str) -> tuple[np.ndarray, np.ndarray]:
    world_to_camera, intrinsics = read_cameras(uri, size=(clip.width, clip.height))
    if intrinsics is None:
        raise ClipError(f"cameras {uri!r} have no intrinsics; add them as [T,3,3] or [3,3]")
    if len(world_to_camera) != clip.frames:
        raise ClipError(
            f"cameras {uri!r} are {len(world_to_camera)} for {clip.frames} frames; give one per frame"
        )
    return intrinsics.numpy(), world_to_camera.numpy()
