"""Formats of written videos: a reader finds what was asked for, and what is missing is named."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recapture.datasets.media import encoding
from recapture.datasets.media.containers import VideoError
from recapture.datasets.media.encoding import Encoding, ToYuv
from recapture.datasets.media.video import iterate_frames, video_writer, write_video

FORMATS = [
    (Encoding("h264", 8, "420"), "yuv420p", "h264"),
    (Encoding("h264", 10, "420"), "yuv420p10le", "h264"),
    (Encoding("h264", 10, "444"), "yuv444p10le", "h264"),
    (Encoding("h265", 8, "420"), "yuv420p", "hevc"),
    (Encoding("h265", 10, "422"), "yuv422p10le", "hevc"),
    (Encoding("h265", 10, "444"), "yuv444p10le", "hevc"),
    (Encoding("prores", 10, "422"), "yuv422p10le", "prores"),
    (Encoding("prores", 10, "444"), "yuv444p12le", "prores"),  # FFmpeg decodes 4444 to 12 bits
    (Encoding("prores", 10, "444", alpha=True), "yuva444p12le", "prores"),
]


def smooth(count: int, height: int, width: int) -> list[np.ndarray]:
    """Colours that change slowly, so that subsampled chroma loses little."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / 17 + x / 23 + c) * 90 + 120 for c in range(3)]
    return [np.stack(waves, -1).astype(np.uint8) + np.uint8(2 * t) for t in range(count)]


def written(path: Path, kind: Encoding, frames: list[np.ndarray]) -> list["Seen"]:
    write_video(str(path), frames, Fraction(24), encoding=kind)
    with av.open(str(path)) as container:
        return [Seen.of(one) for one in container.decode(video=0)]


@dataclass(frozen=True)
class Seen:
    """What a decoded frame says of itself, read while its file is open."""

    tags: tuple[int, ...]
    rotation: int
    shape: tuple[int, int]
    rgba: np.ndarray

    @classmethod
    def of(cls, frame) -> "Seen":
        tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
        return cls(
            tags, frame.rotation, (frame.height, frame.width), frame.to_ndarray(format="rgba").astype(int)
        )


@pytest.mark.parametrize(
    ("kind", "pixels", "codec"), FORMATS, ids=lambda one: getattr(one, "pixel_format", "")
)
def test_a_reader_finds_the_format_its_colours_and_no_rotation(
    kind: Encoding, pixels: str, codec: str, tmp_path: Path
) -> None:
    rgb = smooth(3, 32, 48)
    alpha = np.zeros((32, 48, 1), np.uint8)
    alpha[:, 24:] = 255
    frames = [np.concatenate([one, alpha], -1) for one in rgb] if kind.alpha else rgb
    path = tmp_path / f"a.{kind.container}"
    found = written(path, kind, frames)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.codec_tag) == (
            codec,
            pixels,
            {"h264": "avc1", "hevc": "hvc1"}.get(codec, "ap4h" if kind.chroma == "444" else "apch"),
        )
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tags == (1, 1, 1, 1)  # BT.709 three times, limited range
        assert stream.average_rate == 24
    assert [(one.tags, one.rotation) for one in found] == [((1, 1, 1, 1), 0)] * 3
    assert len(found) == 3
    for one, colours in zip(found, rgb):
        assert np.abs(one.rgba[..., :3] - colours).mean() < 3
    if kind.alpha:
        assert np.abs(found[1].rgba[..., 3] - alpha[..., 0]).max() <= 1


@pytest.mark.parametrize("kind", [one[0] for one in FORMATS], ids=lambda one: one.pixel_format + one.codec)
def test_the_same_frames_give_the_same_bytes(kind: Encoding, tmp_path: Path) -> None:
    frames = [np.dstack([one, one[..., 0]]) if kind.alpha else one for one in smooth(4, 64, 48)]
    for name in ("a", "b"):
        write_video(str(tmp_path / name), frames, Fraction(24), encoding=kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("bits", "scale"), [(8, 1), (10, 4)])
def test_samples_are_those_of_bt709_in_limited_range(bits: int, scale: int) -> None:
    """The closed form of H.273: Y = 16 + 219 (.2126 R + .7152 G + .0722 B), chroma 128 + 224 (C - Y) / k."""
    rgb = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    frame = ToYuv(Encoding("h265", bits, "444"))(rgb)
    kind = np.uint8 if bits == 8 else np.uint16
    planes = [np.frombuffer(one, kind).reshape(one.height, -1)[:, : one.width] for one in frame.planes]
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    for plane, values in zip(planes, expected):
        assert np.abs(plane - scale * values).max() < 1.01


@pytest.mark.parametrize(("chroma", "sides"), [("420", (34, 50)), ("422", (33, 50)), ("444", (33, 49))])
def test_odd_sides_grow_only_where_the_chroma_needs_it(
    chroma: str, sides: tuple[int, int], tmp_path: Path
) -> None:
    frames = smooth(2, 33, 49)
    (first, _) = written(tmp_path / "a.mp4", Encoding("h264", 10, chroma, crf=4), frames)
    assert first.shape == sides
    shown = next(iterate_frames(str(tmp_path / "a.mp4"))).astype(int)
    grown = np.pad(frames[0], [(0, sides[0] - 33), (0, sides[1] - 49), (0, 0)], mode="edge")
    assert np.abs(shown - grown).mean() < 2


def test_an_encoder_that_is_missing_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encoding.ENCODERS, "h265", "libx266")
    with pytest.raises(VideoError, match=r"no encoder libx266; install PyAV .*, or set deliver\.codec h264"):
        write_video(str(tmp_path / "a.mp4"), smooth(1, 16, 16), Fraction(24), encoding=Encoding("h265"))
    assert not list(tmp_path.iterdir())


def test_a_format_that_the_encoder_lacks_is_named(tmp_path: Path) -> None:
    """As builds of x264 for 8 bits alone lack 10, x264 lacks alpha."""
    with pytest.raises(VideoError, match=r"libx264 of this build writes no yuva420p; install PyAV"):
        Encoding("h264", alpha=True).check()


def test_frames_need_the_channels_of_the_format(tmp_path: Path) -> None:
    kind = Encoding("prores", 10, "444", alpha=True)
    with (
        pytest.raises(VideoError, match=r"frames must be \[H, W, 4\], got \[16, 16, 3\]"),
        video_writer(str(tmp_path / "a.mov"), Fraction(24), encoding=kind) as video,
    ):
        video.add(smooth(1, 16, 16)[0])
