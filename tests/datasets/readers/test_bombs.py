"""Small files that unpack to more than their clip can need are refused, and never take the memory."""

import resource
import zipfile
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from support.davis_like import davis_like

from recapture.datasets.cameras.files import write_cameras
from recapture.datasets.clips.clip import ClipError
from recapture.datasets.clips.edit_masks import read_edit_mask
from recapture.datasets.media.pictures import LARGEST
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.scan import open_clip, scan


def video(path, size=32, frames=5):
    write_video(str(path), [np.full((size, size, 3), 20, np.uint8)] * frames, Fraction(5))


def zeros_npz(path, name, shape, dtype="<f4"):
    """A deflated array of zeros, written in blocks."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as stream,
    ):
        described = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, described)
        left = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        while left > 0:
            left -= stream.write(bytes(min(left, 1 << 22)))


def zeros_png(path, width, height):
    """A grey PNG of zeros of any size, in a few kilobytes per hundred million pixels."""

    def part(kind, content):
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b""))


@pytest.mark.parametrize("name", ["depth", "known", "objects"])
def test_a_sidecar_with_thousands_of_times_the_pixels_of_its_clip_rejects_it(tmp_path, name):
    video(tmp_path / "a.mp4")
    dtype = {"depth": "<f4", "known": "|b1", "objects": "<i4"}[name]
    zeros_npz(tmp_path / f"a.{name}.npz", name, (5, 3000, 3000), dtype)
    assert (tmp_path / f"a.{name}.npz").stat().st_size < 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clips, (rejected,) = scan(str(tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes
    assert not clips
    assert (
        "is 3000x3000, more than 16 times the pixels of the clip's 32x32; make it smaller" in rejected.error
    )


def test_a_sidecar_of_four_times_the_clip_s_sides_is_accepted(tmp_path):
    video(tmp_path / "a.mp4")
    np.savez_compressed(tmp_path / "a.depth.npz", depth=np.ones((5, 128, 128), np.float32))
    (clip,), rejected = scan(str(tmp_path))
    assert not rejected and open_clip(clip).depth(1, 3).shape == (2, 128, 128)


def test_cameras_that_unpack_to_gigabytes_reject_their_clip(tmp_path):
    video(tmp_path / "a.mp4")
    zeros_npz(tmp_path / "a.cameras.npz", "world_to_camera", (3_000_000, 4, 4), "<f8")
    clips, (rejected,) = scan(str(tmp_path))
    assert not clips
    assert "a.cameras.npz" in rejected.error and "bytes when unpacked, the limit is" in rejected.error
    (tmp_path / "a.cameras.npz").unlink()
    write_cameras(str(tmp_path / "a.cameras.npz"), torch.eye(4).repeat(5, 1, 1), torch.eye(3).repeat(5, 1, 1))
    assert not scan(str(tmp_path))[1]


def test_a_frame_that_states_too_many_pixels_rejects_its_clip(tmp_path):
    (tmp_path / "walk").mkdir()
    zeros_png(tmp_path / "walk/0.png", 20_000, 10_000)
    clips, (rejected,) = scan(str(tmp_path))
    assert not clips and LARGEST < 20_000 * 10_000
    assert "0.png" in rejected.error and "make it smaller" in rejected.error
    zeros_png(tmp_path / "walk/0.png", 12_000, 10_000)  # a photograph of 120 million pixels
    (clip,), rejected = scan(str(tmp_path))
    assert not rejected and (clip.width, clip.height) == (12_000, 10_000)


def test_a_map_of_a_layout_with_too_many_pixels_is_an_error_of_its_clip(tmp_path):
    root = davis_like(tmp_path / "davis", ("bear",))
    zeros_png(root / "Annotations/480p/bear/00001.png", 9000, 6000)
    (clip,), _ = scan(str(root))
    with pytest.raises(
        ClipError, match=r"clip 'bear': picture .*00001\.png' is 9000x6000, more than the 1536 p"
    ):
        open_clip(clip).objects()
    assert open_clip(clip).objects(0, 1).shape == (1, 8, 12)


@pytest.mark.parametrize("name", ["m.npz", "m.png", "m.mp4", "m"])
def test_an_edit_mask_with_too_many_pixels_is_an_error_of_its_clip(tmp_path, name):
    (tmp_path / "set").mkdir()
    video(tmp_path / "set/a.mp4")
    (clip,), _ = scan(str(tmp_path / "set"))
    place = tmp_path / name
    if name == "m.npz":
        zeros_npz(place, "mask", (5, 3000, 3000), "|b1")
    elif name == "m.png":
        zeros_png(place, 6000, 6000)
    elif name == "m.mp4":
        write_video(str(place), [np.zeros((256, 256, 3), np.uint8)] * 5, Fraction(5))
    else:
        place.mkdir()
        for index in range(5):
            zeros_png(place / f"{index}.png", 6000, 6000)
    with pytest.raises(ClipError, match=r"clip 'a': mask .*more than .*; make it smaller"):
        list(read_edit_mask(str(place), clip, range(5), 32, 32, threshold=0.5, invert=False))


def test_a_caption_of_gigabytes_is_not_read(tmp_path):
    video(tmp_path / "a.mp4")
    with (tmp_path / "a.txt").open("wb") as stream:
        stream.truncate(1 << 36)
    clips, (rejected,) = scan(str(tmp_path))
    assert not clips and "characters, the limit is 4000; shorten it" in rejected.error
