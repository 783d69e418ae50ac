"""Find truncated files by the length that their headers state, before anything is decoded."""

from __future__ import annotations

from typing import IO

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(stream: IO[bytes]) -> int:
    """Return how many bytes are missing at the end of an MP4 (MOV), AVI, Matroska (WebM) or GIF; else 0.

    The stream is at its start afterwards.
    """
    stream.seek(0)
    head = stream.read(64)
    size = stream.seek(0, 2)
    stated = 0
    if head[:4] == b"RIFF" and len(head) >= 8:
        stated = _chunks_end(stream, size)
    elif head[4:8] in _BOXES:
        stated = _boxes_end(stream, size)
    elif head[:4] == _EBML:
        stated = _matroska_size(head)
    elif head[:3] == b"GIF":
        stream.seek(max(0, size - 1))
        stated = size if stream.read(1) == b";" else size + 1
    stream.seek(0)
    return max(0, stated - size)


def _chunks_end(stream: IO[bytes], size: int) -> int:
    """Return where the last RIFF chunk ends; an AVI above 1 GB has several (OpenDML)."""
    at = 0
    while at < size:
        stream.seek(at)
        head = stream.read(8)
        if head[:4] != b"RIFF" or len(head) < 8:
            return at
        at += 8 + int.from_bytes(head[4:], "little")
    return at


def _boxes_end(stream: IO[bytes], size: int) -> int:
    """Return where the last top-level box ends (ISO 14496-12, section 4.2)."""
    at = 0
    while at < size:
        stream.seek(at)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if len(head) < 8:
            return at + 8
        if length < 8:  # 0 means to the end of the file; 1 to 7 are not valid boxes
            return size
        at += length
    return at


def _matroska_size(head: bytes) -> int:
    """Return where the segment ends, or 0 if it does not state its size (RFC 8794, section 4; RFC 9559)."""
    length, after = _vint(head, 4)
    start = after + (length or 0)
    if head[start : start + 4] != _SEGMENT:
        return 0
    length, after = _vint(head, start + 4)
    return after + length if length is not None else 0


def _vint(content: bytes, at: int) -> tuple[int | None, int]:
    """Return a variable-size integer and the position after it; None for the value that means unknown."""
    if at >= len(content) or not content[at]:
        return None, at
    width = 9 - content[at].bit_length()
    value = int.from_bytes(content[at : at + width], "big") & ((1 << (7 * width)) - 1)
    return (None if value == (1 << (7 * width)) - 1 else value), at + width
