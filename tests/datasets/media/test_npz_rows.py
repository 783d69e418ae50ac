from pathlib import Path

import fsspec
import numpy as np
import pytest

from recapture.datasets.media.npz_rows import NpzError, array_shape, read_rows


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("root", ["local", "memory"])
def test_rows_are_that_slice_of_the_array(tmp_path: Path, compressed: bool, root: str) -> None:
    array = np.random.default_rng(0).normal(size=(11, 4, 5)).astype(np.float32)
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, other=np.zeros(3), depth=array)
    uri = str(path)
    if root == "memory":
        uri = "memory://rows/a.npz"
        fsspec.filesystem("memory").pipe("/rows/a.npz", path.read_bytes())
    assert array_shape(uri, "depth") == (11, 4, 5)
    for start, stop in ((0, 11), (3, 7), (10, 20), (11, 12), (4, 4)):
        assert np.array_equal(read_rows(uri, "depth", start, stop), array[start:stop])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    turned = np.asfortranarray(np.zeros((4, 5)))
    np.savez(whole, depth=np.zeros((50, 8, 8)), order=turned, scalar=np.float64(1))
    cut.write_bytes(whole.read_bytes()[:2000])
    np.savez(tmp_path / "objects.npz", depth=np.array([{}], dtype=object))
    for name, array, reason in (
        ("whole.npz", "cameras", "no array 'cameras'"),
        ("whole.npz", "order", "C-ordered"),
        ("whole.npz", "scalar", "C-ordered"),
        ("cut.npz", "depth", "not a complete npz"),
        ("objects.npz", "depth", "numbers"),
        ("absent.npz", "depth", "no such file"),
    ):
        with pytest.raises(NpzError, match=f"{name}.*{reason}"):
            read_rows(str(tmp_path / name), array, 0, 1)


def test_a_damaged_member_is_an_error_and_not_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, depth=np.random.default_rng(0).normal(size=(50, 8, 8)))
    content = bytearray(path.read_bytes())
    content[5000:5400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(NpzError, match=r"a\.npz"):
        read_rows(str(path), "depth", 0, 50)
