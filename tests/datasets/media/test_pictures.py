"""Folders of pictures as videos: order, rate, depth of colour, and what cannot be shown."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from recapture.datasets.media.pictures import PictureError, iterate_pictures, probe_pictures
from recapture.datasets.readers.scan import open_clip, scan


def ramp(index: int) -> np.ndarray:
    """A 16-bit RGB ramp whose first column tells the number of the frame."""
    pixels = np.linspace(0, 65535, 48)[None, :, None] * np.array([1.0, 0.7, 0.4])
    pixels = np.repeat(pixels, 32, axis=0).astype(np.uint16)
    pixels[:, 0] = 257 * index
    return pixels


@pytest.mark.parametrize("rate", ["30000/1001", "23.976", "12"])
def test_numbered_16_bit_pngs_are_a_video_in_their_order_at_the_rate_of_fps_txt(
    tmp_path: Path, rate: str
) -> None:
    folder = tmp_path / "shot"
    folder.mkdir()
    names = [f"shot.{number}.png" for number in (998, 999, 1000, 1001, 1010, 1002)]
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), ramp(index)[..., ::-1])
    (folder / "fps.txt").write_text(rate + "\n")
    (clip,), rejected = scan(str(tmp_path))
    assert not rejected
    assert (clip.frames, clip.width, clip.height, Fraction(clip.fps)) == (6, 48, 32, Fraction(rate))
    frames = list(open_clip(clip).frames())
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 5, 4]
    for frame in frames:
        assert frame.dtype == np.uint8
        assert np.abs(frame[:, 1:] - ramp(0)[:, 1:] / 257).max() <= 1


def test_16_bit_pngs_with_transparency_are_over_black(tmp_path: Path) -> None:
    pixels = np.full((8, 12, 4), 65535, np.uint16)
    pixels[:, :4, 3], pixels[:, 4:8, 3] = 0, 32768
    cv2.imwrite(str(tmp_path / "0.png"), pixels)
    (frame,) = iterate_pictures(str(tmp_path))
    assert np.abs(frame[0, ::4].astype(int) - [[0] * 3, [128] * 3, [255] * 3]).max() <= 1


def test_pictures_of_floating_point_are_refused_not_shown_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 12), 0.5, np.float32)).save(tmp_path / "0.tif")
    with pytest.raises(PictureError, match=r"0\.tif'.*floating point.*8 or 16 bits"):
        probe_pictures(str(tmp_path))
    with pytest.raises(PictureError, match="floating point"):
        list(iterate_pictures(str(tmp_path)))


def test_cmyk_and_palettes_keep_their_colours(tmp_path: Path) -> None:
    colours = np.zeros((8, 12, 3), np.uint8)
    colours[:, :6], colours[:, 6:] = (200, 60, 30), (30, 60, 200)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "0.tif")
    Image.fromarray(colours).quantize(4).save(tmp_path / "1.png")
    for frame in iterate_pictures(str(tmp_path)):
        assert np.abs(frame.astype(int) - colours).max() <= 3
