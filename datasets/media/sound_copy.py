"""Carry the sound of one video over to another as it is: its own packets, not decoded and encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import av
import fsspec

from recapture.conf.heartbeat import beating
from recapture.datasets.media.containers import open_container

_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_s16be", "pcm_s24be")
# What players of these containers take; another codec is encoded again.
_CODECS: Mapping[str, tuple[str, ...]] = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", *_PCM),
}
_EARLY = 0.1  # seconds before the first picture, at most, that a packet may begin: an encoder's delay
_GAP = 0.005  # seconds between packets that are none: time stamps of some containers are milliseconds


def can_be_copied(uri: str, start: float, container: str) -> bool:
    """Return whether the first sound track of a video can be copied into another.

    start: when its first picture is shown, in seconds of its time stamps; container: FFmpeg's name of the
    other. It can if the container takes the codec, every packet decodes, no time is left out between them,
    and the sound begins neither much before the first picture nor has to be moved.
    """
    with ExitStack() as opened:
        source = opened.enter_context(open_container(opened.enter_context(fsspec.open(uri, "rb")), uri))
        tracks = source.streams.audio
        if not tracks or tracks[0].codec_context is None:
            return False
        if tracks[0].codec_context.codec.canonical_name not in _CODECS[container]:
            return False
        return _sound_throughout(source, tracks[0], start)


def _sound_throughout(source: Any, track: Any, start: float) -> bool:
    """Return whether all packets decode to sound of one kind, without gaps in time, from the start on."""
    ends: float | None = None
    kinds = set()
    try:
        for packet in beating(source.demux(track)):
            kinds |= {(one.format.name, one.layout.name, one.sample_rate) for one in packet.decode()}
            if len(kinds) > 1:
                return False
            if packet.size == 0:
                continue
            if packet.pts is None or packet.is_corrupt or not (packet.duration or ends is None):
                return False
            begins = float(packet.pts * packet.time_base)
            if abs(begins - ends) > _GAP if ends is not None else begins < start - _EARLY:
                return False
            if packet.duration:  # not of a decoder's warming up in Matroska
                ends = begins + float(packet.duration * packet.time_base)
    except (av.error.FFmpegError, ValueError):
        return False
    return len(kinds) == 1


class CopiedSound:
    """The packets of the first sound track of a video that `can_be_copied`, written piece by piece.

    start: when the first picture is shown, in seconds of the source's time stamps. What begins after the last
    time that is asked for is left out.
    """

    damaged = 0

    def __init__(self, out: Any, uri: str, start: float) -> None:
        self._out, self._opened = out, ExitStack()
        try:
            stream = self._opened.enter_context(fsspec.open(uri, "rb"))
            source = self._opened.enter_context(open_container(stream, uri))
            track = source.streams.audio[0]
            self._shift = round(start / track.time_base)
            self._packets: Iterator[Any] = iter(source.demux(track))
            self._stream = out.add_stream_from_template(track)
        except BaseException:
            self.close()
            raise
        self._next: Any = None

    def play_until(self, seconds: float) -> None:
        """Write the packets that begin before this time."""
        while True:
            packet = next(self._packets, None) if self._next is None else self._next
            self._next = packet
            if packet is None or packet.size == 0:
                return
            if float((packet.pts - self._shift) * packet.time_base) >= seconds:
                return
            self._next = None
            packet.pts -= self._shift
            packet.dts = packet.pts
            packet.stream = self._stream
            self._out.mux(packet)

    def finish(self) -> None:
        """Do nothing: there is no encoder that would hold anything back."""

    def close(self) -> None:
        """Close the source."""
        self._opened.close()
