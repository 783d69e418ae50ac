"""Read which part of the coded picture a container wants shown; FFmpeg's decoders do not apply it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any

import fsspec

from recapture.datasets.media.mp4_boxes import boxes, descend, movie

_SAMPLE_ENTRY = 78  # bytes of a visual sample entry before its boxes (ISO 14496-12, section 12.1.3)
_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_BOTTOM, _TOP, _LEFT, _RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD
_LARGEST_TRACKS = 1 << 24  # bytes


@dataclass(frozen=True)
class Crop:
    """How many rows and columns of the coded picture are not shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))


def stated_crop(uri: str, container: Any, stream: Any) -> Crop:
    """Return the crop that an opened container states for one of its video streams."""
    form = container.format.name.split(",")[0]
    if form not in ("mov", "matroska"):
        return Crop()
    with fsspec.open(uri, "rb") as file:
        if form == "matroska":
            return pixel_crop(file, stream.index)
        return clean_aperture(file, stream.id, stream.width, stream.height)


def clean_aperture(stream: IO[bytes], track_id: int, width: int, height: int) -> Crop:
    """Return the clean aperture of a track of an MP4 or MOV (ISO 14496-12, section 12.1.4)."""
    for track in descend(movie(stream), ("trak",)):
        if _track_id(track) != track_id:
            continue
        for entries in descend(track, ("mdia", "minf", "stbl", "stsd")):
            for _, entry in boxes(entries[8:]):
                for kind, body in boxes(entry[_SAMPLE_ENTRY:]):
                    if kind == "clap" and len(body) >= 32:
                        return _aperture(body, width, height)
    return Crop()


def _track_id(track: bytes) -> int:
    for header in descend(track, ("tkhd",)):
        at = 20 if header[:1] == b"\1" else 12
        return int.from_bytes(header[at : at + 4], "big")
    return 0


def _aperture(body: bytes, width: int, height: int) -> Crop:
    numbers = [int.from_bytes(body[at : at + 4], "big", signed=True) for at in range(0, 32, 4)]
    if any(denominator <= 0 for denominator in numbers[1::2]):
        return Crop()
    wide, high, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    if wide < 1 or high < 1 or left < 0 or top < 0 or left + wide > width or top + high > height:
        return Crop()
    return Crop(top, height - top - round(high), left, width - left - round(wide))


def pixel_crop(stream: IO[bytes], number: int) -> Crop:
    """Return what Matroska's PixelCrop elements state for the number-th track, counted from 0 (RFC 9559)."""
    stream.seek(0)
    size = stream.seek(0, 2)
    for identity, start, end in _elements(stream, 0, size):
        if identity != _SEGMENT:
            continue
        for inner, first, last in _elements(stream, start, min(end, size)):
            if inner == _TRACKS and last - first <= _LARGEST_TRACKS:
                tracks = [place for place in _elements(stream, first, last) if place[0] == _TRACK]
                return _of_track(stream, *tracks[number][1:]) if number < len(tracks) else Crop()
    return Crop()


def _of_track(stream: IO[bytes], start: int, end: int) -> Crop:
    found = {}
    for identity, first, last in _elements(stream, start, end):
        if identity == _VIDEO:
            for inner, begin, stop in _elements(stream, first, last):
                if inner in (_TOP, _BOTTOM, _LEFT, _RIGHT):
                    stream.seek(begin)
                    found[inner] = int.from_bytes(stream.read(min(8, stop - begin)), "big")
    return Crop(*(found.get(side, 0) for side in (_TOP, _BOTTOM, _LEFT, _RIGHT)))


def _elements(stream: IO[bytes], start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield identity, start and end of the elements of a part of a file (RFC 8794)."""
    at = start
    while at + 2 <= end:
        stream.seek(at)
        head = stream.read(12)
        if not head or not head[0]:
            return
        wide = 9 - head[0].bit_length()
        if len(head) <= wide or not head[wide]:
            return
        length = 9 - head[wide].bit_length()
        size = int.from_bytes(head[wide : wide + length], "big") & ((1 << (7 * length)) - 1)
        first = at + wide + length
        last = end if size == (1 << (7 * length)) - 1 else min(end, first + size)  # all ones: unknown
        yield int.from_bytes(head[:wide], "big"), first, last
        at = last
