"""Damaged sound never costs a video, and what is left of it stays in time with the picture."""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recapture.datasets.media.video import VideoError, iterate_frames, write_video

RATE = 48000
BUNNY = Path(__file__).parents[3] / "datasets/sample/real/bunny.mp4"
PCM = "pcm_s16le"
CODECS = {
    "mp4": "aac",
    "mov": "pcm_s16le",
    "mkv": "libopus",
    "avi": "pcm_s16le",
    "ts": "aac",
    "webm": "libopus",
}


def picture(white: bool) -> np.ndarray:
    return np.full((48, 64, 3), 235 if white else 16, np.uint8)


def clicks(path: Path, codec: str, seconds: float = 4.0, late: float = 0.0, **video: dict[str, str]) -> Path:
    """White frames every 0.4 s, each with a click of 4 ms; the sound track begins `late` seconds in."""
    rate, fps = RATE, 25
    with av.open(str(path), "w") as out:
        shown = out.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=fps, **video)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        sound = out.add_stream(codec, rate=rate, layout="mono")
        time = np.arange(round(seconds * rate)) / rate
        wave = (0.7 * np.sin(2 * np.pi * 3000 * time) * (time % 0.4 < 0.004) * (time > 0.1)).astype(
            np.float32
        )
        if codec == PCM:
            form, wave = "s16", (wave * 32767).astype(np.int16)
        else:
            form = "flt" if codec == "libopus" else "fltp"
        for index in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(picture(index % 10 == 0 and index > 2), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(shown.encode(frame))
        out.mux(shown.encode(None))
        begin = round(late * rate)
        for start in range(begin, len(wave), 960):
            block = np.ascontiguousarray(wave[None, start : start + 960])
            samples = av.AudioFrame.from_ndarray(block, format=form, layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = rate, start, Fraction(1, rate)
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
    return path


def onsets(path: Path) -> list[float]:
    """The times of the clicks in a file, from its time 0 on."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        blocks = [frame for frame in container.decode(track) if frame.time >= -1e-6]
        rate = track.rate
        samples = np.concatenate([np.atleast_2d(block.to_ndarray())[0] for block in blocks])
        loud = np.flatnonzero(np.abs(samples) > 0.2) / rate + blocks[0].time
    return [float(time) for time in loud[np.diff(loud, prepend=-1.0) > 0.1]]


def whites(path: Path) -> list[float]:
    """The times at which white frames begin, by the pictures of the delivered file."""
    bright = np.array([frame.mean() > 128 for frame in iterate_frames(str(path))])
    return [float(index) / 25 for index in np.flatnonzero(bright & ~np.roll(bright, 1))]


def remuxed(source: Path, target: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """Copy a file packet by packet; change(number, content) gives the content of each sound packet."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        count = 0
        for packet in old.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "audio":
                copy = av.Packet(change(count, bytes(packet)))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                count += 1
            copy.stream = streams[packet.stream.index]
            new.mux(copy)
    return target


def test_four_flipped_bits_in_one_sound_packet_cost_neither_video_nor_sound(tmp_path: Path) -> None:
    frames = list(iterate_frames(str(BUNNY)))
    dice, noticed = random.Random(0), 0
    for k in range(20):

        def flipped(number: int, content: bytes, wanted: int = 5 + 3 * k) -> bytes:
            if number != wanted:
                return content
            bits = bytearray(content)
            for _ in range(4):
                bits[dice.randrange(len(bits))] ^= 1 << dice.randrange(8)
            return bytes(bits)

        source = remuxed(BUNNY, tmp_path / "source.mp4", flipped)
        target = tmp_path / "target.mp4"
        told = write_video(
            str(target), frames, Fraction(25), audio_from=str(source), audio_duration=len(frames) / 25
        )
        assert not told.lost and told.damaged_packets <= 2
        noticed += bool(told.damaged_packets)
        with av.open(str(target)) as container:
            length = (
                sum(block.samples for block in container.decode(audio=0)) / container.streams.audio[0].rate
            )
        assert length == pytest.approx(len(frames) / 25, abs=0.06)
    assert noticed >= 10


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_after_damaged_packets_the_sound_is_still_in_time(tmp_path: Path, suffix: str) -> None:
    source = clicks(tmp_path / f"source.{suffix}", "aac")
    hurt = remuxed(
        source,
        tmp_path / f"hurt.{suffix}",
        lambda n, content: b"\xff" * 9 if n in (62, 63, 64, 90) else content,
    )
    target = tmp_path / "target.mp4"
    frames = list(iterate_frames(str(hurt)))
    told = write_video(str(target), frames, Fraction(25), audio_from=str(hurt))
    assert told.damaged_packets >= 1 and not told.lost
    shown, heard = whites(target), onsets(target)
    assert len(shown) == 9
    np.testing.assert_allclose(heard, shown, atol=0.006)


@pytest.mark.parametrize("options", [{}, {"bf": "0"}], ids=["b_frames", "no_b_frames"])
@pytest.mark.parametrize("suffix", CODECS)
def test_sound_and_picture_meet_in_every_container(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    source = clicks(tmp_path / f"source.{suffix}", CODECS[suffix], options=options)
    frames = list(iterate_frames(str(source)))
    for first in (0, 12):
        target = tmp_path / "target.mp4"
        write_video(str(target), frames[first:], Fraction(25), audio_from=str(source), audio_start=first / 25)
        shown, heard = whites(target), onsets(target)
        assert len(shown) == len(heard) >= 6
        np.testing.assert_allclose(heard, shown, atol=0.006)


@pytest.mark.parametrize("damage", ["codec", "packets"])
def test_sound_that_cannot_be_decoded_at_all_is_left_out_and_told(tmp_path: Path, damage: str) -> None:
    source = clicks(tmp_path / "source.mp4", "aac", seconds=1)
    hurt = tmp_path / "hurt.mp4"
    if damage == "packets":
        remuxed(source, hurt, lambda number, content: b"\x6b" * 9)
    else:
        hurt.write_bytes(source.read_bytes().replace(b"mp4a", b"zz9a").replace(b"esds", b"zzzz"))
    frames = list(iterate_frames(str(hurt)))
    told = write_video(str(tmp_path / "target.mp4"), frames, Fraction(25), audio_from=str(hurt))
    assert "hurt.mp4" in told.lost and ("nothing" in told.lost or "codec" in told.lost)
    with av.open(str(tmp_path / "target.mp4")) as container:
        assert not container.streams.audio
    assert len(list(iterate_frames(str(tmp_path / "target.mp4")))) == len(frames) == 25


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_track_that_begins_late_is_preceded_by_silence(tmp_path: Path, suffix: str) -> None:
    source = clicks(tmp_path / f"source.{suffix}", "aac", late=1.0)
    target = tmp_path / "target.mp4"
    write_video(str(target), list(iterate_frames(str(source))), Fraction(25), audio_from=str(source))
    heard, shown = onsets(target), whites(target)
    assert len(shown) == 9 and len(heard) == 7
    np.testing.assert_allclose(heard, shown[2:], atol=0.006)


def test_a_gap_between_time_stamps_stays_as_long_as_it_is(tmp_path: Path) -> None:
    source = clicks(tmp_path / "source.mkv", "aac")
    gap = tmp_path / "gap.mkv"
    with av.open(str(source)) as old, av.open(str(gap), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if not packet.size or (
                packet.stream.type == "audio" and 1.3 < packet.pts * packet.time_base < 1.9
            ):
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    target = tmp_path / "target.mp4"
    told = write_video(str(target), list(iterate_frames(str(gap))), Fraction(25), audio_from=str(gap))
    assert told.damaged_packets == 0
    np.testing.assert_allclose(onsets(target), [0.4, 0.8, 1.2, 2.0, 2.4, 2.8, 3.2, 3.6], atol=0.006)


def test_time_stamps_far_away_cost_no_memory(tmp_path: Path) -> None:
    source = clicks(tmp_path / "source.mkv", "aac", seconds=1)
    far = tmp_path / "far.mkv"
    with av.open(str(source)) as old, av.open(str(far), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if not packet.size:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 0.5:
                packet.pts = packet.dts = packet.pts + 10**8  # a day and more
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    target = tmp_path / "target.mp4"
    write_video(str(target), list(iterate_frames(str(far))), Fraction(25), audio_from=str(far))
    np.testing.assert_allclose(onsets(target), [0.4], atol=0.006)
    with pytest.raises(VideoError, match="no such file"):
        write_video(str(target), [picture(True)], Fraction(25), audio_from=str(tmp_path / "absent.mp4"))


def test_at_an_ntsc_rate_the_sound_ends_with_the_picture(tmp_path: Path) -> None:
    rate, count = Fraction(30000, 1001), 300
    source = clicks(tmp_path / "source.mp4", "aac", seconds=11)
    target = tmp_path / "target.mp4"
    frames = (picture(False) for _ in range(count))
    write_video(str(target), frames, rate, audio_from=str(source), audio_duration=float(count / rate))
    with av.open(str(target)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == rate
        ends = {stream.type: 0.0 for stream in (video, sound)}
        for packet in container.demux(video, sound):
            if packet.size:
                end = float((packet.pts + packet.duration) * packet.time_base)
                ends[packet.stream.type] = max(ends[packet.stream.type], end)
    assert ends["video"] == pytest.approx(count / rate, abs=1e-4)
    assert abs(ends["audio"] - ends["video"]) < 1 / rate
