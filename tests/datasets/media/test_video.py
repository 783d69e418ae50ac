import struct
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from recapture.datasets.media.video import VideoError, iterate_frames, probe, write_video

RATE = 44100


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth pictures, each with its number as brightness in the left half."""
    ramp = np.linspace(40, 200, width)[None, :, None] * np.ones((height, 1, 3))
    frames = []
    for index in range(count):
        frame = ramp.copy()
        frame[:, : width // 2] = 30 + 6 * index
        frames.append(frame.astype(np.uint8))
    return frames


def number(frame: np.ndarray) -> int:
    return round((float(frame[8:-8, 8 : frame.shape[1] // 2 - 8].mean()) - 30) / 6)


def tone(path: Path, seconds: float, begins: float, layout: str = "mono", rate: int = RATE) -> None:
    """A video file with silence, and from `begins` on a 1 kHz tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream("aac", rate=rate, layout=layout)
        for index, frame in enumerate(pictures(round(seconds * 10))):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        time = np.arange(round(seconds * rate)) / rate
        wave = (0.5 * np.sin(2 * np.pi * 1000 * time) * (time >= begins)).astype(np.float32)
        channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
        for start in range(0, len(wave), 1024):
            block = np.repeat(wave[None, start : start + 1024], channels, axis=0)
            samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
            samples.sample_rate, samples.pts = rate, start
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))


def heard(path: Path) -> tuple[np.ndarray, int]:
    """The first channel of a file's sound, from its time 0 on, and its rate."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        blocks = [frame for frame in container.decode(track) if frame.time >= 0]
        return np.concatenate([block.to_ndarray()[0] for block in blocks]), track.rate


def onset(path: Path) -> float:
    samples, rate = heard(path)
    return float(np.flatnonzero(np.abs(samples) > 0.1)[0] / rate)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(25, 2)])
def test_a_written_video_has_the_frames_rate_and_colours_it_was_given(tmp_path: Path, fps: Fraction) -> None:
    frames = pictures(30)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (250, 200, 20), (10, 10, 10)]
    frames[7] = np.repeat(np.repeat(np.array([colours], np.uint8), 48, 0), 11, 1)[:, :64]
    path = str(tmp_path / "a.mp4")
    write_video(path, frames, fps)
    found = probe(path)
    assert (found.fps, found.frames, found.width, found.height) == (fps, 30, 64, 48)
    assert found.duration == pytest.approx(30 / fps)
    assert not found.audio
    read = list(iterate_frames(path))
    assert [number(frame) for frame in read if frame is not read[7]] == [n for n in range(30) if n != 7]
    middles = read[7][24, 5::11]
    assert np.abs(middles.astype(int) - np.array(colours)).max() <= 8
    assert all(frame.dtype == np.uint8 and frame.shape == (48, 64, 3) for frame in read)


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (7, 12), (28, None), (30, 40), (5, 5)])
def test_a_range_of_frames_is_that_slice_of_the_video(tmp_path: Path, start: int, stop: int | None) -> None:
    path = str(tmp_path / "a.mp4")
    write_video(path, pictures(30), Fraction(25))
    everything = list(iterate_frames(path))
    part = list(iterate_frames(path, start, stop))
    assert len(part) == len(everything[start:stop])
    assert all(np.array_equal(a, b) for a, b in zip(part, everything[start:stop]))


def test_frames_are_let_go_of_as_they_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.mp4")
    write_video(path, pictures(40), Fraction(25))
    seen: list[weakref.ref[np.ndarray]] = []
    for frame in iterate_frames(path):
        seen.append(weakref.ref(frame))
        assert sum(reference() is not None for reference in seen) <= 2
    assert len(seen) == 40


def test_an_odd_side_grows_by_one_repeated_row_or_column(tmp_path: Path) -> None:
    path = str(tmp_path / "odd.mp4")
    write_video(path, [frame[:47, :63] for frame in pictures(4)], Fraction(8))
    found = probe(path)
    assert (found.width, found.height) == (64, 48)
    last = list(iterate_frames(path))[-1].astype(int)
    assert np.abs(last[47] - last[46]).max() <= 4
    assert np.abs(last[:, 63] - last[:, 62]).max() <= 6


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    # Real pictures: x264's macroblock tree gives other bytes from run to run on these, on some processors.
    frames = list(iterate_frames(str(Path(__file__).parents[3] / "datasets/sample/real/box.mp4")))
    contents = set()
    for attempt in range(4):
        path = tmp_path / f"{attempt}.mp4"
        write_video(str(path), frames, Fraction(25))
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(("layout", "rate"), [("mono", 44100), ("stereo", 48000), ("5.1", 48000)])
def test_sound_is_carried_over_in_time_with_the_picture(tmp_path: Path, layout: str, rate: int) -> None:
    source, target = tmp_path / "source.mp4", tmp_path / "target.mp4"
    tone(source, seconds=4, begins=1.5, layout=layout, rate=rate)
    write_video(str(target), pictures(20), Fraction(10), audio_from=str(source), audio_start=1.0)
    assert probe(str(target)).audio
    assert onset(target) == pytest.approx(0.5, abs=0.03)
    samples, found = heard(target)
    assert len(samples) / found == pytest.approx(2.0, abs=0.05)
    late = samples[found : found + found // 2]
    assert np.abs(np.fft.rfft(late)).argmax() * found / len(late) == pytest.approx(1000, abs=5)


def test_sound_can_be_shorter_than_asked_for_and_is_cut_where_asked(tmp_path: Path) -> None:
    source, target = tmp_path / "source.mp4", tmp_path / "target.mp4"
    tone(source, seconds=1, begins=0.0)
    write_video(str(target), pictures(30), Fraction(10), audio_from=str(source))
    assert len(heard(target)[0]) / RATE == pytest.approx(1.0, abs=0.06)
    assert probe(str(target)).frames == 30
    write_video(str(target), pictures(30), Fraction(10), audio_from=str(source), audio_duration=0.4)
    assert len(heard(target)[0]) / RATE == pytest.approx(0.4, abs=0.03)


def test_a_source_without_sound_is_named(tmp_path: Path) -> None:
    silent, target = tmp_path / "silent.mp4", tmp_path / "target.mp4"
    write_video(str(silent), pictures(3), Fraction(10))
    with pytest.raises(VideoError, match=r"silent.mp4.*no sound"):
        write_video(str(target), pictures(3), Fraction(10), audio_from=str(silent))
    with pytest.raises(VideoError, match=r"absent.mp4"):
        write_video(str(target), pictures(3), Fraction(10), audio_from=str(tmp_path / "absent.mp4"))
    assert [path.name for path in tmp_path.iterdir()] == ["silent.mp4"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(str(path), pictures(3), Fraction(10))
    before = path.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield from pictures(5)
        raise RuntimeError("the model has died")

    with pytest.raises(RuntimeError, match="died"):
        write_video(str(path), broken(), Fraction(10))
    with pytest.raises(VideoError, match="no frames"):
        write_video(str(path), [], Fraction(10))
    with pytest.raises(VideoError, match=r"frame 1 is uint8 \[48, 32, 3\].* 48x64"):
        write_video(str(path), [pictures(1)[0], pictures(1)[0][:, :32]], Fraction(10))
    with pytest.raises(VideoError, match="frame 0 is float32"):
        write_video(str(path), [pictures(1)[0].astype(np.float32)], Fraction(10))
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["a.mp4"]


def test_videos_are_read_and_written_on_any_store(tmp_path: Path) -> None:
    write_video("memory://videos/deep/a.mp4", pictures(9), Fraction(10))
    write_video(str(tmp_path / "a.mp4"), pictures(9), Fraction(10))
    assert fsspec.filesystem("memory").cat("/videos/deep/a.mp4") == (tmp_path / "a.mp4").read_bytes()
    assert probe("memory://videos/deep/a.mp4").frames == 9
    assert [number(frame) for frame in iterate_frames("memory://videos/deep/a.mp4", 2, 5)] == [2, 3, 4]


def test_a_truncated_file_is_refused_though_its_index_comes_first_or_last(tmp_path: Path) -> None:
    first, last = tmp_path / "first.mp4", tmp_path / "last.mp4"
    write_video(str(first), pictures(30), Fraction(25))
    tone(last, seconds=3, begins=1)
    cut = tmp_path / "cut.mp4"
    for whole, share in ((first, 0.02), (first, 0.97), (last, 0.5), (last, 0.97)):
        content = whole.read_bytes()
        cut.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(VideoError, match=r"cut.mp4.*(replace|remove)"):
            probe(str(cut))


def test_a_last_frame_cut_short_is_noticed_though_every_frame_is_there(tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    write_video(str(path), pictures(30), Fraction(25))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(VideoError, match=r"cut.mp4.*cut off, 5 bytes are missing.*replace"):
        probe(str(path))


def test_what_is_no_video_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("These are not the frames you are looking for.\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=RATE, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate = RATE
        out.mux(stream.encode(silence))
        out.mux(stream.encode(None))
    reasons = {
        "text.mp4": "not an MP4.*replace",
        "empty.mp4": "0 bytes.*replace",
        "folder.mp4": "directory.*rename or remove",
        "sound.mp4": "no video stream.*replace",
        "absent.mp4": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError, match=f"{name}'.*{reason}"):
            probe(str(tmp_path / name))


@pytest.mark.parametrize(
    ("matrix", "quarters"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],  # clockwise 90, 180, 270
)
def test_a_rotation_that_the_file_states_is_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], quarters: int
) -> None:
    path = tmp_path / "a.mp4"
    write_video(str(path), pictures(3), Fraction(10))
    upright = next(iterate_frames(str(path)))
    content = bytearray(path.read_bytes())
    # ISO 14496-12: in a version-0 tkhd box the 3x3 matrix starts 44 bytes after the box's type.
    at = content.index(b"tkhd") + 44
    a, b, c, d = (value * 0x10000 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    turned = next(iterate_frames(str(path)))
    assert np.array_equal(turned, np.rot90(upright, quarters))
    found = probe(str(path))
    assert (found.height, found.width) == turned.shape[:2]
