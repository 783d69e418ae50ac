"""Read boxes of MP4 and MOV files (ISO 14496-12) that FFmpeg passes over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

_LARGEST_INDEX = 1 << 28  # bytes; the moov box of a day of video is below this
_REFERENCES = ("trak", "mdia", "minf", "dinf", "dref")
_SELF_CONTAINED = 1


def refers_to_another_file(stream: IO[bytes]) -> bool:
    """Return whether a track has its samples in another file (section 8.7.2); rewind the stream."""
    content = movie(stream)
    stream.seek(0)
    for body in descend(content, _REFERENCES):
        for _, entry in boxes(body[8:]):  # after version, flags and the number of entries
            if len(entry) >= 4 and not entry[3] & _SELF_CONTAINED:
                return True
    return False


def movie(stream: IO[bytes]) -> bytes:
    """Return the content of the moov box of an open file; empty if there is none."""
    size, at = stream.seek(0, 2), 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        length, skip = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, skip = int.from_bytes(head[8:], "big"), 16
        elif length == 0:
            length = size - at
        if length < skip:
            break
        if head[4:8] == b"moov":
            stream.seek(at + skip)
            return stream.read(min(length - skip, _LARGEST_INDEX))
        at += length
    return b""


def descend(content: bytes, path: tuple[str, ...]) -> Iterator[bytes]:
    """Yield the contents of all boxes at a path."""
    if not path:
        yield content
        return
    for kind, body in boxes(content):
        if kind == path[0]:
            yield from descend(body, path[1:])


def boxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the type and content of each box, up to the first one that is none."""
    at = 0
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if length < 8:
            return
        yield content[at + 4 : at + 8].decode("latin-1"), content[at + 8 : at + length]
        at += length
