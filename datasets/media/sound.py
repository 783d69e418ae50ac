"""Carry the sound of one video over to another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import av
import fsspec
import numpy as np

from recapture.datasets.media.containers import open_container

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_LAYOUTS = ("mono", "stereo")
_BLOCK = 1024  # samples in one AAC frame
_DRIFT = 0.1  # seconds that time stamps may be off before samples are moved; ffmpeg's default
_SILENCE = 48000  # samples of silence made at a time
_END = object()


class NoSound(ValueError):
    """The source has no audio track."""


class SoundLost(ValueError):
    """The source has an audio track, of which nothing can be decoded; the message says why."""


class Sound:
    """The first audio track of a video, re-encoded to AAC into an open PyAV container piece by piece.

    uri: the source of the sound; start: where it begins, in seconds of the source's own time stamps.
    Rates that AAC does not support become 48 kHz; more than two channels become stereo. What cannot be
    decoded is silent, as are gaps between time stamps, so that the rest stays in time.
    Raises: NoSound if the source has no audio track, SoundLost if nothing of it can be decoded.
    """

    def __init__(self, out: Any, uri: str, start: float) -> None:
        self.damaged = 0  # packets that could not be decoded
        self._out, self._opened, self._start = out, ExitStack(), start
        try:
            stream = self._opened.enter_context(fsspec.open(uri, "rb"))
            self._source = self._opened.enter_context(open_container(stream, uri))
            frames = self._frames(uri)
            first = next(frames, None)
            if first is None:
                raise SoundLost(f"nothing of the sound of {uri!r} can be decoded")
            self._layout = first.layout.name if first.layout.name in _AAC_LAYOUTS else "stereo"
            self._rate = first.sample_rate if first.sample_rate in _AAC_RATES else 48000
            self._stream = out.add_stream("aac", rate=self._rate, layout=self._layout)
        except BaseException:
            self.close()
            raise
        self._channels = 1 if self._layout == "mono" else 2
        self._blocks = self._timed(first, frames)
        self._waiting: list[np.ndarray] = []  # blocks [channels, n] decoded and not yet written
        self._written = self._wanted = 0  # samples

    def play_until(self, seconds: float) -> None:
        """Write the sound up to this time, in whole AAC frames."""
        self._wanted = round(seconds * self._rate)
        while self._written + _BLOCK <= self._wanted and self._write(_BLOCK):
            pass

    def finish(self) -> None:
        """Write the rest up to the last time given to play_until, and flush the encoder."""
        while self._written < self._wanted and self._write(min(_BLOCK, self._wanted - self._written)):
            pass
        self._out.mux(self._stream.encode(None))

    def close(self) -> None:
        """Close the source."""
        self._opened.close()

    def _frames(self, uri: str) -> Iterator[Any]:
        """Yield the decoded frames of the track; after the first, None for what cannot be decoded."""
        if not self._source.streams.audio:
            raise NoSound(f"video {uri!r}: it has no sound to carry over")
        track = self._source.streams.audio[0]
        if track.codec_context is None:
            raise SoundLost(f"FFmpeg does not know the codec of the sound of {uri!r}")
        usual: Any = None  # format, layout and rate of the frames so far
        seen: Any = None  # those of the last frame, believed or not
        clock: Fraction | None = None
        for packet in self._packets(track):
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                frames = []
            if frames and packet.pts is not None:
                clock = packet.pts * packet.time_base
            for frame in frames:
                kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                # One frame of another kind is a damaged header; two are a change.
                believed = usual is None or kind in (usual, seen)
                usual, seen = kind if believed else usual, kind
                if frame.pts is not None:
                    clock = frame.pts * frame.time_base
                elif clock is not None:
                    frame.pts, frame.time_base = round(clock * usual[2]), Fraction(1, usual[2])
                if clock is not None:
                    clock += Fraction(frame.samples, usual[2])
                self.damaged += not believed
                yield frame if believed else None
            if usual is not None and not frames:
                yield None

    def _packets(self, track: Any) -> Iterator[Any]:
        """Yield the packets of the track, up to where the container itself is damaged."""
        try:
            yield from self._source.demux(track)
        except av.error.FFmpegError:
            self.damaged += 1

    def _timed(self, first: Any, frames: Iterator[Any]) -> Iterator[np.ndarray]:
        """Yield sound from the start on as [channels, n], each sample at the time that the file states."""
        here, exact = 0, True  # the samples yielded so far; whether the next ones go exactly to their time
        for time, samples in self._resampled(first, frames):
            if samples is None:
                exact = True
                continue
            gap = 0 if time is None else round((time - self._start) * self._rate) - here
            if exact or abs(gap) > _DRIFT * self._rate:
                while gap > 0:
                    silent = np.zeros((self._channels, min(gap, _SILENCE)), np.float32)
                    gap, here = gap - silent.shape[1], here + silent.shape[1]
                    yield silent
                samples = samples[:, -gap:] if gap else samples
                exact = not samples.shape[1]
            if samples.shape[1]:
                here += samples.shape[1]
                yield samples

    def _resampled(self, first: Any, frames: Iterator[Any]) -> Iterator[tuple[float | None, Any]]:
        """Yield time stamps (seconds) and samples [channels, n] at the target's rate; None for a gap."""
        resampler: Any = None
        kind: Any = None
        for frame in itertools.chain([first], frames, [_END]):
            if frame is None:
                yield None, None
                continue
            found = None if frame is _END else (frame.format.name, frame.layout.name, frame.sample_rate)
            parts: list[Any] = []
            try:
                if found != kind and resampler is not None:
                    parts += resampler.resample(None)
                if found is not None:
                    if found != kind:
                        resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
                    kind = found
                    parts += resampler.resample(frame)
            except (av.error.FFmpegError, ValueError):
                self.damaged += 1
                resampler, kind = None, None
                yield None, None
            yield from ((part.time, part.to_ndarray()) for part in parts if part is not None)

    def _write(self, count: int) -> bool:
        """Encode the next `count` samples; return False if the source has ended."""
        while sum(block.shape[1] for block in self._waiting) < count:
            block = next(self._blocks, None)
            if block is None:
                break
            self._waiting.append(block)
        if not self._waiting:
            return False
        joined = np.concatenate(self._waiting, axis=1)
        samples, rest = joined[:, :count], joined[:, count:]
        self._waiting = [rest] if rest.shape[1] else []
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate, self._written
        self._out.mux(self._stream.encode(frame))
        self._written += samples.shape[1]
        return True
