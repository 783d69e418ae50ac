"""Make a clip of a video file or a folder of frames and the sidecars beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import fsspec

from recapture.datasets.clips.clip import Clip, ClipError, ClipKind, check_pixels
from recapture.datasets.media.npz_rows import array_shape
from recapture.datasets.media.pictures import FRAME_SUFFIXES, PictureError, probe_pictures
from recapture.datasets.media.read_once import hashed
from recapture.datasets.media.video import VideoInfo, probe
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.file_source import clip_cameras
from recapture.datasets.store.keys import canonical_json, file_hash

MAX_CAPTION = 4000  # characters
_NOTHING: Mapping[str, str | None] = MappingProxyType({})
_SUFFIXES = {
    "caption_uri": (".txt",),
    "depth_uri": (".depth.npz",),
    "known_uri": (".known.npz",),
    "cameras_uri": (".cameras.npz", ".cameras.json"),
    "objects_uri": (".objects.npz",),
}


@dataclass(frozen=True)
class Place:
    """Where the files of a clip are: `name` is that of the video or of the folder of frames."""

    folder: str
    name: str
    kind: ClipKind

    @property
    def uri(self) -> str:
        """Return the URI of the video or of the folder of frames."""
        return f"{self.folder}/{self.name}"

    @property
    def stem(self) -> str:
        """Return the name without the suffix of a video."""
        return self.name if self.kind == "frames" else self.name.rsplit(".", 1)[0]


def read_clip(clip_id: str, place: Place, asked: Asked, given: Mapping[str, str | None] = _NOTHING) -> Clip:
    """Read a clip and check its sidecars; `given` takes precedence over those beside it.

    given: any of caption, depth_uri, cameras_uri, known_uri, objects_uri.
    Raises: ValueError or OSError with the reason if the clip cannot be used.
    """
    asked.entries(place.folder, f"{place.stem}.")
    sidecars = {name: _sidecar(name, place, asked, given) for name in _SUFFIXES}
    caption = given.get("caption") or _caption(sidecars.pop("caption_uri"))
    found, own_hash = _probed(place, asked)
    clip = Clip(
        id=clip_id,
        uri=place.uri,
        kind=place.kind,
        fps=str(found.fps),
        frames=found.frames,
        width=found.width,
        height=found.height,
        duration=found.duration,
        audio=found.audio,
        caption=_checked_caption(caption),
        content_hash=own_hash,
        **{name: uri for name, uri in sidecars.items() if name != "caption_uri"},
    )
    _check_sidecars(clip)
    parts = {name.removesuffix("_uri"): uri for name, uri in sidecars.items() if name != "caption_uri"}
    return replace(clip, content_hash=_joint_hash(own_hash, parts))


def _sidecar(name: str, place: Place, asked: Asked, given: Mapping[str, str | None]) -> str | None:
    uri = given.get(name)
    if uri:
        folder, _, last = uri.rpartition("/")
        return asked.named(folder, last) or uri
    named = (asked.named(place.folder, place.stem + suffix) for suffix in _SUFFIXES[name])
    return next((uri for uri in named if uri is not None), None)


def _probed(place: Place, asked: Asked) -> tuple[VideoInfo, str]:
    """Return what a clip holds and the hash of its bytes."""
    if place.kind == "video":
        asked.named(place.folder, place.name)
        if asked.is_folder(place.uri):
            raise ClipError(f"video {place.uri!r}: it is a directory, not a file; rename or remove it")
        with hashed(place.uri) as stream:
            return probe(place.uri), stream.hexdigest()
    shown = [entry.name for entry in asked.entries(place.uri) if not entry.name.startswith(".")]
    asked.files([f"{place.uri}/{name}" for name in shown if name.lower().endswith(FRAME_SUFFIXES)])
    try:
        return probe_pictures(place.uri)
    except PictureError as error:
        raise ClipError(str(error)) from error


def _caption(uri: str | None) -> str:
    if uri is None:
        return ""
    with fsspec.open(uri, "rb") as stream:
        content = bytes(stream.read(8 * MAX_CAPTION))  # more than any caption that is accepted
    try:
        return content.decode("utf-8-sig", errors="strict" if len(content) < 8 * MAX_CAPTION else "replace")
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
        if len(shape) != 3 or shape[0] != clip.frames or 0 in shape:
            raise ClipError(
                f"{name} {uri!r} has shape {list(shape)}; "
                f"it must be [{clip.frames}, H, W], one map per frame of the clip"
            )
        if abs(shape[2] / shape[1] / (clip.width / clip.height) - 1) > 0.02:
            raise ClipError(
                f"{name} {uri!r} is {shape[2]}x{shape[1]}, a different aspect from the clip's "
                f"{clip.width}x{clip.height}; make it at the clip's aspect"
            )
        check_pixels(f"{name} {uri!r}", shape[2], shape[1], clip.width, clip.height)
    if clip.cameras_uri is not None:
        clip_cameras(clip, clip.cameras_uri)
