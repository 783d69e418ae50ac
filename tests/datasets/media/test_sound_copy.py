"""Sound that can be carried over as it is: packet by packet the source's, and in time with the picture."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recapture.datasets.media.video import CarriedSound, write_video

RATE = 48000


def film(path: Path, codec: str = "aac", seconds: float = 1.0, begins: float = 0.0, **options) -> Path:
    """Write a video of 10 fps with noise as sound, which begins `begins` seconds after the picture."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, round(seconds * RATE)))
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=RATE, layout="mono", **options)
        for index in range(round(seconds * 10)):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * index, np.uint8), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        samples = noise.astype(np.float32)
        size = sound.codec_context.frame_size or 960
        for start in range(0, samples.shape[1], size):
            block = np.ascontiguousarray(samples[:, start : start + size])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start + round(begins * RATE)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


def packets(path: Path) -> list[tuple[float, bytes]]:
    """Time and content of every packet of the sound, from the first picture on."""
    with av.open(str(path)) as container:
        return [
            (round(float(one.pts * one.time_base), 5), bytes(one))
            for one in container.demux(container.streams.audio[0])
            if one.size
        ]


def heard(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [one for one in container.decode(audio=0) if one.time >= 0]
        return np.concatenate([one.to_ndarray()[0] for one in frames])


def carried(source: Path, target: Path, frames: int = 10, start: float = 0.0) -> CarriedSound:
    pictures = [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(frames)]
    return write_video(
        str(target),
        pictures,
        Fraction(10),
        audio_from=str(source),
        audio_start=start,
        audio_duration=frames / 10,
    )


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", "mp4"), ("aac", "mkv"), ("mp3", "mp4"), ("ac3", "mkv")]
)
def test_packets_are_the_sources_at_their_times(codec: str, suffix: str, tmp_path: Path) -> None:
    source, target = film(tmp_path / f"a.{suffix}", codec), tmp_path / "b.mp4"
    assert carried(source, target) == CarriedSound(0, True, "")
    before, after = packets(source), packets(target)
    assert [one for _, one in after] == [one for _, one in before[: len(after)]]
    assert len(after) >= len(before) - 2  # what would begin after the last picture's end is left out
    # milliseconds in Matroska
    assert max(abs(one - other) for (one, _), (other, _) in zip(before, after)) < 0.002
    shared = min(len(heard(source)), len(heard(target)))
    assert shared > 0.9 * RATE
    if codec == "aac":  # of AC-3 the decoder's warming up is stored to the millisecond
        assert np.array_equal(heard(source)[:shared], heard(target)[:shared])


def test_a_shorter_video_takes_the_packets_that_begin_before_its_end(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    assert carried(source, target, frames=4).copied
    before, after = packets(source), packets(target)
    assert after == [one for one in before if one[0] < 0.4]


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({"codec": "aac"}, 0.2),  # it begins within a packet
        ({"codec": "libopus"}, 0.0),  # few players take it in MP4
    ],
    ids=["cut", "opus"],
)
def test_sound_is_encoded_again_where_its_packets_do_not_fit(
    given: dict, start: float, tmp_path: Path
) -> None:
    source, target = film(tmp_path / "a.mkv", **given), tmp_path / "b.mp4"
    result = carried(source, target, frames=8, start=start)
    assert (result.copied, result.lost) == (False, "")
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    begin, whole, cut = round(start * RATE), heard(source), heard(target)[2000:12000]
    alike = [np.dot(whole[begin + 2000 + lag :][: len(cut)], cut) for lag in range(-200, 201)]
    assert abs(int(np.argmax(alike)) - 200) <= 2  # in time to the sample, but for the clock's rounding


def test_sound_that_begins_after_the_picture_keeps_its_distance(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mkv", begins=0.5), tmp_path / "b.mp4"
    assert carried(source, target).copied
    with av.open(str(target)) as container:
        assert abs(next(container.decode(audio=0)).time - 0.5) < 0.03


def test_a_gap_between_packets_is_made_silence_by_encoding_again(tmp_path: Path) -> None:
    whole, source, target = film(tmp_path / "a.mkv"), tmp_path / "gap.mkv", tmp_path / "b.mp4"
    with av.open(str(whole)) as given, av.open(str(source), "w") as out:
        tracks = {one.index: out.add_stream_from_template(one) for one in given.streams}
        for packet in given.demux():
            audio = packet.stream.type == "audio"
            if packet.size and not (audio and 0.3 < float(packet.pts * packet.time_base) < 0.5):
                packet.stream = tracks[packet.stream.index]
                out.mux(packet)
    assert not carried(source, target).copied
    sound = heard(target)
    assert np.abs(sound[round(0.36 * RATE) : round(0.46 * RATE)]).max() < 1e-3 < np.abs(sound).max()
