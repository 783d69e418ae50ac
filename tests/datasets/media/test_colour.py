"""Colour and transparency as a player shows them: matrix, range, depth, HDR, and alpha of every codec."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recapture.datasets.media.video import VideoError, iterate_frames

COLOURS = np.array(
    [(200, 60, 30), (30, 200, 60), (40, 60, 220), (240, 240, 240), (15, 15, 15), (120, 130, 10)], np.uint8
)
# Kr and Kb, by H.273's number of the matrix.
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


def yuv(colours: np.ndarray, matrix: int, full: bool, bits: int = 8) -> np.ndarray:
    """Y, Cb and Cr by H.273's own equations: [3, number of colours]."""
    red, green, blue = colours.astype(float).T / 255
    kr, kb = WEIGHTS[matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    scale = 1 << (bits - 8)
    if full:
        top = 256 * scale - 1
        planes = [y * top, cb * top + 128 * scale, cr * top + 128 * scale]
    else:
        planes = [(219 * y + 16) * scale, (224 * cb + 128) * scale, (224 * cr + 128) * scale]
    return np.clip(np.round(planes), 0, 256 * scale - 1)


def flat(
    path: Path,
    planes: np.ndarray,
    height: int = 32,
    width: int = 96,
    *,
    codec: str = "ffv1",
    pix_fmt: str = "yuv444p",
    **tags: int,
) -> Path:
    """A file of three frames with bars of these planes [C, bars], coded without loss, with these tags."""
    dtype = np.dtype("<u2") if "le" in pix_fmt else np.dtype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": "0", "qp": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(3):
            frame = av.VideoFrame(width, height, pix_fmt)
            for name, value in tags.items():
                setattr(frame, name, value)
            for plane, values in zip(frame.planes, planes, strict=True):
                wide = plane.width
                row = np.repeat(values, -(-wide // len(values)))[:wide].astype(dtype)
                content = np.zeros((plane.height, plane.line_size // dtype.itemsize), dtype)
                content[:, :wide] = row
                plane.update(content.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def bars(path: Path, count: int) -> np.ndarray:
    """The middle of each bar as it is read: [bars, 3]."""
    frame = list(iterate_frames(str(path)))[1]
    wide = frame.shape[1] / count
    return frame[frame.shape[0] // 2, [int((bar + 0.5) * wide) for bar in range(count)]].astype(int)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_a_tagged_matrix_and_range_are_applied(tmp_path: Path, matrix: int, full: bool) -> None:
    path = flat(tmp_path / "a.mkv", yuv(COLOURS, matrix, full), colorspace=matrix, color_range=1 + full)
    assert np.abs(bars(path, len(COLOURS)) - COLOURS).max() <= 2


@pytest.mark.parametrize(
    ("height", "width", "matrix"),
    [
        (480, 720, 6),
        (576, 720, 5),
        (576, 1024, 5),
        (720, 1280, 1),
        (540, 1280, 1),
        (608, 352, 1),
        (1920, 1080, 1),
    ],
)
def test_an_untagged_matrix_follows_the_size_as_in_mpv(
    tmp_path: Path, height: int, width: int, matrix: int
) -> None:
    path = flat(tmp_path / "a.mkv", yuv(COLOURS, matrix, False), height, width)
    assert np.abs(bars(path, len(COLOURS)) - COLOURS).max() <= 2


def test_a_tag_takes_precedence_over_the_size(tmp_path: Path) -> None:
    planes = yuv(COLOURS, 6, False)
    path = flat(tmp_path / "a.mkv", planes, 720, 1280, colorspace=6, color_range=1)
    assert np.abs(bars(path, len(COLOURS)) - COLOURS).max() <= 2


def test_yuvj_is_full_range_without_a_tag(tmp_path: Path) -> None:
    path = flat(tmp_path / "a.mkv", yuv(COLOURS, 6, True), codec="mjpeg", pix_fmt="yuvj444p")
    assert np.abs(bars(path, len(COLOURS)) - COLOURS).max() <= 6  # JPEG's loss


@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv444p10le", 10), ("yuv444p12le", 12), ("yuv444p16le", 16)])
def test_more_than_eight_bits_are_rounded_to_eight(tmp_path: Path, pix_fmt: str, bits: int) -> None:
    path = flat(
        tmp_path / "a.mkv", yuv(COLOURS, 1, False, bits), pix_fmt=pix_fmt, colorspace=1, color_range=1
    )
    assert np.abs(bars(path, len(COLOURS)) - COLOURS).max() <= 1


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_a_matrix_that_is_not_read_is_refused_by_its_number(tmp_path: Path, matrix: int) -> None:
    path = flat(tmp_path / "a.mkv", yuv(COLOURS, 1, False), codec="libx264", colorspace=matrix, color_range=1)
    with pytest.raises(VideoError, match=rf"a\.mkv'.*matrix {matrix} of H\.273.*convert it to BT\.709"):
        list(iterate_frames(str(path)))


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: the code value, 0 to 1, of a luminance in cd/m2."""
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100: the code value of a grey on a display of 1000 cd/m2, whose system gamma is 1.2."""
    scene = (nits / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


@pytest.mark.parametrize(("curve", "transfer"), [(pq, 16), (hlg, 18)], ids=["PQ", "HLG"])
@pytest.mark.parametrize(
    ("tagged", "full"),
    [(True, False), (False, False), (True, True)],
    ids=["matrix_tagged", "matrix_untagged", "full_range"],
)
def test_hdr_becomes_sdr_with_diffuse_white_as_white(
    tmp_path: Path, curve: object, transfer: int, tagged: bool, full: bool
) -> None:
    nits = np.array([0.0, 5.0, 26.0, 50.0, 100.0, 203.0, 500.0, 900.0])
    code = curve(nits)  # type: ignore[operator]
    luma = np.round(1023 * code if full else 64 + 876 * code)
    planes = np.stack([luma, np.full(len(nits), 512), np.full(len(nits), 512)])
    path = flat(
        tmp_path / "a.mkv",
        planes,
        pix_fmt="yuv444p10le",
        color_range=2 if full else 1,
        color_primaries=9,
        color_trc=transfer,
        colorspace=9 if tagged else 2,
    )
    expected = 255 * np.clip(nits / 203, 0, 1) ** (1 / 2.4)  # BT.2408: 203 cd/m2; BT.1886: the display
    assert np.abs(bars(path, len(nits)) - expected[:, None]).max() <= 4


def test_what_hdr10_says_of_its_mastering_display_does_not_darken_it(tmp_path: Path) -> None:
    nits, path = 100.0, tmp_path / "a.mp4"
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    parameters = f"log-level=none:hdr10=1:{display}:max-cll=1000,400"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=25, options={"x265-params": parameters, "crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, 16
        for index in range(3):
            frame = av.VideoFrame(128, 64, "yuv420p10le")
            values = (round(64 + 876 * float(pq(np.array(nits)))), 512, 512)
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, "<u2").tobytes())
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for shown in iterate_frames(str(path)):
        assert shown.mean() == pytest.approx(255 * (nits / 203) ** (1 / 2.4), abs=4)


def test_wide_gamut_of_hdr_becomes_that_of_bt709(tmp_path: Path) -> None:
    # BT.709's primaries at 100 cd/m2, seen in BT.2020 (BT.2087, table 1).
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    shares = np.array([[1, 0.4, 0.4], [0.4, 1, 0.4], [0.4, 0.4, 1], [0.5, 0.5, 0.5]])
    coded = pq(100 * shares @ to_2020.T)
    planes = yuv(coded * 255, 9, False, 10)
    path = flat(
        tmp_path / "a.mkv",
        planes,
        pix_fmt="yuv444p10le",
        color_range=1,
        color_primaries=9,
        color_trc=16,
        colorspace=9,
    )
    expected = 255 * (100 * shares / 203) ** (1 / 2.4)
    assert np.abs(bars(path, len(shares)) - expected).max() <= 9  # FFmpeg desaturates the edge of the gamut


def test_colours_of_hlg_get_the_system_gamma_of_their_luminance(tmp_path: Path) -> None:
    # BT.2100: display light is scene light times its luminance to the power of 0.2, in BT.2020
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    shares = np.array([[1, 0.6, 0.6], [0.6, 1, 0.6], [0.6, 0.6, 1], [0.5, 0.5, 0.5]])
    display = 100 * shares @ to_2020.T / 1000
    luminance = display @ [0.2627, 0.6780, 0.0593]
    scene = display * luminance[:, None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    path = flat(
        tmp_path / "a.mkv",
        yuv(coded * 255, 9, False, 10),
        pix_fmt="yuv444p10le",
        color_range=1,
        color_primaries=9,
        color_trc=18,
        colorspace=9,
    )
    expected = 255 * (100 * shares / 203) ** (1 / 2.4)
    assert np.abs(bars(path, len(shares)) - expected).max() <= 9


ALPHA = [
    ("webm", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
    ("webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "crf": "4", "b": "5M"}),
    ("mkv", "libvpx-vp9", "yuva420p", {"lossless": "1"}),
    ("mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
    ("mov", "qtrle", "argb", {}),
    ("mov", "png", "rgba", {}),
    ("mkv", "ffv1", "yuva444p", {}),
    ("mkv", "ffv1", "yuva444p10le", {}),
    ("mkv", "ffv1", "bgra", {}),
    ("mkv", "ffv1", "gbrap10le", {}),
    ("avi", "png", "rgba", {}),
    ("avi", "utvideo", "gbrap", {}),
    ("avi", "huffyuv", "bgra", {}),
    ("avi", "ffvhuff", "yuva444p", {}),
]


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "options"), ALPHA)
def test_transparency_is_over_black_in_every_codec_that_carries_it(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    rgba = np.full((48, 64, 4), (200, 120, 60, 255), np.uint8)
    rgba[:16, :, :3], rgba[:16, :, 3] = (255, 0, 255), 0  # what is hidden has a colour of its own
    rgba[16:32, :, 3] = 128
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    frames = list(iterate_frames(str(path)))
    assert len(frames) == 3
    for frame in frames:
        assert frame[:13].max() <= 3
        assert np.abs(frame[18:30].astype(int) - (100, 60, 30)).max() <= 8
        assert np.abs(frame[35:].astype(int) - (200, 120, 60)).max() <= 8


def test_the_unused_byte_of_plain_32_bit_avi_is_no_transparency(tmp_path: Path) -> None:
    pixels = np.full((48, 64, 4), (200, 120, 60, 0), np.uint8)
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="bgra")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux([*stream.encode(frame), *stream.encode(None)])
    assert (next(iterate_frames(str(path))) == (200, 120, 60)).all()
