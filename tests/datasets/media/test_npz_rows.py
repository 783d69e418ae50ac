import io
import zipfile
from pathlib import Path
from typing import IO

import fsspec
import numpy as np
import pytest

from recapture.datasets.media import npz_rows
from recapture.datasets.media.npz_rows import (
    NpzError,
    NpzRows,
    array_shape,
    read_npy,
    read_rows,
    read_small_npz,
)


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


def test_rows_in_order_are_one_pass_over_the_file_whatever_the_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a.npz")
    maps = np.random.default_rng(0).random((100, 90, 160), dtype=np.float32)
    np.savez_compressed(path, depth=maps)
    dropped: list[int] = []
    drop = npz_rows._drop

    def counting(stream: IO[bytes], count: int) -> int:
        dropped.append(drop(stream, count))
        return dropped[-1]

    monkeypatch.setattr(npz_rows, "_drop", counting)
    rows = NpzRows(path, "depth")
    read = [rows.read(start, start + 16) for start in range(0, 100, 16)]
    assert np.array_equal(np.concatenate(read), maps)
    assert sum(dropped) == 0
    assert np.array_equal(rows.read(99, 100), maps[99:]) and np.array_equal(rows.read(3, 5), maps[3:5])


def test_a_shape_of_more_bytes_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (5, 10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", header.getvalue() + bytes(64))
    with pytest.raises(NpzError, match=r"a\.npz.*shape \[5, 1000000, 1000000\], but only \d+ bytes"):
        array_shape(str(tmp_path / "a.npz"), "depth")
    with pytest.raises(ValueError, match="but only"):
        read_small_npz((tmp_path / "a.npz").read_bytes(), 10**9)
    with pytest.raises(ValueError, match="but only"):
        read_npy(io.BytesIO(header.getvalue() + bytes(64)), 10**15)


def test_a_small_npz_that_unpacks_to_more_than_it_may_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", world_to_camera=np.zeros((100_000, 4, 4)))
    content = (tmp_path / "c.npz").read_bytes()
    assert len(content) < 100_000
    assert read_small_npz(content, 2 * 10**7)["world_to_camera"].shape == (100_000, 4, 4)
    with pytest.raises(ValueError, match="bytes when unpacked, the limit is 1000000"):
        read_small_npz(content, 10**6)


def test_a_compression_that_is_not_known_and_a_password_are_errors_of_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.zeros((3, 4, 5)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    central = content.index(b"PK\1\2")
    for place, value in ((8, 97), (6, 1)):  # compression of the entry, its flags
        changed = bytearray(content)
        changed[place] = value
        changed[central + place + 2] = value
        (tmp_path / "b.npz").write_bytes(changed)
        with pytest.raises(NpzError, match=r"b\.npz"):
            read_rows(str(tmp_path / "b.npz"), "depth", 0, 1)
