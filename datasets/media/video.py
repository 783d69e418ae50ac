"""Read and write videos with PyAV on any fsspec URL, with one frame in memory at a time."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from recapture.conf.heartbeat import beating
from recapture.datasets.media.containers import REPLACE_FILE, VideoError, opened
from recapture.datasets.media.cropping import stated_crop
from recapture.datasets.media.decoded_frames import Display, decoded
from recapture.datasets.media.encoding import Encoding, ToYuv
from recapture.datasets.media.packet_times import first_picture, packet_times, video_stream
from recapture.datasets.media.sound import NoSound, Sound, SoundLost
from recapture.datasets.media.sound_copy import CopiedSound, can_be_copied

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts")
_MP4 = {"movflags": "+faststart"}
AnySound = Sound | CopiedSound


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
    timing = packet_times(uri)
    first = next(iterate_frames(uri, 0, 1), None)
    if first is None:
        raise VideoError(f"video {uri!r}: it has no frame; {REPLACE_FILE}")
    height, width = first.shape[:2]
    frames = int(timing.shown.sum())
    return VideoInfo(timing.fps, frames, width, height, float(frames / timing.fps), timing.audio)


def iterate_frames(uri: str, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Decode frames start to stop-1 one at a time as uint8 RGB [H, W, 3], as a player shows them.

    Upright, with square pixels, deinterlaced, transparency over black, at a constant rate (docs/inputs.md).
    Frames before `start` are decoded and dropped, so frame numbers are the same everywhere.
    Raises: VideoError if the file cannot be opened, a frame cannot be decoded, or the size changes.
    """
    timing = packet_times(uri)
    with opened(uri) as container:
        stream = video_stream(container, uri)
        display = Display(stream, uri, stated_crop(uri, container, stream))
        index, size, last = 0, None, -1
        for frame in decoded(container, stream, uri):
            number = timing.number(frame, last)
            if number < 0:
                continue
            if number != last + 1:
                raise VideoError(f"video {uri!r}: frame {last + 1} cannot be decoded; {REPLACE_FILE}")
            last = number
            times = int(timing.shown[number]) if number < len(timing.shown) else 1
            if stop is not None and index >= stop:
                return
            if index + times > start and times:
                picture = display.picture(frame)
                if size is not None and picture.shape != size:
                    raise VideoError(
                        f"video {uri!r}: its size changes from {size[1]}x{size[0]} to "
                        f"{picture.shape[1]}x{picture.shape[0]} in frame {number}; cut it there"
                    )
                size = picture.shape
                for place in range(max(index, start), min(index + times, stop or index + times)):
                    yield picture if place == index else picture.copy()
            index += times
        if len(timing.pts) and last + 1 < len(timing.pts):
            raise VideoError(f"video {uri!r}: frame {last + 1} cannot be decoded; {REPLACE_FILE}")


def write_video(uri: str, frames: Iterable[np.ndarray], fps: Fraction, **options: Any) -> CarriedSound:
    """Write all frames as `video_writer` does, whose options these are; return what became of the sound."""
    with video_writer(uri, fps, **options) as video:
        for frame in beating(frames):
            video.add(frame)
    return video.sound


@contextmanager
def video_writer(
    uri: str,
    fps: Fraction,
    *,
    audio_from: str | None = None,
    audio_start: float = 0.0,
    audio_duration: float | None = None,
    crf: int = 18,
    encoding: Encoding | None = None,
) -> Iterator[VideoWriter]:
    """Write frames (uint8 RGB [H, W, 3]) in BT.709, with the sound of another video.

    encoding: the format; None: H.264 4:2:0 with 8 bits in MP4, at this crf. With alpha, frames are RGBA. An
    odd side grows by one repeated row or column where the format needs it. The sound is the first track of
    `audio_from` from `audio_start` seconds after its first picture on, for `audio_duration` seconds (None:
    the video's length): its packets as they are where that is possible (see `sound_copy.py`), else
    re-encoded to AAC. Damaged sound never prevents a video: the writer's `sound` says what was lost. The file
    appears complete, at the end of the context, or not at all.
    Raises: VideoError for no frames, frames of differing sizes or types, an audio_from without sound, or an
    encoder that is missing.
    """
    encoding = Encoding(crf=crf) if encoding is None else encoding
    try:
        with (
            _whole_file(uri) as path,
            av.open(path, "w", format=encoding.container, options=_MP4) as out,
            ExitStack() as opened_sound,
        ):

            def start_sound() -> tuple[AnySound | None, str]:
                given = (out, encoding.container, audio_from, audio_start)
                return opened_sound.enter_context(_sound(*given))

            video = VideoWriter(uri, out, fps, encoding, start_sound, audio_duration)
            yield video
            video.finish()
    except av.error.FFmpegError as error:
        raise VideoError(f"video {uri!r}: it cannot be written ({error.strerror}); check the disk") from error


class VideoWriter:
    """A video that is being written; see `video_writer`."""

    def __init__(
        self,
        uri: str,
        out: Any,
        fps: Fraction,
        encoding: Encoding,
        start_sound: Callable[[], tuple[AnySound | None, str]],
        audio_duration: float | None,
    ) -> None:
        self._uri, self._out, self._fps, self._encoding = uri, out, fps, encoding
        self._start_sound, self._audio_duration = start_sound, audio_duration
        self._picture: Any = None  # the stream, once there is a first frame
        self._sound: AnySound | None = None
        self._lost = ""
        self._count = 0
        self._to_yuv = ToYuv(encoding)

    @property
    def sound(self) -> CarriedSound:
        """Return what became of the sound so far."""
        damaged = self._sound.damaged if self._sound is not None else 0
        return CarriedSound(damaged, isinstance(self._sound, CopiedSound), self._lost)

    def add(self, frame: np.ndarray) -> None:
        """Write the next frame."""
        self._check(frame)
        if self._picture is None:
            self._size = frame.shape
            self._picture = self._encoding.add_stream(self._out, frame.shape, self._fps)
            self._sound, self._lost = self._start_sound()
        picture, index = self._picture, self._count
        converted = self._to_yuv(frame)
        converted.pts, converted.time_base = index, 1 / self._fps
        self._out.mux(picture.encode(converted))
        self._count += 1
        if self._sound is not None:
            elapsed, wanted = float(self._count / self._fps), self._audio_duration
            self._sound.play_until(elapsed if wanted is None else min(elapsed, wanted))

    def _check(self, frame: np.ndarray) -> None:
        """Raise VideoError unless the frame is of the format's channels and like the first one."""
        uri, channels = self._uri, self._encoding.channels
        if frame.ndim != 3 or frame.shape[2] != channels:
            raise VideoError(f"video {uri!r}: frames must be [H, W, {channels}], got {list(frame.shape)}")
        size = frame.shape if self._picture is None else self._size
        if frame.shape != size or frame.dtype != np.uint8:
            raise VideoError(
                f"video {uri!r}: frame {self._count} is {frame.dtype} {list(frame.shape)}, "
                f"the first one was uint8 of {size[0]}x{size[1]} pixels"
            )

    def finish(self) -> None:
        """Write what the encoder holds back. Raises VideoError if there was no frame."""
        if self._picture is None:
            raise VideoError(f"video {self._uri!r}: there are no frames to write")
        self._out.mux(self._picture.encode(None))
        if self._sound is not None:
            self._sound.finish()


@dataclass(frozen=True)
class CarriedSound:
    """What became of the sound that write_video was to carry over."""

    damaged_packets: int = 0  # silent instead
    copied: bool = False  # its packets are the source's
    lost: str = ""  # why there is no sound at all; empty if there is, or none was wanted


@contextmanager
def _sound(out: Any, container: str, uri: str | None, start: float) -> Iterator[tuple[AnySound | None, str]]:
    """Open the sound of a video; give None and the reason if nothing of it can be decoded."""
    sound: AnySound | None = None
    lost = ""
    try:
        if uri is not None:
            first = first_picture(uri)
            copied = start == 0 and can_be_copied(uri, first, container)
            sound = CopiedSound(out, uri, first) if copied else Sound(out, uri, first + start)
    except SoundLost as error:
        lost = str(error)
    except (NoSound, av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{error}; give audio_from a video with sound, or leave it out") from error
    with nullcontext() if sound is None else closing(sound):
        yield sound, lost


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
