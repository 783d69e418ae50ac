"""A clip as the index knows it, and the protocol that every opened clip follows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

LayoutKind = Literal[
    "multicamvideo", "kubric4d", "dycheck", "realestate10k", "davis", "colmap", "nerfstudio", "motionbench"
]
ClipKind = Literal["video", "frames", "scene"] | LayoutKind
MAX_ID = 200
MAX_SCALE = 16  # times the pixels of a clip that a map or mask beside it may have


class ClipError(ValueError):
    """A clip or one of its sidecar files cannot be used; the message names both and the way out."""


@dataclass(frozen=True)
class Clip:
    """One row of a dataset's index.

    id: its path in the dataset without suffix. fps: a fraction such as "30000/1001". duration: seconds.
    content_hash: sha256 over the clip's files, sidecars included.
    Sidecars: depth [T,H,W] z-depth, cameras (see cameras/files.py), known [T,H,W] True where a pixel may be
    used, objects [T,H,W] object ids; in a published layout, the places of its own such files. Clips of one
    group are views of one scene from several cameras, in one world and on one clock.
    """

    id: str
    uri: str
    kind: ClipKind
    fps: str
    frames: int
    width: int
    height: int
    duration: float
    audio: bool
    caption: str
    content_hash: str
    depth_uri: str | None = None
    cameras_uri: str | None = None
    known_uri: str | None = None
    objects_uri: str | None = None
    group: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files and folders that its frames and sidecars are read from; none if it is computed."""
        if self.kind == "scene":
            return ()
        sidecars = (self.depth_uri, self.cameras_uri, self.known_uri, self.objects_uri)
        return (self.uri, *(uri for uri in sidecars if uri is not None))


@dataclass(frozen=True)
class Rejected:
    """An entry of a dataset that is not a usable clip, and the reason."""

    id: str
    uri: str
    stage: str
    error_type: str
    error: str

    @classmethod
    def because(cls, clip_id: str, uri: str, error: Exception) -> Rejected:
        """Return a rejection at scan time whose message names the clip."""
        shown = printable(clip_id)
        return cls(shown, uri, "scan", type(error).__name__, f"clip {shown!r}: {error}")


class ClipSource(Protocol):
    """An opened clip. Frames come one at a time; arrays hold only the frames asked for."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield frames start to stop-1 as uint8 RGB [H, W, 3]."""
        ...

    def depth(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return the z-depth float32 [t, H, W] that comes with the clip, or None."""
        ...

    def known(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return bool [t, H, W], True where a pixel may be used, or None if all may."""
        ...

    def objects(self, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Return the object ids int64 [t, H, W] that come with the clip, or None."""
        ...

    def cameras(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return intrinsics [T, 3, 3] in the clip's own pixels and world_to_camera [T, 4, 4], or None."""
        ...

    def truth(
        self,
        intrinsics: Any,  # [T, 3, 3]
        world_to_camera: Any,  # [T, 4, 4]
        source_frame: Any,  # [T] the time of each view, in frames of the clip
        height: int,
        width: int,
    ) -> dict[str, np.ndarray] | None:
        """Return what these cameras really see, or None if there is no ground truth.

        video uint8 [T, H, W, 3]; depth float32 [T, H, W]; object_id int64 [T, H, W]; visible bool [T, H, W],
        True where the source camera sees the same surface point at that time.
        """
        ...


def validate_clip_id(clip_id: str) -> str:
    """Return the id if it is safe as a part of a path; raises ClipError with the reason otherwise."""
    shown = printable(clip_id)
    parts = clip_id.split("/")
    if not clip_id or any(part.strip() == "" for part in parts):
        wrong = "it is empty, or has an empty part between slashes"
    elif len(clip_id.encode()) > MAX_ID:
        wrong = f"it is {len(clip_id.encode())} bytes long, the limit is {MAX_ID}"
    elif re.match(r"[A-Za-z]:|~", clip_id) or "\\" in clip_id:
        wrong = "it looks like an absolute path or has a backslash"
    elif any(part in (".", "..") for part in parts):
        wrong = "it has '.' or '..' as a part"
    elif not clip_id.isprintable() or set(clip_id) & set('@*?"<>|'):
        wrong = 'it has a control character or one of @*?"<>|'
    else:
        return clip_id
    raise ClipError(f"clip id {shown!r} cannot be used: {wrong}; rename the file")


def check_pixels(what: str, width: int, height: int, clip_width: int, clip_height: int) -> None:
    """Raise ClipError if a map or mask has too many pixels for its clip, as in a decompression bomb."""
    if width * height > MAX_SCALE * clip_width * clip_height:
        raise ClipError(
            f"{what} is {width}x{height}, more than {MAX_SCALE} times the pixels of the clip's "
            f"{clip_width}x{clip_height}; make it smaller"
        )


def printable(text: str, limit: int = 80) -> str:
    """Return text for a message: control characters escaped, at most `limit` characters."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."
