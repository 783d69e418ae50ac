"""Read and write videos with PyAV on any fsspec URL, with one frame in memory at a time."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from fsspec.implementations.local import LocalFileSystem

from recapture.datasets.media.decoded_frames import displayed, progressive
from recapture.datasets.media.sound import NoSound, Sound
from recapture.datasets.media.timing import TimingError, constant_rate
from recapture.datasets.media.truncated_files import missing_bytes

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts")
REPLACE_FILE = "replace the file or remove it from the dataset"
_MP4 = {"movflags": "+faststart"}
# Macroblock trees are off because x264's AVX-512 code for them gives different bytes in one run out of ten.
_X264 = {"preset": "fast", "x264-params": "mbtree=0"}


class VideoError(ValueError):
    """A video cannot be read or written; the message names it, what is wrong and the way out."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds: the number of frames that decode, width and height as a player shows it."""

    fps: Fraction
    frames: int
    width: int
    height: int
    duration: float  # seconds
    audio: bool


def probe(uri: str) -> VideoInfo:
    """Read all packets of a video and decode its first frame.

    Counting packets without decoding them finds truncated files, which headers do not reveal. A video of
    variable frame rate is described as iterate_frames yields it: at a constant rate.
    Raises: VideoError if it is not a video, has no frame, or holds less than its header promises.
    """
    timing = _timing(uri)
    first = next(iterate_frames(uri, 0, 1), None)
    if first is None:
        raise VideoError(f"video {uri!r}: it has no frame; {REPLACE_FILE}")
    height, width = first.shape[:2]
    frames = int(timing.shown.sum())
    return VideoInfo(timing.fps, frames, width, height, float(frames / timing.fps), timing.audio)


def iterate_frames(uri: str, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Decode frames start to stop-1 one at a time as uint8 RGB [H, W, 3], as a player shows them.

    Rotated as the file says, with square pixels, deinterlaced, transparency over black, at a constant rate
    (see timing.py). Frames before `start` are decoded and dropped, so frame numbers are the same everywhere.
    Raises: VideoError if the file cannot be opened, a frame cannot be decoded, or the size changes.
    """
    shown = _timing(uri).shown
    with _opened(uri) as container:
        stream = _video_stream(container, uri)
        index, size = 0, None
        for number, frame in enumerate(progressive(container.decode(stream), stream)):
            times = int(shown[number]) if number < len(shown) else 1
            if stop is not None and index >= stop:
                return
            if index + times > start and times:
                picture = displayed(frame, stream)
                if size is not None and picture.shape != size:
                    raise VideoError(
                        f"video {uri!r}: its size changes from {size[1]}x{size[0]} to "
                        f"{picture.shape[1]}x{picture.shape[0]} in frame {number}; cut it there"
                    )
                size = picture.shape
                for place in range(max(index, start), min(index + times, stop or index + times)):
                    yield picture if place == index else picture.copy()
            index += times


@dataclass(frozen=True)
class _Timing:
    """A video's constant rate, how often each of its frames is repeated at it, and whether it has sound."""

    fps: Fraction
    shown: np.ndarray  # [frames in the file] int64
    audio: bool


def _timing(uri: str) -> _Timing:
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        state = fs.ukey(path)
    except (OSError, NotImplementedError):
        state = ""
    return _timing_of(uri, state)


@lru_cache(maxsize=128)
def _timing_of(uri: str, state: str) -> _Timing:
    """Read the times of all packets; the cache avoids doing so again while the file's state is unchanged."""
    with _opened(uri) as container:
        stream = _video_stream(container, uri)
        stated = stream.average_rate or stream.guessed_rate or stream.base_rate
        promised, audio = stream.frames, bool(container.streams.audio)
        present, times = 0, []
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is None:
                continue  # the flush packet after the last one
            if packet.is_corrupt:
                raise VideoError(f"video {uri!r}: it is cut off in frame {present}; {REPLACE_FILE}")
            present += 1
            if packet.size > 0 and not packet.is_discard:
                times.append(None if packet.pts is None else float(packet.pts * packet.time_base))
    if present < promised:
        raise VideoError(
            f"video {uri!r}: it is truncated, with {present} of the {promised} frames that its header "
            f"promises; {REPLACE_FILE}"
        )
    if not times:
        raise VideoError(f"video {uri!r}: it has no frame; {REPLACE_FILE}")
    known = sorted(time for time in times if time is not None)
    if len(known) < len(times):  # as in AVI with B-frames: only the rate is known
        known = [index / float(stated or 1) for index in range(len(times))]
    try:
        fps, shown = constant_rate(known, Fraction(stated) if stated else None)
    except TimingError as error:
        raise VideoError(f"video {uri!r}: {error}") from error
    return _Timing(fps, shown, audio)


def write_video(
    uri: str,
    frames: Iterable[np.ndarray],
    fps: Fraction,
    *,
    audio_from: str | None = None,
    audio_start: float = 0.0,
    audio_duration: float | None = None,
    crf: int = 18,
) -> None:
    """Write frames (uint8 RGB [H, W, 3]) as H.264 4:2:0 MP4 in BT.709, with the sound of another video.

    An odd side grows by one repeated row or column, which 4:2:0 needs. The sound is the first track of
    `audio_from` from `audio_start` seconds on, for `audio_duration` seconds (None: the video's length),
    re-encoded to AAC. The file appears complete or not at all.
    Raises: VideoError for no frames, frames of differing sizes or types, or an audio_from without sound.
    """
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise VideoError(f"video {uri!r}: there are no frames to write")
    try:
        with _whole_file(uri) as path, av.open(path, "w", format="mp4", options=_MP4) as out:
            picture = _add_video(out, first, fps, crf, uri)
            with _sound(out, audio_from, audio_start) as sound:
                for index, frame in enumerate(itertools.chain([first], remaining)):
                    out.mux(picture.encode(_to_yuv(frame, picture, index, fps, uri)))
                    if sound is not None:
                        elapsed = float((index + 1) / fps)
                        sound.play_until(elapsed if audio_duration is None else min(elapsed, audio_duration))
                out.mux(picture.encode(None))
                if sound is not None:
                    sound.finish()
    except av.error.FFmpegError as error:
        sources = f"check the disk, and the sound of {audio_from!r}" if audio_from else "check the disk"
        raise VideoError(f"video {uri!r}: it cannot be written ({error.strerror}); {sources}") from error


def _sound(out: Any, uri: str | None, start: float) -> AbstractContextManager[Sound | None]:
    if uri is None:
        return nullcontext()
    try:
        return closing(Sound(out, uri, start))
    except (NoSound, av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{error}; give audio_from a video with sound, or leave it out") from error


@contextmanager
def _opened(uri: str) -> Iterator[Any]:
    """Open a container for reading; errors in opening it or decoding inside the block become VideoErrors."""
    try:
        with fsspec.open(uri, "rb") as stream:
            if not stream.read(1):
                raise VideoError(f"video {uri!r}: it is empty (0 bytes); {REPLACE_FILE}")
            missing = missing_bytes(stream)
            if missing:
                raise VideoError(f"video {uri!r}: it is cut off, {missing} bytes are missing; {REPLACE_FILE}")
            with av.open(stream, "r") as container:
                yield container
    except FileNotFoundError as error:
        raise VideoError(f"video {uri!r}: there is no such file; check its path") from error
    except IsADirectoryError as error:
        raise VideoError(f"video {uri!r}: it is a directory, not a file; rename or remove it") from error
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise VideoError(f"video {uri!r}: it cannot be decoded ({reason}); {REPLACE_FILE}") from error


def _video_stream(container: Any, uri: str) -> Any:
    stream = container.streams.best("video")  # never an attached cover picture
    if stream is None:
        raise VideoError(f"video {uri!r}: it has no video stream; {REPLACE_FILE}")
    return stream


@contextmanager
def _whole_file(uri: str) -> Iterator[str]:
    """Give a local path to write to; on success the file is moved or uploaded to uri in one step."""
    fs, path = fsspec.core.url_to_fs(uri)
    local = isinstance(fs, LocalFileSystem)
    folder = Path(path).parent if local else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{uuid.uuid4().hex}.part"
    try:
        yield str(part)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        if local:
            part.replace(path)
        else:
            fs.put_file(str(part), path)
    finally:
        part.unlink(missing_ok=True)
        if not local:
            folder.rmdir()


def _add_video(out: Any, frame: np.ndarray, fps: Fraction, crf: int, uri: str) -> Any:
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise VideoError(f"video {uri!r}: frames must be [H, W, 3], got {list(frame.shape)}")
    stream = out.add_stream("libx264", rate=fps, options={"crf": str(crf)} | _X264)
    stream.height, stream.width = (side + side % 2 for side in frame.shape[:2])
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / fps
    context.color_range = ColorRange.MPEG
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709 in every H.273 table
    return stream


def _to_yuv(frame: np.ndarray, stream: Any, index: int, fps: Fraction, uri: str) -> Any:
    height, width = (side + side % 2 for side in frame.shape[:2])
    if (height, width) != (stream.height, stream.width) or frame.dtype != np.uint8:
        raise VideoError(
            f"video {uri!r}: frame {index} is {frame.dtype} {list(frame.shape)}, "
            f"the first one was uint8 of {stream.height}x{stream.width} pixels"
        )
    even = np.pad(frame, [(0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)], mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    picture.pts, picture.time_base = index, 1 / fps
    return picture
