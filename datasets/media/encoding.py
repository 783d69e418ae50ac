"""The formats that videos are written in: codec, bits, chroma and alpha, all in BT.709 and tagged so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from recapture.datasets.media.containers import VideoError

Codec = Literal["h264", "h265", "prores"]
ENCODERS: Mapping[str, str] = {"h264": "libx264", "h265": "libx265", "prores": "prores_ks"}
PAIRS: Mapping[str, tuple[int, int]] = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}  # rows, columns
# One thread: a stage has one CPU, and the number of threads changes the bytes. Macroblock trees of x264 are
# off because its AVX-512 code for them gives different bytes in one run out of ten; those of x265, because
# its code for them writes past its memory at widths of up to 48.
_X264 = {"x264-params": "mbtree=0:threads=1"}
_X265 = {"x265-params": "log-level=none:pools=none:frame-threads=1:wpp=0:no-cutree=1"}
_PRORES = {"vendor": "apl0"}  # of files that Apple's programs make; some read no other


@dataclass(frozen=True)
class Encoding:
    """A format of videos. bits, chroma: as `deliver` has them; alpha: with a channel of it (ProRes 4444)."""

    codec: Codec = "h264"
    bits: int = 8
    chroma: str = "420"
    alpha: bool = False
    crf: int = 18  # of x264 and x265
    preset: str = "fast"  # of x264 and x265

    @cached_property
    def pixel_format(self) -> str:
        """Return FFmpeg's name of the format."""
        deep = "" if self.bits == 8 else f"{self.bits}le"
        return f"yuv{'a' if self.alpha else ''}{self.chroma}p{deep}"

    @property
    def container(self) -> str:
        """Return FFmpeg's name of the container."""
        return "mov" if self.codec == "prores" else "mp4"

    @property
    def channels(self) -> int:
        """Return the channels of the frames that are written: 4 with alpha."""
        return 4 if self.alpha else 3

    def whole(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides that the chroma planes need: odd ones grow by one."""
        rows, columns = PAIRS[self.chroma]
        return height + -height % rows, width + -width % columns

    def check(self) -> None:
        """Raise VideoError if this build of FFmpeg cannot write the format."""
        name, way_out = ENCODERS[self.codec], "install PyAV as its maker builds it (pip install --force av)"
        if self.codec != "h264":
            way_out += ", or set deliver.codec h264"
        try:
            known = av.Codec(name, "w").video_formats or []
        except av.codec.codec.UnknownCodecError:
            raise VideoError(f"this build of FFmpeg has no encoder {name}; {way_out}") from None
        if self.pixel_format not in {one.name for one in known}:
            raise VideoError(f"the encoder {name} of this build writes no {self.pixel_format}; {way_out}")

    def add_stream(self, out: Any, shape: tuple[int, ...], fps: Fraction) -> Any:
        """Add a video stream for frames of this shape [H, W, C] to an open container."""
        self.check()
        stream = out.add_stream(ENCODERS[self.codec], rate=fps, options=self._options())
        stream.height, stream.width = self.whole(*shape[:2])
        stream.pix_fmt = self.pixel_format
        context = stream.codec_context
        context.time_base = 1 / fps
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709 in every H.273 table
        if self.codec == "h265":
            context.codec_tag = "hvc1"  # QuickTime plays no other
        return stream

    def _options(self) -> dict[str, str]:
        if self.codec == "prores":
            return _PRORES | {"profile": "4444" if self.chroma == "444" else "hq"}
        own = _X264 if self.codec == "h264" else _X265
        return {"crf": str(self.crf), "preset": self.preset, **own}


class ToYuv:
    """Converts frames to the samples of an encoding, tagged as what they are."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._reformatter = VideoReformatter()  # kept: a frame's own one is set up anew for each frame

    def __call__(self, frame: np.ndarray) -> Any:
        """Return a frame (uint8 RGB or RGBA [H, W, C]) as a PyAV frame, odd sides grown by repetition."""
        height, width = self._encoding.whole(*frame.shape[:2])
        if frame.shape[:2] != (height, width):
            more = [(0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)]
            frame = np.pad(frame, more, mode="edge")
        given = "rgba" if self._encoding.alpha else "rgb24"
        converted = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=given),
            format=self._encoding.pixel_format,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,  # a stage has one CPU, and many are slower at these sizes
        )
        # ProRes has its tags from the frames
        converted.color_primaries, converted.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return converted
