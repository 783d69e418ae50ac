"""Residuals give pictures and floats back: exactly, or within the bound that dropped bits allow."""

import io

import numpy as np
import pytest

from recapture.datasets.store import residuals
from recapture.datasets.store.npz import dump_npz
from recapture.datasets.store.residuals import (
    float_residuals,
    floats32,
    pack_frames,
    picture_residuals,
    pictures,
    unpack_array,
)
from recapture.datasets.store.store import ArtifactStore

KEY = "cd" * 16


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def same_bits(one, other):
    return one.shape == other.shape and np.array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 64), (90, 47)])
def test_any_picture_comes_back(size):
    frames = noise((3, *size, 3))
    frames[1] = np.where(frames[1] > 128, 255, 0)
    assert (pictures(picture_residuals(frames)) == frames).all()


def test_two_lines_of_numpy_read_pictures():
    # as docs/architecture.md has them, for readers without this project
    frames = noise((2, 20, 30, 3))
    planes = picture_residuals(frames).cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
    planes[:, [0, 2]] += planes[:, [1]]
    assert (np.moveaxis(planes, 1, -1) == frames).all()


def test_a_smooth_picture_has_small_residuals():
    ramp = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
    left = picture_residuals(np.stack([ramp] * 3, axis=-1)[None])
    assert not left[0, [0, 2]].any() and not left[0, 1, 1:, 1:].any()


def test_pictures_above_the_range_of_int32_sums_come_back(monkeypatch):
    monkeypatch.setattr(residuals, "LARGEST", 10)
    frames, depth = noise((1, 12, 13, 3)), np.random.default_rng(0).random((1, 12, 13), np.float32)
    assert (pictures(picture_residuals(frames)) == frames).all()
    assert same_bits(floats32(*float_residuals(depth, 0)), depth)


def test_floats_come_back_bit_for_bit_unless_bits_are_dropped():
    bits = np.random.default_rng(1).integers(0, 2**32, (2, 31, 17), dtype=np.uint32)  # nan, inf, subnormal
    bits[0, 0, :4] = 0x7FC00001, 0xFF800000, 0x80000000, 1
    stored, floats = float_residuals(bits.view(np.float32), 0)
    assert same_bits(floats32(stored, floats), bits.view(np.float32))


@pytest.mark.parametrize("dropped", [8, 10, 13, 19, 22])
@pytest.mark.parametrize("octaves", [0.01, 3, 12, 100])
def test_dropped_bits_cost_at_most_the_stated_share(dropped, octaves):
    rng = np.random.default_rng(dropped)
    values = np.exp2(rng.uniform(-octaves / 2, octaves / 2, (2, 24, 25))).astype(np.float32)
    found = floats32(*float_residuals(values, dropped))
    error = np.abs(found.astype(np.float64) / values - 1)
    assert error.max() <= 2.0 ** (dropped - 24)
    assert error.max() > 0
    assert (np.sort(found.ravel()) == found.ravel()[np.argsort(values.ravel(), kind="stable")]).all()
    again = floats32(*float_residuals(found, dropped))
    assert same_bits(again, found)  # a stage may store again what it read


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e38])
def test_nothing_and_infinity_stay_apart_from_every_number(scale):
    values = np.array([[[0.0, np.inf, 1.0, 0.5], [0.9, 0.0, 0.75, np.inf]]], dtype=np.float32)
    values[np.isfinite(values)] *= np.float32(scale)
    found = floats32(*float_residuals(values, 10))
    assert (np.isinf(found) == np.isinf(values)).all() and ((found == 0) == (values == 0)).all()


def test_negative_numbers_become_nothing_and_nan_infinity_where_bits_are_dropped():
    values = np.array([[[-1.0, np.nan, 2.0, -np.inf]]], dtype=np.float32)
    assert floats32(*float_residuals(values, 10)).tolist() == [[[0.0, np.inf, 2.0, 0.0]]]


@pytest.mark.parametrize("fill", [0.0, np.inf])
def test_a_frame_without_any_number_comes_back(fill):
    values = np.full((1, 3, 4), fill, dtype=np.float32)
    assert same_bits(floats32(*float_residuals(values, 10)), values)


def test_what_is_no_picture_and_no_depth_is_stored_as_it_is():
    arrays = {"visible": noise((2, 4, 5)) > 9, "moments": noise((2, 4, 5, 16)), "t": np.arange(2.0)}
    packed = pack_frames(arrays, {})
    assert packed.keys() == arrays.keys() and all(packed[name] is arrays[name] for name in arrays)
    assert unpack_array(packed, "t") is arrays["t"]


def test_numpy_reads_every_file_and_the_reader_gives_the_arrays_back(tmp_path):
    rgb, depth = noise((7, 16, 24, 3)), 1 + np.random.default_rng(3).random((7, 16, 24), np.float32)
    store = ArtifactStore(str(tmp_path))
    with store.create("render", KEY) as output, output.frames(3, mantissa={"depth": 13}) as writer:
        writer.append(rgb=rgb, depth=depth, exact=depth)
    artifact = store.open("render", KEY)
    for name in artifact.names():
        if name.endswith(".npz"):
            with np.load(io.BytesIO(artifact.read_bytes(name)), allow_pickle=False) as arrays:
                assert {a: arrays[a].dtype for a in arrays} == {
                    "rgb.residuals": np.uint8,
                    "depth.residuals": np.uint8,
                    "depth.floats": np.int64,
                    "exact.residuals": np.uint8,
                    "exact.floats": np.int64,
                }
    found = artifact.frames().read(0, 7)
    assert (found["rgb"] == rgb).all() and same_bits(found["exact"], depth)
    assert 0 < np.abs(found["depth"] / depth - 1).max() <= 2.0**-14


def test_one_array_is_unpacked_without_the_others(tmp_path, monkeypatch):
    store = ArtifactStore(str(tmp_path))
    with store.create("render", KEY) as output, output.frames() as writer:
        writer.append(rgb=noise((4, 8, 8, 3)), depth=np.ones((4, 8, 8), np.float32))
    reader = store.open("render", KEY).frames()
    monkeypatch.setattr(residuals, "floats32", None)
    assert reader.read(0, 2, ["rgb"])["rgb"].shape == (2, 8, 8, 3)
    monkeypatch.undo()
    assert reader.read(2, 4).keys() == {"rgb", "depth"}


def test_residuals_of_a_smooth_video_take_less_than_a_third():
    x, y = np.meshgrid(np.arange(160), np.arange(96))
    frames = np.stack([np.stack([x + y + t, 2 * y + t, x // 2 + 3 * t], axis=-1) for t in range(4)]).astype(
        np.uint8
    )
    plain, packed = dump_npz({"rgb": frames}, "x"), dump_npz(pack_frames({"rgb": frames}, {}), "x")
    assert len(packed) < len(plain) / 3


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_change_the_bytes(threads, monkeypatch):
    import cv2

    before = cv2.getNumThreads()
    arrays = {"rgb": noise((2, 64, 64, 3)), "depth": np.random.default_rng(0).random((2, 64, 64), np.float32)}
    cv2.setNumThreads(1)
    first = dump_npz(pack_frames(arrays, {"depth": 13}), "x")
    try:
        cv2.setNumThreads(threads)
        assert dump_npz(pack_frames(arrays, {"depth": 13}), "x") == first
    finally:
        cv2.setNumThreads(before)
