"""Read when a video shows its frames, from its packets alone: nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import fsspec
import numpy as np
from av.stream import Disposition

from recapture.conf.heartbeat import beating
from recapture.datasets.media.containers import REPLACE_FILE, VideoError, opened
from recapture.datasets.media.timing import TimingError, constant_rate

# Containers that store the display time of every frame. FFmpeg makes up those that AVI and MPEG streams lack.
_TIMED = ("mov", "matroska", "mpegts")


@dataclass(frozen=True)
class PacketTimes:
    """A video's constant rate, how often each of its frames is repeated at it, and whether it has sound."""

    fps: Fraction
    shown: np.ndarray  # [frames in the file] int64
    audio: bool
    first: float  # seconds from the container's zero to the first picture
    pts: np.ndarray  # [frames in the file] int64, ascending; empty if the container does not state them
    unit: Fraction  # seconds

    def number(self, frame: Any, last: int) -> int:
        """Return which frame of the file a decoded frame is, -1 if it is shown before the first one.

        last: the number of the frame before it.
        """
        if not len(self.pts) or frame.pts is None:
            return last + 1
        pts = round(frame.pts * frame.time_base / self.unit)
        if pts < self.pts[0]:
            return -1
        place = int(np.searchsorted(self.pts, pts))
        return place if place > last and place < len(self.pts) and self.pts[place] == pts else last + 1


def packet_times(uri: str) -> PacketTimes:
    """Return the timing of a video; raises VideoError if it is no video, has no frame, or is truncated."""
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        state = fs.ukey(path)
    except (OSError, NotImplementedError):
        state = ""
    return _packet_times(uri, state)


def first_picture(uri: str) -> float:
    """Return when a file's first picture is shown, in seconds of its time stamps; 0 without pictures."""
    with opened(uri) as container:
        if not _pictures(container):
            return 0.0
    return packet_times(uri).first


def video_stream(container: Any, uri: str) -> Any:
    """Return the stream that ffplay shows, never an attached cover picture; raises VideoError."""
    streams = _pictures(container)
    if not streams:
        raise VideoError(f"video {uri!r}: it has no video stream; {REPLACE_FILE}")
    best = container.streams.best("video")
    return best if best in streams else streams[0]


def _pictures(container: Any) -> list[Any]:
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


@lru_cache(maxsize=128)
def _packet_times(uri: str, state: str) -> PacketTimes:
    """Read the times of all packets; the cache avoids doing so again while the file's state is unchanged."""
    with opened(uri) as container:
        stream = video_stream(container, uri)
        stated = stream.average_rate or stream.guessed_rate or stream.base_rate
        audio, unit, form = (
            bool(container.streams.audio),
            stream.time_base,
            container.format.name.split(",")[0],
        )
        times = _display_times(container, stream, uri, form == "avi")
    pts = np.sort(np.array([time for time in times if time is not None], dtype=np.int64))
    complete = len(pts) == len(times)
    seconds = pts * float(unit) if complete else np.arange(len(times)) / float(stated or 1)
    try:
        fps, shown = constant_rate(list(seconds), Fraction(stated) if stated else None)
    except TimingError as error:
        raise VideoError(f"video {uri!r}: {error}") from error
    first = float(pts[0] * unit) if len(pts) else 0.0
    kept = form in _TIMED and complete and bool((np.diff(pts) > 0).all())
    return PacketTimes(fps, shown, audio, first, pts if kept else pts[:0], unit)


def _display_times(container: Any, stream: Any, uri: str, counted: bool) -> list[int | None]:
    """Return when each frame is shown, in decoding order and the stream's unit; None if it is not stated.

    Leaves out what players leave out: frames that an edit list discards, and those before the first keyframe.
    counted: as in AVI, a frame's place in the file is its time, and a place may be empty.
    """
    times: list[int | None] = []
    present, first_key, begun = 0, None, False
    indexed = counted and len(stream.index_entries) > 0  # an AVI's end is there; it also counts empty places
    for packet in beating(container.demux(stream)):
        if packet.size == 0 and packet.dts is None:
            continue  # the flush packet after the last one
        if packet.is_corrupt:
            raise VideoError(f"video {uri!r}: it is damaged or cut off in frame {present}; {REPLACE_FILE}")
        time = packet.dts if counted else packet.pts
        if packet.is_keyframe and not begun:
            begun, first_key = True, time if present else None
        present += 1
        if packet.size > 0 and not packet.is_discard:
            times.append(time)
    if present < stream.frames and not indexed:
        raise VideoError(
            f"video {uri!r}: it is truncated, with {present} of the {stream.frames} frames that its header "
            f"promises; {REPLACE_FILE}"
        )
    if first_key is not None:
        times = [time for time in times if time is None or time >= first_key]
    if not times:
        raise VideoError(f"video {uri!r}: it has no frame; {REPLACE_FILE}")
    return times
