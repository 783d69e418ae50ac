"""Open a media file with FFmpeg: only the listed formats, and never another file or the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import av

from recapture.datasets.media.mp4_boxes import refers_to_another_file
from recapture.datasets.media.read_once import opened_file
from recapture.datasets.media.truncated_files import missing_bytes

REPLACE_FILE = "replace the file or remove it from the dataset"
LARGEST_FRAME = 2**27  # pixels; a file of a hundred bytes may state thousands of times as many
ELSEWHERE = "it keeps its pictures or sound in another file; write all of it into one file"
# FFmpeg's names of its demuxers. Playlists and scripts (hls, dash, sdp, concat, image2) are not among them.
FORMATS = ("mov", "matroska", "avi", "gif", "mpeg", "mpegvideo", "mpegts")
# A file of these formats can name others; neither FFmpeg's protocols nor PyAV's io_open open any for it.
_OPTIONS: Mapping[str, str] = {
    "format_whitelist": ",".join(FORMATS),
    "protocol_whitelist": "",
    "enable_drefs": "0",
}


class VideoError(ValueError):
    """A video cannot be read or written; the message names it, what is wrong and the way out."""


@contextmanager
def opened(uri: str) -> Iterator[Any]:
    """Open a container for reading; errors in opening it or decoding inside the block become VideoErrors."""
    try:
        with opened_file(uri) as stream, open_container(stream, uri) as container:
            yield container
    except FileNotFoundError as error:
        raise VideoError(f"video {uri!r}: there is no such file; check its path") from error
    except IsADirectoryError as error:
        raise VideoError(f"video {uri!r}: it is a directory, not a file; rename or remove it") from error
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise VideoError(f"video {uri!r}: it cannot be decoded ({reason}); {REPLACE_FILE}") from error


def open_container(stream: IO[bytes], uri: str) -> Any:
    """Return the PyAV container of an open file. No other function lets FFmpeg open a file for reading.

    Raises: VideoError if the file is empty, cut off, in none of FORMATS, or has its content elsewhere.
    """
    if not stream.read(1):
        raise VideoError(f"video {uri!r}: it is empty (0 bytes); {REPLACE_FILE}")
    missing = missing_bytes(stream)
    if missing:
        raise VideoError(f"video {uri!r}: it is cut off, {missing} bytes are missing; {REPLACE_FILE}")

    def refuse(url: str, flags: int, options: Mapping[str, str]) -> Any:
        raise VideoError(f"video {uri!r}: {ELSEWHERE}")

    if refers_to_another_file(stream):
        raise VideoError(f"video {uri!r}: {ELSEWHERE}")
    try:
        options = {"max_pixels": str(LARGEST_FRAME)}  # also where FFmpeg decodes a frame to find its format
        return av.open(stream, "r", options=options, container_options=dict(_OPTIONS), io_open=refuse)
    except (av.error.ArgumentError, av.error.InvalidDataError) as error:
        raise VideoError(
            f"video {uri!r}: it is not an MP4, MOV, Matroska, WebM, AVI, GIF or MPEG file, or its header is "
            f"damaged; {REPLACE_FILE}"
        ) from error
