"""What else a file states about its pictures: shape of pixels, times, edits, streams; and damage."""

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from recapture.datasets.media.video import VideoError, iterate_frames, probe, write_video

NTSC = Fraction(30000, 1001)


def grey(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), 20 + 10 * index, np.uint8)


def numbers(path: Path) -> list[int]:
    """Which of the greys the frames of a file are."""
    return [round((float(frame.mean()) - 20) / 10) for frame in iterate_frames(str(path))]


def encoded(
    path: Path,
    count: int = 12,
    codec: str = "libx264",
    *,
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    unit: Fraction | None = None,
    pixel: Fraction | None = None,
    size: tuple[int, int] = (48, 64),
    options: dict[str, str] | None = None,
) -> Path:
    """Greys 0, 1, 2, ... at a rate, or at these times in this unit."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        if unit is not None:
            stream.codec_context.time_base = unit
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(grey(index, *size), format="rgb24")
            frame.pts = index if times is None else times[index]
            frame.time_base = unit or 1 / rate
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    return path


def remuxed(source: Path, target: Path, change: Callable[[int, av.Packet], bytes | None]) -> Path:
    """Copy the packets of a video; change gives their contents, or None to leave one out."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            content = change(number, packet) if packet.size else None
            if content is None:
                continue
            copy = av.Packet(content)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.duration, copy.stream = packet.is_keyframe, packet.duration, stream
            new.mux(copy)
    return target


# Pixel aspect


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mov", "mpeg4"), ("mkv", "libx264")])
@pytest.mark.parametrize(
    ("size", "pixel", "width"),
    [
        ((576, 720), Fraction(16, 15), 768),
        ((576, 720), Fraction(64, 45), 1024),
        ((480, 720), Fraction(8, 9), 640),
        ((480, 720), Fraction(32, 27), 853),
        ((1080, 1440), Fraction(4, 3), 1920),
    ],
)
def test_pixels_become_square_at_the_height_of_the_file(
    tmp_path: Path, suffix: str, codec: str, size: tuple[int, int], pixel: Fraction, width: int
) -> None:
    path = encoded(tmp_path / f"a.{suffix}", 2, codec, pixel=pixel, size=size)
    found = probe(str(path))
    assert (found.height, found.width) == (size[0], width)


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("avi", "mpeg4"), ("mpg", "mpeg2video")])
def test_pixel_aspect_that_only_the_codec_states_is_applied(tmp_path: Path, suffix: str, codec: str) -> None:
    pixel = Fraction(64, 45) if codec == "mpeg2video" else Fraction(4, 3)
    path = encoded(tmp_path / f"a.{suffix}", 12, codec, pixel=pixel, size=(576, 720), options={"g": "1"})
    assert probe(str(path)).width == 720 * pixel


def test_where_container_and_codec_disagree_the_container_is_right(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mp4", 2, pixel=Fraction(4, 3))
    content = path.read_bytes()
    at = content.index(b"pasp") + 4
    assert struct.unpack(">2I", content[at : at + 8]) == (4, 3)
    path.write_bytes(content[:at] + struct.pack(">2I", 2, 1) + content[at + 8 :])
    assert probe(str(path)).width == 128
    path.write_bytes(content[:at] + struct.pack(">2I", 60000, 1) + content[at + 8 :])
    with pytest.raises(VideoError, match=r"a\.mp4'.*60000:1 wide to high; correct its pixel aspect"):
        probe(str(path))


def test_rows_that_the_codec_crops_are_not_shown(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.mp4", 2, size=(90, 162))  # coded as 96 x 176
    assert next(iterate_frames(str(path))).shape == (90, 162, 3)


def spread(path: Path) -> np.ndarray:
    """Write two frames in which every pixel differs from its neighbours; return one as it is read."""
    columns, rows = np.meshgrid(np.arange(64), np.arange(48))
    pixels = np.stack([columns * 3, rows * 4, columns + rows], axis=2).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb" if path.suffix == ".mp4" else "ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24" if path.suffix == ".mp4" else "bgr0"
        stream.options = {"qp": "0"} if path.suffix == ".mp4" else {}
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return pixels


def test_a_clean_aperture_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    pixels = spread(path)
    whole = next(iterate_frames(str(path)))
    assert np.abs(whole.astype(int) - pixels).max() <= 1
    # 40 x 30, its centre 4 right of and 3 above the middle: ISO 14496-12, section 12.1.4.
    clap = struct.pack(">I4s8i", 40, b"clap", 40, 1, 30, 1, 4, 1, -3, 1)
    content = path.read_bytes()
    at = content.index(b"moov") - 4

    def rebuilt(part: bytes) -> bytes:
        out, place = b"", 0
        while place + 8 <= len(part):
            length, kind = int.from_bytes(part[place : place + 4], "big"), part[place + 4 : place + 8]
            body = part[place + 8 : place + length]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
                body = rebuilt(body)
            elif kind == b"stsd":
                body = body[:8] + rebuilt(body[8:])
            elif kind in (b"avc1", b"mp4v"):
                body += clap
            out += (8 + len(body)).to_bytes(4, "big") + kind + body
            place += length
        return out

    path.write_bytes(content[:at] + rebuilt(content[at:]))
    assert np.array_equal(next(iterate_frames(str(path))), whole[6:36, 16:56])
    found = probe(str(path))
    assert (found.height, found.width) == (30, 40)


def test_pixel_crop_of_matroska_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    pixels = spread(path)
    content = path.read_bytes()
    # DisplayUnit becomes PixelCropLeft 8; MaxBlockAdditionID joins Video as PixelCropTop 5.
    old = b"\xe0\x8a\xb0\x81\x40\xba\x81\x30\x54\xb2\x81\x04\x55\xee\x81\x00"
    assert content.count(old) == 1
    new = b"\xe0\x8e\xb0\x81\x40\xba\x81\x30\x54\xcc\x81\x08\x54\xbb\x81\x05"
    content = content.replace(old, new)
    path.write_bytes(content)
    assert np.array_equal(next(iterate_frames(str(path))), pixels[5:, 8:])


# Times


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("mkv", "libx264"),
        ("webm", "libvpx"),
        ("ts", "libx264"),
        ("avi", "mpeg4"),
        ("mpg", "mpeg2video"),
    ],
)
def test_ntsc_rates_stay_exact(tmp_path: Path, suffix: str, codec: str) -> None:
    size = (240, 352)
    path = encoded(tmp_path / f"a.{suffix}", 24, codec, rate=NTSC, size=size)
    found = probe(str(path))
    assert (found.fps, found.frames) == (NTSC, 24)
    write_video(str(tmp_path / "b.mp4"), list(iterate_frames(str(path))), found.fps)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].average_rate == NTSC
        times = sorted(packet.pts * packet.time_base for packet in container.demux(video=0) if packet.size)
    assert times == [index / NTSC for index in range(24)]


TIMES = {
    "late": [400 + 40 * index for index in range(8)],
    "negative": [-80 + 40 * index for index in range(8)],
    "varying": [0, 40, 80, 200, 240, 280, 320, 400],
    "doubled": [0, 40, 80, 80, 160, 200, 240, 280],
}
SHOWN = {
    "late": [0, 1, 2, 3, 4, 5, 6, 7],
    "negative": [0, 1, 2, 3, 4, 5, 6, 7],
    "varying": [0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 7],
    "doubled": [0, 1, 3, 3, 4, 5, 6, 7],
}


@pytest.mark.parametrize("kind", TIMES)
def test_frames_are_shown_at_the_times_that_the_file_states(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = 40 * index, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet, time in zip([*packets, *stream.encode(None)], TIMES[kind], strict=True):
            packet.pts = packet.dts = time
            packet.time_base = Fraction(1, 1000)
            out.mux(packet)
    assert probe(str(path)).fps == 25
    assert numbers(path) == SHOWN[kind]


def test_times_that_are_missing_are_even_at_the_stated_rate(tmp_path: Path) -> None:
    raw = encoded(tmp_path / "a.m2v", 12, "mpeg2video", rate=Fraction(25))
    path = raw.rename(tmp_path / "a.mpg")  # an elementary stream: no times at all
    found = probe(str(path))
    assert found.fps == 25 and found.frames == 12
    assert numbers(path) == list(range(12))


def test_empty_places_of_an_avi_repeat_the_picture(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 7]
    path = encoded(tmp_path / "a.avi", 6, "mpeg4", times=times, unit=Fraction(1, 25), options={"bf": "0"})
    found = probe(str(path))
    assert found.fps == 25 and found.frames == 8
    assert numbers(path) == [0, 1, 2, 2, 2, 3, 4, 5]


def with_edit(path: Path, *entries: tuple[int, int]) -> Path:
    """Replace an MP4's edit list: (duration in ms, first media time, -1 for an empty edit)."""
    content = path.read_bytes()
    at = content.index(b"moov") - 4
    assert int.from_bytes(content[at : at + 4], "big") == len(content) - at  # the last box

    def boxed(kind: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    def rebuilt(part: bytes) -> bytes:
        out, place = b"", 0
        while place + 8 <= len(part):
            length, kind = int.from_bytes(part[place : place + 4], "big"), part[place + 4 : place + 8]
            body = part[place + 8 : place + length]
            if kind in (b"moov", b"trak", b"edts"):
                body = rebuilt(body)
            elif kind == b"elst":
                body = bytes(4) + len(entries).to_bytes(4, "big")
                body += b"".join(struct.pack(">Iihh", *entry, 1, 0) for entry in entries)
            out += boxed(kind, body)
            place += length
        return out

    path.write_bytes(content[:at] + rebuilt(content[at:]))
    return path


@pytest.mark.parametrize("frames", ["0", "2"], ids=["no_b_frames", "b_frames"])
@pytest.mark.parametrize(
    ("edits", "shown"),
    [
        ([(480, 0)], list(range(12))),
        ([(280, 5)], list(range(5, 12))),  # a lead-in that is decoded and not shown
        ([(280, 0)], list(range(7))),  # a tail that is cut
        ([(200, 3)], list(range(3, 8))),
        ([(400, -1), (480, 0)], list(range(12))),  # an empty edit: the video begins later
    ],
)
def test_edit_lists_are_followed(
    tmp_path: Path, frames: str, edits: list[tuple[int, int]], shown: list[int]
) -> None:
    path = encoded(tmp_path / "a.mp4", 12, options={"bf": frames, "g": "12"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        tick = int(1 / stream.time_base / 25)
        offset = 0 if frames == "0" else 2 * tick  # the first picture's time in the media
    path = with_edit(path, *((long, offset + at * tick if at >= 0 else -1) for long, at in edits))
    found = probe(str(path))
    assert found.frames == len(shown) and found.fps == 25
    assert numbers(path) == shown


# Streams


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    cover = BytesIO()
    Image.fromarray(np.full((480, 640, 3), 99, np.uint8)).save(cover, "JPEG")

    def write(path: Path, video: bool) -> str:
        with av.open(str(path), "w") as out:
            picture = out.add_stream("mjpeg")
            picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            stream = out.add_stream("libx264", rate=25) if video else None
            sound = out.add_stream("aac", rate=48000, layout="mono")
            if stream is not None:
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for index in range(12):
                    frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, 25)
                    out.mux(stream.encode(frame))
                out.mux(stream.encode(None))
            packet = av.Packet(cover.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 90000)
            out.mux(packet)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
            silence.sample_rate = 48000
            out.mux([*sound.encode(silence), *sound.encode(None)])
        return str(path)

    found = probe(write(tmp_path / "a.mp4", video=True))
    assert (found.frames, found.width, found.audio) == (12, 64, True)
    with pytest.raises(VideoError, match="no video stream"):
        probe(write(tmp_path / "song.mp4", video=False))


def test_of_several_videos_the_one_is_read_that_ffplay_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, width in zip(streams, (64, 96), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 48, "bgr0"
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for index in range(8):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(grey(index, 48, stream.width), format="rgb24")
                frame = frame.reformat(format="bgr0")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    assert probe(str(path)).width == 96
    assert numbers(path) == list(range(8))


# Damage


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_a_stream_cut_between_keyframes_begins_at_the_first_one(tmp_path: Path, suffix: str) -> None:
    whole = encoded(tmp_path / "whole.mkv", 20, options={"g": "8", "keyint_min": "8", "sc_threshold": "0"})
    path = remuxed(whole, tmp_path / f"cut.{suffix}", lambda n, packet: bytes(packet) if n >= 3 else None)
    found = probe(str(path))
    assert found.frames == len(numbers(path))
    assert numbers(path) == list(range(8, 20))


def test_a_damaged_picture_in_the_middle_is_an_error_that_names_the_frame(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "whole.mkv", 20, "ffv1")
    path = remuxed(whole, tmp_path / "a.mkv", lambda n, packet: b"\x55" * 40 if n == 9 else bytes(packet))
    assert probe(str(path)).frames == 20
    with pytest.raises(VideoError, match=r"a\.mkv'.*after frame 9 .*cut it there, repair"):
        list(iterate_frames(str(path)))


def test_a_picture_that_the_decoder_leaves_out_is_an_error_and_shifts_none(tmp_path: Path) -> None:
    whole = encoded(tmp_path / "whole.mkv", 20, "mjpeg", options={"strict": "unofficial"})
    path = remuxed(
        whole, tmp_path / "a.mkv", lambda n, packet: b"\xff\xd8\xff\xd9" if n == 9 else bytes(packet)
    )
    with pytest.raises(VideoError, match=r"a\.mkv'.*(frame 9)"):
        list(iterate_frames(str(path)))


# Interlacing


def test_interlacing_that_begins_later_is_noticed(tmp_path: Path) -> None:
    def bar(moment: int) -> np.ndarray:
        pixels = np.full((64, 96, 3), 30, np.uint8)
        pixels[:, 2 * moment : 2 * moment + 24] = 220
        return pixels

    parts = []
    for name, interlaced in (("a", False), ("b", True)):
        flags = {"flags": "+ildct+ilme"} if interlaced else {}
        part = tmp_path / f"{name}.m2v"
        with av.open(str(part), "w") as out:
            stream = out.add_stream(
                "mpeg2video", rate=25, options={"g": "1", "qmin": "1", "qmax": "2", **flags}
            )
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for index in range(6):
                pixels = bar(2 * index)
                if interlaced:
                    pixels[1::2] = bar(2 * index + 1)[1::2]
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame.reformat(format="yuv420p")))
            out.mux(stream.encode(None))
        parts.append(part.read_bytes())
        part.unlink()
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(parts))
    frames = list(iterate_frames(str(path)))
    assert len(frames) == probe(str(path)).frames == 12
    assert np.abs(frames[3].astype(int) - bar(6)).mean() < 3  # the progressive part is left alone
    for frame in frames[7:]:
        rows = frame.astype(float).mean(axis=2)
        comb = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()
        assert comb < 1.5
