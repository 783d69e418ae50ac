"""Decode frames and turn them into what a player shows: upright, square pixels, sRGB, without alpha."""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter

from recapture.conf.heartbeat import beating
from recapture.datasets.media.containers import LARGEST_FRAME, REPLACE_FILE, VideoError
from recapture.datasets.media.cropping import Crop

# FFmpeg's own decoders of these codecs drop the transparency that WebM stores beside the picture.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_WIDEST_PIXEL = 8  # times as wide as high, or the other way round
_UNKNOWN_MATRIX = (0, 2, 3)  # RGB, unspecified, reserved: codes of H.273, table 4
_KNOWN_MATRICES = (1, 4, 5, 6, 7, 9)
_kept = threading.local()
_NEWEST_SIDE_DATA = 64  # no kind of FFmpeg has this number
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def decoded(container: Any, stream: Any, uri: str) -> Iterator[Any]:
    """Yield the frames of a stream as PyAV frames in display order, deinterlaced, with their transparency.

    Raises: VideoError that names the frame if one cannot be decoded.
    """
    return _progressive(_frames(container, stream, uri), stream)


def _frames(container: Any, stream: Any, uri: str) -> Iterator[Any]:
    decoder = stream.codec_context
    if decoder is None:
        raise VideoError(f"video {uri!r}: its codec is unknown to FFmpeg; convert the file to H.264")
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in _ALPHA_DECODERS:
        decoder = av.CodecContext.create(_ALPHA_DECODERS[decoder.name], "r")
    decoder.options = {**decoder.options, "max_pixels": str(LARGEST_FRAME)}
    count = 0
    for packet in beating(container.demux(stream)):
        try:
            frames = decoder.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            raise VideoError(
                f"video {uri!r}: after frame {count} the picture is damaged, or has more than "
                f"{LARGEST_FRAME} pixels ({error.strerror}); cut it "
                "there, repair the file or remove it from the dataset"
            ) from error
        count += len(frames)
        yield from frames


def _progressive(frames: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Yield as many frames, passed through ffmpeg's yadif from the first interlaced one on."""
    remaining = iter(frames)
    for first in remaining:
        if first.interlaced_frame:
            break
        yield first
    else:
        return
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    graph.link_nodes(source, graph.add("yadif", "deint=interlaced"), graph.add("buffersink")).configure()
    for frame in itertools.chain([first], remaining, [None]):
        graph.push(frame)
        while True:
            try:
                yield graph.pull()
            except (BlockingIOError, av.error.EOFError):
                break


class Display:
    """Turns the decoded frames of one stream into pictures, as its metadata says."""

    def __init__(self, stream: Any, uri: str, crop: Crop) -> None:
        self._stream, self._uri, self._crop = stream, uri, crop
        self._reformatter = VideoReformatter()

    def picture(self, frame: Any) -> np.ndarray:
        """Return a frame as uint8 RGB [H, W, 3]; raises VideoError for metadata that cannot be applied."""
        turned = frame  # keeps its display matrix
        frame = self._cropped(frame) if self._crop else frame
        width = max(1, round(frame.width * self._pixel_aspect()))
        alpha, reformatter = self._has_alpha(frame), self._reformatter
        if frame.color_trc in _HDR:
            # Without what it says of its mastering display, whose peak FFmpeg would make white.
            frame, reformatter = _filtered(frame, ("sidedata", "mode=delete")), _hdr_reformatter()
        # One thread: a worker has one CPU, and many are slower at these sizes.
        converted = reformatter.reformat(
            frame, width=width, format="rgba" if alpha else "rgb24", threads=1, **self._colours(frame)
        )
        pixels = converted.to_ndarray()
        return _upright(_over_black(pixels) if alpha else pixels, turned)

    def _has_alpha(self, frame: Any) -> bool:
        """Return whether a frame has transparency; AVI's plain 32-bit pictures have an idle byte."""
        if self._stream.codec_context.name == "rawvideo" and not self._stream.codec_tag.strip("\0"):
            return False
        return any(component.is_alpha for component in frame.format.components)

    def _cropped(self, frame: Any) -> Any:
        crop = self._crop
        wide, high = frame.width - crop.left - crop.right, frame.height - crop.top - crop.bottom
        if wide < 1 or high < 1:
            raise VideoError(
                f"video {self._uri!r}: it says that nothing of its picture is shown; {REPLACE_FILE}"
            )
        return _filtered(frame, ("crop", f"{wide}:{high}:{crop.left}:{crop.top}:exact=1"))

    def _pixel_aspect(self) -> Fraction:
        """Return how many times as wide as high a pixel is; the container takes precedence, as in players."""
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if not aspect:
            return Fraction(1)
        if not Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
            raise VideoError(
                f"video {self._uri!r}: it says that a pixel is {aspect.numerator}:{aspect.denominator} wide "
                f"to high; correct its pixel aspect, or {REPLACE_FILE}"
            )
        return Fraction(aspect)

    def _colours(self, frame: Any) -> dict[str, Any]:
        """Return the arguments of reformat that its tags do not say by themselves."""
        hdr = frame.color_trc in _HDR
        found: dict[str, Any] = (
            {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709} if hdr else {}
        )
        if frame.format.is_rgb:
            return found
        if frame.colorspace in _UNKNOWN_MATRIX:
            if hdr:
                found["src_colorspace"] = Colorspace.BT2020
            elif frame.width >= 1280 or frame.height > 576:  # mpv's rule
                found["src_colorspace"] = Colorspace.ITU709
        elif frame.colorspace not in _KNOWN_MATRICES:
            raise VideoError(
                f"video {self._uri!r}: its colours are coded by matrix {frame.colorspace} of H.273, which is "
                "not read; convert it to BT.709"
            )
        return found


def _hdr_reformatter() -> VideoReformatter:
    """Return this thread's converter of HDR, kept because its table takes seconds to make."""
    if not hasattr(_kept, "hdr"):
        _kept.hdr = VideoReformatter()
    kept: VideoReformatter = _kept.hdr
    return kept


def _over_black(rgba: np.ndarray) -> np.ndarray:
    share = rgba[..., 3:].astype(np.uint16)
    composited: np.ndarray = ((rgba[..., :3] * share + 127) // 255).astype(np.uint8)
    return composited


def _upright(pixels: np.ndarray, frame: Any) -> np.ndarray:
    """Return pixels turned and mirrored as the frame's display matrix says, to the nearest quarter turn."""
    stated = _known_side_data(frame).get(SideDataType.DISPLAYMATRIX)
    if stated is None:
        return pixels
    # ISO 14496-12, section 6.2.2: x' = a x + c y and y' = b x + d y.
    a, b, _, c, d = struct.unpack("5i", bytes(stated)[:20])
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _known_side_data(frame: Any) -> Any:
    """Return a frame's side data; kinds that are newer than PyAV, on which it raises, are removed first."""
    try:
        return frame.side_data
    except ValueError:
        newer = range(len(SideDataType), _NEWEST_SIDE_DATA)
        return _filtered(frame, *(("sidedata", f"mode=delete:type={number}") for number in newer)).side_data


def _filtered(frame: Any, *filters: tuple[str, str]) -> Any:
    """Return a frame after FFmpeg's filters of these names and arguments."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1)
    )
    chain = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *chain, graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()
