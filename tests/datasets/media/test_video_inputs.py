"""What people's videos are like: every container, pixel format and timing is read, or is one clear error."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from recapture.datasets.media.video import VideoError, iterate_frames, probe, write_video
from recapture.datasets.readers.scan import open_clip, scan

# Encoder and pixel format by container.
CONTAINERS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("libx264", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "gif": ("gif", "rgb8"),
}


def greys(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Plain frames, each brighter than the one before."""
    return [
        np.full((height, width, 3), 20 + 200 * index // max(count, 1), np.uint8) for index in range(count)
    ]


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str,
    pix_fmt: str,
    *,
    milliseconds: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    tones: Sequence[int] = (),
) -> Path:
    """Encode uint8 RGB or RGBA frames, 40 ms each or at given times, with sound tracks of these pitches."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        tracks = [out.add_stream("aac", rate=48000, layout="mono") for _ in tones]
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgba" if pixels.shape[2] == 4 else "rgb24")
            picture.pts = index if milliseconds is None else milliseconds[index]
            picture.time_base = Fraction(1, 25) if milliseconds is None else Fraction(1, 1000)
            out.mux(stream.encode(picture.reformat(format=pix_fmt)))
        out.mux(stream.encode(None))
        for pitch, track in zip(tones, tracks, strict=True):
            time = np.arange(48000 * len(frames) // 25) / 48000
            wave = (0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
            for start in range(0, len(wave), 1024):
                block = np.ascontiguousarray(wave[None, start : start + 1024])
                samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 48000, start
                out.mux(track.encode(samples))
            out.mux(track.encode(None))
    return path


def brightness(path: Path) -> list[float]:
    return [float(frame.mean()) for frame in iterate_frames(str(path))]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_gives_its_frames_in_their_order(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", greys(12), *CONTAINERS[suffix])
    found = probe(str(path))
    assert (found.frames, found.width, found.height, found.audio) == (12, 48, 32, False)
    assert found.fps == 25
    np.testing.assert_allclose(brightness(path), [float(f.mean()) for f in greys(12)], atol=20)
    assert all(np.diff(brightness(path)) > 0)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_file_cut_short_is_refused_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
    content = encode(tmp_path / f"whole.{suffix}", list(noise), *CONTAINERS[suffix]).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    ends = [len(content) * tenth // 10 - 1 for tenth in range(1, 10)]
    for end in (1, *ends, len(content) - 1):
        cut.write_bytes(content[:end])
        with pytest.raises(VideoError, match=r"cut\..*(replace|remove)") as caught:
            probe(str(cut))
        assert "\n" not in str(caught.value), end


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_one_frame_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = encode(tmp_path / f"a.{suffix}", greys(1), *CONTAINERS[suffix])
    found = probe(str(path))
    assert found.frames == 1 and found.fps > 0
    assert len(brightness(path)) == 1


def test_a_video_of_no_frame_or_no_size_is_one_error(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "none.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        out.start_encoding()
    whole = encode(tmp_path / "a.gif", greys(2), "gif", "rgb8").read_bytes()
    flat = bytearray(whole)
    flat[6:10] = bytes(4)  # the logical screen
    for at in range(len(flat) - 10):
        if flat[at] == 0x2C and flat[at + 5 : at + 9] == bytes([48, 0, 32, 0]):
            flat[at + 5 : at + 9] = bytes(4)  # each picture's
    (tmp_path / "flat.gif").write_bytes(flat)
    (tmp_path / "a.gif").unlink()
    (tmp_path / "flat").mkdir()
    Image.fromarray(greys(1)[0]).save(tmp_path / "flat" / "0.png")
    content = bytearray((tmp_path / "flat" / "0.png").read_bytes())
    content[16:24] = bytes(8)  # width and height in IHDR
    (tmp_path / "flat" / "0.png").write_bytes(content)
    clips, rejected = scan(str(tmp_path))
    assert not clips
    assert sorted(item.id for item in rejected) == ["flat", "flat", "none"]
    assert all("replace" in item.error or "remove" in item.error for item in rejected)


def test_thousands_of_frames_are_counted_and_reached(tmp_path: Path) -> None:
    frames = greys(2, 16, 16) * 1250
    path = encode(tmp_path / "long.mkv", frames, "mpeg4", "yuv420p")
    assert probe(str(path)).frames == 2500
    last = list(iterate_frames(str(path), 2_497))
    assert [round(frame.mean(), -2) for frame in last] == [100, 0, 100]


def test_a_varying_rate_becomes_a_constant_one_by_the_frames_times(tmp_path: Path) -> None:
    # 25 a second, where frame 3 stands for four of them and 6 and 7 share one.
    times = [0, 40, 80, 120, 280, 320, 360, 365, 400, 440]
    path = encode(tmp_path / "a.mkv", greys(10), "ffv1", "bgr0", milliseconds=times)
    found = probe(str(path))
    assert found.fps == 25 and found.frames == 12
    assert found.duration == pytest.approx(0.48)
    expected = [float(greys(10)[index].mean()) for index in (0, 1, 2, 3, 3, 3, 3, 4, 5, 7, 8, 9)]
    assert brightness(path) == expected
    middle = [float(frame.mean()) for frame in iterate_frames(str(path), 4, 9)]
    assert middle == expected[4:9]
    (clip,), _ = scan(str(tmp_path))
    assert len(list(open_clip(clip).frames())) == clip.frames == 12


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(30), Fraction(60)])
def test_times_rounded_to_milliseconds_are_no_varying_rate(tmp_path: Path, rate: Fraction) -> None:
    times = [round(1000 * index / rate) for index in range(90)]
    path = encode(tmp_path / "a.mkv", greys(90), "mpeg4", "yuv420p", milliseconds=times)
    found = probe(str(path))
    assert found.frames == 90
    assert float(found.fps) == pytest.approx(float(rate), rel=2e-3)


def test_a_jump_of_minutes_is_an_error_that_names_the_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", greys(4), "mpeg4", "yuv420p", milliseconds=[0, 40, 600_000, 600_040])
    with pytest.raises(
        VideoError, match=r"a\.mkv': its times jump by 600 seconds after frame 1; cut it there"
    ):
        probe(str(path))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("ffv1", "gray", (33, 47)),
        ("ffv1", "gray16le", (33, 47)),
        ("ffv1", "yuv420p10le", (32, 48)),
        ("ffv1", "yuv444p12le", (33, 47)),
        ("ffv1", "bgr0", (33, 47)),
        ("libx264", "yuv444p", (33, 47)),
        ("mjpeg", "yuvj420p", (32, 48)),
    ],
)
def test_any_depth_any_channels_and_odd_sizes_are_read_as_rgb(
    tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    path = encode(tmp_path / "a.mkv", greys(4, *size), codec, pix_fmt)
    found = probe(str(path))
    assert (found.height, found.width) == size
    for frame, expected in zip(iterate_frames(str(path)), greys(4, *size), strict=True):
        assert frame.shape == (*size, 3) and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - expected).max() <= 3


def test_transparency_shows_black_in_videos_gifs_and_pictures(tmp_path: Path) -> None:
    rgba = np.full((32, 48, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:16, :, 3] = 0
    rgba[16:20, :, 3] = 128
    encode(tmp_path / "a.mkv", [rgba] * 2, "ffv1", "yuva444p")
    (tmp_path / "b").mkdir()
    Image.fromarray(rgba).save(tmp_path / "b" / "0.png")
    clear = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), 16)[:, None].repeat(48, 1), "P")
    clear.putpalette([255, 0, 255, 200, 200, 200])
    clear.save(tmp_path / "c.gif", transparency=0, save_all=True, append_images=[clear], duration=40)
    clips, rejected = scan(str(tmp_path))
    assert [clip.id for clip in clips] == ["a", "b", "c"] and not rejected
    for clip in clips:
        frame = next(iter(open_clip(clip).frames()))
        assert frame[:14].max() <= 3, clip.id
        assert np.abs(frame[22:].astype(int) - 200).max() <= 4, clip.id
        if clip.id != "c":
            assert np.abs(frame[17:19].astype(int) - 100).max() <= 4, clip.id


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif")])
def test_sixteen_bit_grey_pictures_keep_their_brightness(tmp_path: Path, dtype: type, suffix: str) -> None:
    (tmp_path / "a").mkdir()
    ramp: np.ndarray = np.linspace(0, 65535, 48).astype(dtype)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / "a" / f"0.{suffix}")
    (clip,), _ = scan(str(tmp_path))
    (frame,) = open_clip(clip).frames()
    np.testing.assert_allclose(frame[0, :, 0], np.linspace(0, 255, 48), atol=1)


def comb(frame: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours."""
    grey = frame.astype(float).mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def test_interlaced_video_is_deinterlaced_frame_by_frame(tmp_path: Path) -> None:
    def bar(moment: int) -> np.ndarray:
        pixels = np.full((64, 96, 3), 30, np.uint8)
        pixels[:, 2 * moment : 2 * moment + 24] = 220
        return pixels

    woven = []
    for index in range(12):
        pixels = bar(2 * index)
        pixels[1::2] = bar(2 * index + 1)[1::2]  # the second field, half a frame later
        woven.append(pixels)
    path = encode(
        tmp_path / "a.mkv", woven, "libx264", "yuv420p", options={"crf": "4", "x264-params": "interlaced=1"}
    )
    frames = list(iterate_frames(str(path)))
    assert probe(str(path)).frames == len(frames) == 12
    before, after = np.mean([comb(f) for f in woven]), np.mean([comb(f) for f in frames])
    assert after < 0.35 * before
    centres = [
        float((f[:, :, 0] > 128).mean(axis=0) @ np.arange(96) / (f[:, :, 0] > 128).mean(axis=0).sum())
        for f in frames
    ]
    np.testing.assert_allclose(np.diff(centres), 4, atol=1.2)  # in their order, none doubled
    part = [comb(frame) for frame in iterate_frames(str(path), 3, 6)]
    assert part == [comb(frame) for frame in frames[3:6]]


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    path = encode(tmp_path / "dv.mkv", greys(3), "libx264", "yuv420p", pixel_aspect=Fraction(4, 3))
    found = probe(str(path))
    assert (found.width, found.height) == (64, 32)
    assert next(iterate_frames(str(path))).shape == (32, 64, 3)


def test_of_several_sound_tracks_the_first_is_carried_over(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", greys(50), "libx264", "yuv420p", tones=(440, 3000))
    assert probe(str(path)).audio and probe(str(path)).frames == 50
    write_video(str(tmp_path / "b.mp4"), greys(50), Fraction(25), audio_from=str(path))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(container.streams.audio) == 1
        samples = np.concatenate([block.to_ndarray()[0] for block in container.decode(audio=0)])
    pitch = np.abs(np.fft.rfft(samples)).argmax() * 48000 / len(samples)
    assert pitch == pytest.approx(440, abs=3)


def test_a_size_that_changes_in_the_middle_is_an_error_that_names_the_frame(tmp_path: Path) -> None:
    parts = []
    for name, size in (("a", (32, 48)), ("b", (64, 96))):
        part = encode(tmp_path / f"{name}.m2v", greys(5, *size), "mpeg2video", "yuv420p")
        parts.append(part.read_bytes())
    (tmp_path / "both.mpg").write_bytes(b"".join(parts))
    with pytest.raises(
        VideoError, match=r"both\.mpg': its size changes from 48x32 to 96x64 in frame \d; cut it"
    ):
        list(iterate_frames(str(tmp_path / "both.mpg")))
