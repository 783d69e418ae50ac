"""Clips as telephones film them, of any size and number, each different, made from the bundled footage."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

FOOTAGE = Path(__file__).parents[2] / "datasets/sample/real"
FPS, RATE = Fraction(30), 44_100  # pictures and samples per second
BITS = 12_000_000  # per second, of a video of 1080p


def make_clips(folder: Path, count: int, frames: int, height: int, width: int) -> None:
    """Write `count` clips with sound and captions; clip n is the same in every call.

    Each is a passage of one of the bundled videos with its own crop, mirroring, speed, direction, colours,
    hand-held motion (shift, turn and zoom that wander) and sensor noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = [(path, _pictures(path)) for path in sorted(FOOTAGE.glob("*.mp4"))]
    for number in range(count):
        source, pictures = sources[number % len(sources)]
        target = folder / f"clip{number:04d}.mp4"
        if target.exists():
            continue
        part = target.with_suffix(".part")
        _write(part, _filmed(pictures, np.random.default_rng(number), frames, height, width), height, width)
        shutil.copy(source.with_suffix(".txt"), target.with_suffix(".txt"))
        part.rename(target)


def _pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def _filmed(
    pictures: list[np.ndarray], random: np.random.Generator, frames: int, height: int, width: int
) -> np.ndarray:
    """Return uint8 [T, H, W, 3]."""
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    start, speed = random.uniform(0, len(there_and_back)), random.uniform(0.3, 0.8) * random.choice((-1, 1))
    gain, lift = random.uniform(0.85, 1.15, 3) * random.uniform(0.8, 1.15), random.uniform(-12, 12)
    high, wide = pictures[0].shape[:2]
    # The smallest scale that covers the picture, with room for the hand's motion.
    scale = max(height / high, width / wide) * random.uniform(1.25, 1.9)
    room = np.array([wide - width / scale, high - height / scale]) / 2
    middle = np.array([wide, high]) / 2 + room * random.uniform(-0.4, 0.4, 2)
    moves = [_wander(random, frames) for _ in range(4)]  # x, y, turn, zoom
    flip, noise = random.random() < 0.5, random.uniform(1.5, 4.0)
    film = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        position = (start + speed * index) % len(there_and_back)
        one, share = int(position), position % 1
        both = there_and_back[one], there_and_back[(one + 1) % len(there_and_back)]
        seen = cv2.addWeighted(both[0], 1 - share, both[1], share, 0)
        x, y = middle + room * 0.4 * np.array([moves[0][index], moves[1][index]])
        turn = cv2.getRotationMatrix2D((x, y), 1.5 * moves[2][index], scale * (1 + 0.04 * moves[3][index]))
        turn[:, 2] += np.array([width / 2, height / 2]) - (x, y)
        picture = cv2.warpAffine(
            seen, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        grain = random.standard_normal((height, width, 1), np.float32) * noise
        film[index] = np.clip(picture * gain + lift + grain, 0, 255).astype(np.uint8)
    return film[:, :, ::-1] if flip else film


def _wander(random: np.random.Generator, frames: int) -> np.ndarray:
    """Return a smooth motion [T] between about -1 and 1: slow drift, breath and tremor of a hand."""
    seconds = np.arange(frames) / float(FPS)
    parts = [(0.2, 0.6), (0.9, 0.3), (2.5, 0.1), (7.0, 0.02)]  # Hz, amplitude
    waves = [
        size * np.sin(2 * np.pi * (hz * random.uniform(0.7, 1.3) * seconds + random.random()))
        for hz, size in parts
    ]
    return np.sum(waves, axis=0)


def _write(target: Path, film: np.ndarray, height: int, width: int) -> None:
    with av.open(str(target), "w", format="mp4") as out:
        # Without macroblock trees and with one thread, the same pictures give the same bytes.
        options = {"preset": "veryfast", "x264-params": "mbtree=0:threads=1"}
        picture = out.add_stream("libx264", rate=FPS, options=options)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        picture.bit_rate = int(BITS * height * width / (1080 * 1920)) + 100_000
        sound = out.add_stream("aac", rate=RATE, layout="mono")
        for frame in film:
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        out.mux(picture.encode())
        seconds = np.arange(round(len(film) / FPS * RATE)) / RATE
        tone = (0.2 * np.sin(2 * np.pi * 220 * seconds)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            passage = tone[None, start : start + 1024]
            samples = av.AudioFrame.from_ndarray(passage, format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = RATE, start, Fraction(1, RATE)
            out.mux(sound.encode(samples))
        out.mux(sound.encode())
