"""Carry the sound of one video over to another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import fsspec
import numpy as np

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_LAYOUTS = ("mono", "stereo")
_BLOCK = 1024  # samples in one AAC frame


class NoSound(ValueError):
    """The source has no audio track."""


class Sound:
    """The first audio track of a video, re-encoded to AAC into an open PyAV container piece by piece.

    uri: the source of the sound; start: where it begins, in seconds after the source's first picture.
    Rates that AAC does not support become 48 kHz; more than two channels become stereo.
    Raises: NoSound if the source has no audio track.
    """

    def __init__(self, out: Any, uri: str, start: float) -> None:
        self._out, self._file = out, fsspec.open(uri, "rb").open()
        self._source = av.open(self._file, "r")
        if not self._source.streams.audio:
            self.close()
            raise NoSound(f"video {uri!r}: it has no sound to carry over")
        track = self._source.streams.audio[0]
        self._layout = track.layout.name if track.layout.name in _AAC_LAYOUTS else "stereo"
        self._rate = track.rate if track.rate in _AAC_RATES else 48000
        self._stream = out.add_stream("aac", rate=self._rate, layout=self._layout)
        self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        self._blocks = self._decoded(track, start)
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
        self._source.close()
        self._file.close()

    def _decoded(self, track: Any, start: float) -> Iterator[np.ndarray]:
        """Yield sound from `start` on as [channels, n], preceded by silence if the track begins later."""
        surplus: int | None = None
        for frame in self._source.decode(track):
            if surplus is None:
                surplus = round((start + self._first_picture() - float(frame.time or 0)) * self._rate)
                if surplus < 0:
                    yield np.zeros((1 if self._layout == "mono" else 2, -surplus), np.float32)
                    surplus = 0
            for part in self._resampler.resample(frame):
                samples = part.to_ndarray()
                dropped = min(surplus, samples.shape[1])
                surplus -= dropped
                if dropped < samples.shape[1]:
                    yield samples[:, dropped:]

    def _first_picture(self) -> float:
        pictures = self._source.streams.video
        return float((pictures[0].start_time or 0) * pictures[0].time_base) if pictures else 0.0

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
