"""Orientation in every form in which a file can state it, against Pillow's own transposition."""

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from recapture.datasets.media.pictures import iterate_pictures, probe_pictures
from recapture.datasets.media.video import iterate_frames, probe

# EXIF's orientations as display matrices a, b, c, d: x' = a x + c y, y' = b x + d y.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
# As H.264 and HEVC state them: mirrored left to right first, then turned anticlockwise by so many quarters.
MIRRORED_AND_TURNED = {1: (0, 0), 2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1)}


def corners() -> np.ndarray:
    """A picture of which no two orientations look alike."""
    pixels = np.full((64, 96, 3), 40, np.uint8)
    pixels[:32, :48], pixels[:32, 48:], pixels[32:, :48] = (220, 40, 40), (40, 220, 40), (40, 40, 220)
    return pixels


def upright(orientation: int, pixels: np.ndarray) -> np.ndarray:
    """The picture as Pillow turns it."""
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(picture))


def jpeg(orientation: int) -> bytes:
    content, exif = BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners()).save(content, "JPEG", quality=95, subsampling=0, exif=exif)
    return content.getvalue()


def encoded(path: Path, codec: str, orientation: int | None) -> Path:
    with av.open(str(path), "w") as out:
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if orientation is not None:
            a, b, c, d = (value << 16 for value in MATRICES[orientation])
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def container_states_it(suffix: str, codec: str) -> Callable[[Path, int], Path]:
    return lambda folder, orientation: encoded(folder / f"a.{suffix}", codec, orientation)


def codec_states_it(codec: str, header: bytes, rest: str) -> Callable[[Path, int], Path]:
    """Insert a display orientation message (H.264, D.2.27; H.265, D.3.17) before every frame."""

    def make(folder: Path, orientation: int) -> Path:
        mirrored, quarters = MIRRORED_AND_TURNED[orientation]
        text = f"0{mirrored}0{quarters * 0x4000:016b}{rest}1"
        text += "0" * (-len(text) % 8)
        payload = int(text, 2).to_bytes(len(text) // 8, "big")
        unit = header + bytes([47, len(payload)]) + payload + b"\x80"
        plain, path = encoded(folder / "plain.mp4", codec, None), folder / "a.mkv"
        with av.open(str(plain)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux():
                if packet.size:
                    copy = av.Packet(len(unit).to_bytes(4, "big") + unit + bytes(packet))
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.is_keyframe, copy.duration, copy.stream = packet.is_keyframe, packet.duration, stream
                    new.mux(copy)
        plain.unlink()
        return path

    return make


def exif_states_it(suffix: str) -> Callable[[Path, int], Path]:
    def make(folder: Path, orientation: int) -> Path:
        path = folder / f"a.{suffix}"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj444p"
            stream.codec_context.time_base = Fraction(1, 25)
            out.start_encoding()
            for index in range(3):
                packet = av.Packet(jpeg(orientation))
                packet.pts = packet.dts = index
                packet.time_base, packet.duration, packet.is_keyframe = Fraction(1, 25), 1, True
                packet.stream = stream
                out.mux(packet)
        return path

    return make


FORMS = {
    "mp4 display matrix": container_states_it("mp4", "libx264"),
    "mov display matrix": container_states_it("mov", "libx264"),
    "mkv projection": container_states_it("mkv", "libx264"),
    "webm projection": container_states_it("webm", "libvpx"),
    "H.264 message": codec_states_it("libx264", b"\x06", "1"),
    "HEVC message": codec_states_it("libx265", b"\x4e\x01", "1"),
    "EXIF in MJPEG, mov": exif_states_it("mov"),
    "EXIF in MJPEG, avi": exif_states_it("avi"),
    "EXIF in MJPEG, mkv": exif_states_it("mkv"),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_stand_upright_whatever_states_their_orientation(tmp_path: Path, form: str) -> None:
    for orientation in MATRICES:
        path = FORMS[form](tmp_path, orientation)
        expected = upright(orientation, corners()).astype(int)
        frames = list(iterate_frames(str(path)))
        assert len(frames) == 3
        for frame in frames:
            assert frame.shape == expected.shape, (form, orientation)
            assert np.abs(frame.astype(int) - expected).mean() < 6, (form, orientation)
        found = probe(str(path))
        assert (found.height, found.width) == expected.shape[:2]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_turns_and_mirrors_pictures_of_a_folder(tmp_path: Path, suffix: str) -> None:
    for orientation in MATRICES:
        folder = tmp_path / str(orientation)
        folder.mkdir()
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(corners()).save(folder / f"0.{suffix}", exif=exif, quality=95)
        expected = upright(orientation, corners())
        (frame,) = iterate_pictures(str(folder))
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 6, (suffix, orientation)
        found, _ = probe_pictures(str(folder))
        assert (found.height, found.width) == expected.shape[:2]
