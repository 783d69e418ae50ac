"""The files of a result: the video in its format, and every frame as a picture where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from recapture.conf.deliver import DeliverConfig
from recapture.conf.errors import UserError
from recapture.datasets.media.containers import VideoError
from recapture.datasets.media.encoding import Encoding
from recapture.datasets.media.picture_files import check_pictures, exr_file, png_file, to_linear
from recapture.datasets.media.video import CarriedSound, VideoWriter, video_writer
from recapture.datasets.store.writer import ArtifactWriter


@dataclass(frozen=True)
class SoundSource:
    """Where the sound of a result comes from; uri None: it has none."""

    uri: str | None
    start: float  # seconds after the first picture
    duration: float  # seconds


def video_encoding(config: DeliverConfig) -> Encoding:
    """Return the format of the video."""
    return Encoding(
        config.codec, config.depth_in_bits, config.subsampling, config.video_alpha, crf=config.crf
    )


def check_formats(config: DeliverConfig) -> None:
    """Raise UserError if this build of FFmpeg cannot write what is wanted."""
    try:
        video_encoding(config).check()
        if config.frames == "exr" or config.depth:
            check_pictures("exr")
    except VideoError as error:
        raise UserError(f"deliver: {error}") from error


class ResultFiles:
    """Writes the frames of a result, one by one; use `result_files`."""

    def __init__(self, config: DeliverConfig, output: ArtifactWriter, video: VideoWriter) -> None:
        self._config, self._output, self._video, self._count = config, output, video, 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of pictures that `add` needs of each frame."""
        known = ("known",) if self._config.alpha else ()
        return ("result", *known, *(("depth",) if self._config.depth else ()))

    @property
    def sound(self) -> CarriedSound:
        """Return what became of the sound."""
        return self._video.sound

    def add(self, pictures: Mapping[str, np.ndarray]) -> None:
        """Write a frame: result uint8 [h,w,3], known bool [h,w], depth float [h,w]."""
        config, number = self._config, f"{self._count:05}"
        colours = pictures["result"]
        alpha = pictures["known"].astype(np.uint8) * 255 if config.alpha else None
        both = colours if alpha is None else np.dstack([colours, alpha])
        self._video.add(both if config.video_alpha else colours)
        if config.frames == "png":
            self._output.write_bytes(f"frame.{number}.png", png_file(both))
        elif config.frames == "exr":
            linear = to_linear(colours)
            if alpha is not None:
                linear = np.dstack([linear, alpha.astype(np.float32) / 255])
            self._output.write_bytes(f"frame.{number}.exr", exr_file(linear, half=True))
        if config.depth:
            self._output.write_bytes(f"depth.{number}.exr", exr_file(pictures["depth"], half=False))
        self._count += 1


@contextmanager
def result_files(
    config: DeliverConfig, output: ArtifactWriter, fps: Fraction, sound: SoundSource
) -> Iterator[ResultFiles]:
    """Open the files of a result; they are stored at the end of the context."""
    with ExitStack() as files:
        video = files.enter_context(
            video_writer(
                files.enter_context(output.local_file(config.file)),
                fps,
                encoding=video_encoding(config),
                audio_from=sound.uri,
                audio_start=sound.start,
                audio_duration=sound.duration,
            )
        )
        yield ResultFiles(config, output, video)
