"""Single frames as picture files: PNG, and OpenEXR by FFmpeg's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np

from recapture.datasets.media.containers import VideoError

Format = Literal["png", "exr"]
EXR = "exr"  # of FFmpeg's encoders
_PLANAR: Mapping[int, str] = {1: "grayf32le", 3: "gbrpf32le", 4: "gbrapf32le"}
_PLANES = (1, 2, 0, 3)  # FFmpeg's planes are green, blue, red, alpha


def check_pictures(kind: Format) -> None:
    """Raise VideoError if pictures of this format cannot be written here."""
    if kind == "exr":
        try:
            av.Codec(EXR, "w")
        except av.codec.codec.UnknownCodecError:
            raise VideoError(
                "this build of FFmpeg writes no EXR; install PyAV as its maker builds it "
                "(pip install --force av), or set deliver.frames png and deliver.depth false"
            ) from None


def png_file(pixels: np.ndarray) -> bytes:
    """Return uint8 RGB or straight RGBA [H, W, C] as a PNG."""
    order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, order))[1])


def exr_file(pixels: np.ndarray, *, half: bool) -> bytes:
    """Return float [H, W], or linear RGB or RGBA [H, W, C], as an OpenEXR file, losslessly compressed.

    half: 16 bits per sample, else 32. One channel is called Y. Colours are stored as they are given, also
    where alpha is 0.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    height, width = pixels.shape[:2]
    encoder: Any = av.CodecContext.create(EXR, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, _PLANAR[channels]
    encoder.options = {"format": "half" if half else "float", "compression": "zip16"}
    encoder.thread_count = 1
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame(width, height, _PLANAR[channels])
    for place, plane in zip(_PLANES, frame.planes):
        samples = pixels if pixels.ndim == 2 else pixels[..., place if channels > 1 else 0]
        rows = np.zeros((height, plane.line_size // 4), dtype=np.float32)
        rows[:, :width] = samples.astype(np.float16) if half else samples  # the encoder would truncate
        plane.update(rows.tobytes())
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def to_linear(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 sRGB values as linear light, float32 in 0...1 (IEC 61966-2-1)."""
    linear: np.ndarray = _LINEAR[pixels]
    return linear


def _curve() -> np.ndarray:
    code = np.arange(256) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR = _curve()
