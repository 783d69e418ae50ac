"""An artifact is there completely or not at all, on local disks, in memory and on S3."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recapture.datasets.store.artifact import META
from recapture.datasets.store.errors import ArtifactDamaged, ArtifactError
from recapture.datasets.store.lease import lease
from recapture.datasets.store.npz import dump_npz
from recapture.datasets.store.storage import open_filesystem, put_file
from recapture.datasets.store.store import ArtifactStore

KEY = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


@pytest.fixture
def store(root):
    return ArtifactStore(root)


def commit(store, key=KEY, stage="depth", content=b"payload"):
    with store.create(stage, key) as output:
        output.write_bytes("a.bin", content)
        output.write_json("b.json", {"n": 1})
        output.meta["fps"] = 25.0


def files_below(store):
    filesystem, base = open_filesystem(store.root)
    filesystem.invalidate_cache()
    return sorted(filesystem.find(base)) if filesystem.exists(base) else []


def path_of(store, name, key=KEY, stage="depth"):
    filesystem, base = open_filesystem(store.root)
    return filesystem, f"{base}/objects/{stage}/{key[:2]}/{key}/{name}"


def test_what_was_written_is_read(store):
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    with store.create("depth", KEY) as output:
        output.write_npz("x.npz", frames=frames, scale=np.float32(0.5))
        output.write_json("y.json", {"b": [1, 2]})
        output.meta["fps"] = 25.0
    artifact = store.open("depth", KEY)
    assert artifact.names() == ["x.npz", "y.json"]
    arrays = artifact.read_npz("x.npz")
    np.testing.assert_array_equal(arrays["frames"], frames)
    assert arrays["frames"].dtype == np.uint8
    assert arrays["scale"] == np.float32(0.5)
    assert artifact.read_json("y.json") == {"b": [1, 2]}
    assert artifact.meta == {"fps": 25.0}
    filesystem, path = open_filesystem(artifact.uri("y.json"))
    assert filesystem.cat_file(path) == artifact.read_bytes("y.json")


def test_an_artifact_exists_from_its_commit_to_its_deletion(store):
    assert not store.exists("depth", KEY)
    assert store.keys("depth") == set()
    with store.create("depth", KEY) as output:
        output.write_bytes("a.bin", b"payload")
        assert not store.exists("depth", KEY)
        assert store.keys("depth") == set()
        assert output.total_bytes == 7
    assert store.exists("depth", KEY)
    assert store.keys("depth") == {KEY}
    assert not store.exists("fill", KEY)
    store.delete("depth", KEY)
    assert not store.exists("depth", KEY)
    assert store.keys("depth") == set()
    assert files_below(store) == []


def test_deleting_one_artifact_leaves_the_others_and_deleting_none_is_no_error(store):
    commit(store)
    commit(store, key=OTHER)
    store.delete("depth", KEY)
    store.delete("depth", KEY)
    assert store.keys("depth") == {OTHER}
    assert store.exists("depth", OTHER)


def test_a_write_that_fails_leaves_nothing(store):
    with pytest.raises(RuntimeError, match="halfway"), store.create("depth", KEY) as output:
        output.write_bytes("a.bin", b"payload")
        raise RuntimeError("halfway")
    assert not store.exists("depth", KEY)
    assert files_below(store) == []


def test_a_write_that_fails_does_not_take_anothers_commit_with_it(store):
    with pytest.raises(RuntimeError, match="late"), store.create("depth", KEY) as slow:
        slow.write_bytes("a.bin", b"payload")
        commit(store)
        raise RuntimeError("late")
    assert store.exists("depth", KEY)
    assert store.open("depth", KEY).read_bytes("a.bin") == b"payload"


def test_a_write_that_fails_does_not_take_the_files_of_one_that_goes_on(store):
    # Two jobs make the same key. On storage without a cheap rename, leases tell that there are two.
    with lease(store.root, "one", "set"), lease(store.root, "two", "set"):
        slow = store.create("depth", KEY)
        slow.__enter__()
        slow.write_bytes("a.bin", b"payload")
        with pytest.raises(RuntimeError, match="halfway"), store.create("depth", KEY) as failing:
            failing.write_bytes("a.bin", b"payload")
            failing.write_bytes("other.bin", b"more")
            raise RuntimeError("halfway")
        slow.write_json("b.json", {"n": 1})
        slow.__exit__(None, None, None)
    assert store.open("depth", KEY).read_bytes("a.bin") == b"payload"
    assert store.exists("depth", KEY)


def test_a_file_that_is_written_twice_has_its_last_content(store):
    with store.create("depth", KEY) as output:
        output.write_bytes("a.bin", b"first")
        output.write_bytes("a.bin", b"last")
    assert store.open("depth", KEY).read_bytes("a.bin") == b"last"
    assert {path.rsplit("/", 1)[1] for path in files_below(store)} == {"a.bin", META}


def test_reading_what_is_not_there_says_what_to_do(store):
    with pytest.raises(ArtifactError, match=f"stage 'depth' has no artifact {KEY}; run the job again"):
        store.open("depth", KEY)


def test_files_without_the_commit_marker_are_no_artifact(store):
    commit(store)
    filesystem, marker = path_of(store, META)
    filesystem.rm_file(marker)
    assert not store.exists("depth", KEY)
    assert store.keys("depth") == set()
    with pytest.raises(ArtifactError, match="has no artifact"):
        store.open("depth", KEY)


def test_a_file_that_the_artifact_never_had_is_named(store):
    commit(store)
    with pytest.raises(ArtifactError, match=r"has no file 'c.bin'; it has \['a.bin', 'b.json'\]"):
        store.open("depth", KEY).read_bytes("c.bin")


def test_a_file_of_another_size_is_noticed_without_reading_it(store):
    commit(store)
    filesystem, path = path_of(store, "a.bin")
    for content in (b"pay", b"payload and more"):
        filesystem.pipe_file(path, content)
        assert not store.exists("depth", KEY)
        with pytest.raises(ArtifactError, match=f"damaged: a.bin: {len(content)} bytes instead of 7"):
            store.open("depth", KEY).check_sizes()


def test_a_flipped_bit_is_noticed_when_reading(store):
    commit(store)
    filesystem, path = path_of(store, "a.bin")
    filesystem.pipe_file(path, b"paYload")
    with pytest.raises(ArtifactError, match=f"{KEY} of stage 'depth' is damaged: a.bin: .*sha256 differs"):
        store.open("depth", KEY).read_bytes("a.bin")


def test_a_file_that_is_gone_is_noticed(store):
    commit(store)
    filesystem, path = path_of(store, "a.bin")
    artifact = store.open("depth", KEY)
    filesystem.rm_file(path)
    assert not store.exists("depth", KEY)
    with pytest.raises(ArtifactError, match=r"damaged: a.bin: the file is missing"):
        artifact.read_bytes("a.bin")


def test_a_damaged_commit_marker_is_noticed(store):
    commit(store)
    filesystem, path = path_of(store, META)
    for marker in (b"", b'{"files": {"a.b', b"[]", b'{"meta": {}}', b"\xff\xfe"):
        filesystem.pipe_file(path, marker)
        assert not store.exists("depth", KEY)
        with pytest.raises(ArtifactError, match=r"damaged: meta.json"):
            store.open("depth", KEY)


def test_making_a_damaged_artifact_again_mends_it(store):
    commit(store)
    filesystem, path = path_of(store, "a.bin")
    filesystem.pipe_file(path, b"pay")
    commit(store)
    assert store.open("depth", KEY).read_bytes("a.bin") == b"payload"


def test_a_file_name_cannot_leave_the_artifact(store):
    for name in ("", ".", "..", "../a", "a/b", "a\\b", "a\nb", META):
        with (
            pytest.raises(ArtifactError, match="use a plain file name"),
            store.create("depth", KEY) as output,
        ):
            output.write_bytes(name, b"")
        assert files_below(store) == [], name


def test_writers_of_one_key_at_once_leave_one_whole_artifact(store):
    barrier = threading.Barrier(4)
    problems = []

    def write():
        try:
            own = ArtifactStore(store.root)
            barrier.wait()
            for _ in range(5):
                commit(own, content=b"x" * 50_000)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    artifact = store.open("depth", KEY)
    artifact.check_sizes()
    assert artifact.read_bytes("a.bin") == b"x" * 50_000
    assert len(files_below(store)) == 3


def test_a_library_that_writes_files_gets_a_local_path(store):
    with store.create("deliver", KEY) as output, output.local_file("v.mp4") as path:
        Path(path).write_bytes(b"video")
    assert store.open("deliver", KEY).read_bytes("v.mp4") == b"video"


def test_a_file_can_be_read_at_a_local_path_wherever_it_is_stored(store):
    with store.create("deliver", KEY) as output:
        output.write_bytes("v.mp4", b"video")
    artifact = store.open("deliver", KEY)
    with artifact.local_path("v.mp4") as path:
        assert Path(path).read_bytes() == b"video"
    with pytest.raises(ArtifactError, match=r"no file 'w\.mp4'"), artifact.local_path("w.mp4"):
        pass
    filesystem, damaged = path_of(store, "v.mp4", stage="deliver")
    filesystem.pipe_file(damaged, b"vidEo")
    with pytest.raises(ArtifactDamaged, match="5 bytes whose sha256 differs"), artifact.local_path("v.mp4"):
        pass
    filesystem.rm_file(damaged)
    with pytest.raises(ArtifactDamaged, match="the file is missing"), artifact.local_path("v.mp4"):
        pass


def test_a_large_file_is_stored_and_read_in_blocks(tmp_path):
    store, size = ArtifactStore(str(tmp_path)), 40 * 2**20
    tracemalloc.start()
    try:
        with store.create("deliver", KEY) as output, output.local_file("v.mp4") as path:
            Path(path).touch()
            os.truncate(path, size)
        with store.open("deliver", KEY).local_path("v.mp4") as path:
            assert Path(path).stat().st_size == size
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_the_same_arrays_are_the_same_bytes_at_any_time():
    rng = np.random.default_rng(0)
    arrays = {"depth": rng.random((5, 7)).astype(np.float32), "visible": rng.random((5, 7)) > 0.5}
    first = dump_npz(arrays, "x.npz")
    time.sleep(2.1)  # time stamps in a zip count in steps of two seconds
    assert dump_npz({name: array.copy(order="F") for name, array in arrays.items()}, "x.npz") == first
    assert dump_npz({**arrays, "visible": ~arrays["visible"]}, "x.npz") != first


def test_numpy_reads_what_the_store_writes():
    array = np.linspace(0, 1, 12).reshape(3, 4)
    with np.load(io.BytesIO(dump_npz({"a": array}, "x.npz")), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["a"], array)


def test_python_objects_are_neither_written_nor_read(store):
    with pytest.raises(ArtifactError, match="'a' holds Python objects"):
        dump_npz({"a": np.array([{}], dtype=object)}, "x.npz")
    pickled = io.BytesIO()
    np.savez(pickled, a=np.array([{}], dtype=object))
    with store.create("depth", KEY) as output:
        output.write_bytes("x.npz", pickled.getvalue())
    with pytest.raises(ArtifactError, match=r"x.npz of artifact .* cannot be read as npz without pickle"):
        store.open("depth", KEY).read_npz("x.npz")


def test_a_torn_npz_is_an_artifact_error(store):
    whole = dump_npz({"a": np.zeros(1000)}, "x.npz")
    with store.create("depth", KEY) as output:
        output.write_bytes("x.npz", whole[:-40])
    with pytest.raises(ArtifactError, match="cannot be read as npz"):
        store.open("depth", KEY).read_npz("x.npz")


def test_npz_is_compressed():
    content = dump_npz({"hole": np.zeros((100, 100), dtype=bool)}, "x.npz")
    assert len(content) < 1000
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["hole.npy"]


def test_a_local_file_is_never_seen_half_written(tmp_path):
    filesystem, base = open_filesystem(str(tmp_path))
    path = f"{base}/f.bin"
    contents = {b"a" * 2_000_000, b"b" * 1_000_000}
    put_file(filesystem, path, b"a" * 2_000_000)
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            with open(path, "rb") as stream:
                seen.append(stream.read() in contents)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            put_file(filesystem, path, content)
    stop.set()
    reader.join()
    assert seen
    assert all(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["f.bin"]


def test_a_disk_error_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    filesystem, base = open_filesystem(str(tmp_path))
    put_file(filesystem, f"{base}/f.bin", b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        put_file(filesystem, f"{base}/f.bin", b"new")
    assert (tmp_path / "f.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.bin"]


KILLED = """
import sys, time
from recapture.datasets.store.store import ArtifactStore
with ArtifactStore(sys.argv[1]).create("depth", sys.argv[2]) as output:
    output.write_bytes("a.bin", b"payload")
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_before_the_commit_leaves_no_artifact(tmp_path):
    store = ArtifactStore(str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), KEY], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not store.exists("depth", KEY)
    assert store.keys("depth") == set()
    commit(store)
    assert store.open("depth", KEY).read_bytes("a.bin") == b"payload"
