"""Frames as picture files come back as they were written."""

from typing import Any

import av
import cv2
import numpy as np
import pytest

from recapture.datasets.media import picture_files
from recapture.datasets.media.containers import VideoError
from recapture.datasets.media.picture_files import check_pictures, exr_file, png_file, to_linear

RNG = np.random.default_rng(0)


def read_exr(content: bytes) -> tuple[np.ndarray, str]:
    """The samples [H, W, C] in the order R, G, B, A, and FFmpeg's name of their format."""
    decoder: Any = av.CodecContext.create("exr", "r")
    frame = (decoder.decode(av.Packet(content)) + decoder.decode(None))[0]
    kind = np.float16 if "f16" in frame.format.name else np.float32
    planes = [np.frombuffer(one, kind).reshape(one.height, -1)[:, : one.width] for one in frame.planes]
    order = [0] if len(planes) == 1 else [2, 0, 1, 3][: len(planes)]
    return np.stack([planes[place] for place in order], -1), frame.format.name


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("half", [True, False])
def test_exr_holds_the_values_rounded_to_its_samples(channels: int, half: bool) -> None:
    values = RNG.normal(size=(19, 37, channels)).astype(np.float32) * 5
    values[3, 4] = np.inf
    found, kind = read_exr(exr_file(values[..., 0] if channels == 1 else values, half=half))
    assert kind == {1: "gray", 3: "gbrp", 4: "gbrap"}[channels] + ("f16le" if half else "f32le")
    assert np.array_equal(found, values.astype(np.float16 if half else np.float32))


def test_every_level_of_8_bits_comes_back_from_half_float_in_linear_light() -> None:
    code = np.arange(256, dtype=np.uint8)
    linear = to_linear(code)
    assert linear[[0, 255]].tolist() == [0, 1] and abs(linear[128] - 0.21586) < 1e-5
    light = linear.astype(np.float16).astype(np.float64)
    back = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.array_equal(np.round(back * 255).astype(np.uint8), code)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_keeps_every_byte_also_below_transparency(channels: int) -> None:
    pixels = RNG.integers(0, 256, (9, 13, channels), dtype=np.uint8)
    found = cv2.imdecode(np.frombuffer(png_file(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    back = cv2.cvtColor(found, cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGBA)
    assert np.array_equal(back, pixels)


def test_a_build_without_exr_is_an_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "EXR", "exr9")
    with pytest.raises(VideoError, match=r"writes no EXR; .* deliver\.frames png and deliver\.depth false"):
        check_pictures("exr")
    check_pictures("png")
