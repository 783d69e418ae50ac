"""Frames come back as they were given, whatever the chunks, and no more than a chunk is held."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recapture.conf.heartbeat import beat, call
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.frames import FrameWriter
from recapture.datasets.store.storage import StoreFailed
from recapture.datasets.store.store import ArtifactStore

KEY = "ab" * 16


def arrays(frames, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "video": rng.integers(0, 256, (frames, 4, 5, 3), dtype=np.uint8),
        "depth": rng.random((frames, 4, 5)).astype(np.float32),
        "time": np.arange(frames, dtype=np.float64),
    }


def write(store, given, cuts, chunk, key=KEY):
    with store.create("ingest", key) as output, output.frames(chunk) as writer:
        for start, stop in zip([0, *cuts], [*cuts, len(given["time"])]):
            writer.append(**{name: array[start:stop] for name, array in given.items()})
    return store.open("ingest", key)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_stretch_is_the_slice_of_what_was_given(tmp_path, data):
    frames = data.draw(st.integers(1, 23))
    chunk = data.draw(st.integers(1, 25))
    cuts = sorted(data.draw(st.lists(st.integers(0, frames), max_size=5)))
    whole = arrays(frames)
    reader = write(ArtifactStore(str(tmp_path)), whole, cuts, chunk).frames()
    assert reader.frames == frames
    for _ in range(3):
        start = data.draw(st.integers(0, frames - 1))
        stop = data.draw(st.integers(start + 1, frames))
        read = reader.read(start, stop)
        assert read.keys() == whole.keys()
        for name, array in read.items():
            np.testing.assert_array_equal(array, whole[name][start:stop])
            assert array.dtype == whole[name].dtype


def test_the_files_do_not_depend_on_how_frames_were_handed_over(tmp_path):
    whole = arrays(11)
    one = write(ArtifactStore(str(tmp_path / "one")), whole, [], 4)
    other = write(ArtifactStore(str(tmp_path / "other")), whole, [1, 2, 7, 7, 10], 4)
    assert one.names() == ["frames-00000.npz", "frames-00001.npz", "frames-00002.npz", "frames.json"]
    assert {n: one.read_bytes(n) for n in one.names()} == {n: other.read_bytes(n) for n in other.names()}


def test_only_the_arrays_asked_for_come_back(tmp_path):
    reader = write(ArtifactStore(str(tmp_path)), arrays(5), [], 2).frames()
    assert reader.read(1, 4, ["depth"]).keys() == {"depth"}


def test_going_forward_reads_each_file_once(tmp_path, monkeypatch):
    artifact = write(ArtifactStore(str(tmp_path)), arrays(10), [], 4)
    opened = []
    read_bytes = artifact.read_bytes
    monkeypatch.setattr(artifact, "read_bytes", lambda name: opened.append(name) or read_bytes(name))
    reader = artifact.frames()
    for start in range(9):
        reader.read(start, start + 2)
    assert opened == ["frames.json", "frames-00000.npz", "frames-00001.npz", "frames-00002.npz"]


class Stored:
    """An artifact whose files are stored when the test lets them be."""

    def __init__(self, error=None):
        self.names, self.threads, self.go, self.error = [], set(), threading.Event(), error

    def write_npz(self, name, /, **arrays):
        assert self.go.wait(30)
        self.threads.add(threading.current_thread())
        if self.error is not None and name == "frames-00001.npz":
            raise self.error
        self.names.append((name, {key: array.tolist() for key, array in arrays.items()}))

    def write_json(self, name, value):
        self.names.append((name, value))


def test_frames_are_stored_beside_the_next_computation_and_in_order():
    artifact = Stored()
    with FrameWriter(artifact, 2) as writer:
        frames = np.arange(5)
        writer.append(a=frames)
        frames[:] = -1  # the caller may use its array again
        assert artifact.names == []  # two files are on their way, and the caller has gone on
        artifact.go.set()
    assert artifact.names == [
        ("frames-00000.npz", {"a": [0, 1]}),
        ("frames-00001.npz", {"a": [2, 3]}),
        ("frames-00002.npz", {"a": [4]}),
        ("frames.json", {"frames": 5, "chunk": 2}),
    ]
    assert len(artifact.threads) == 2


@pytest.mark.parametrize("error", [StoreFailed("no space"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_error_of_storing_comes_out_at_the_next_call_or_at_the_end(error):
    for calls in (1, 20):
        artifact = Stored(error)
        artifact.go.set()
        made = 0
        with pytest.raises(type(error)) as raised, FrameWriter(artifact, 1) as writer:
            for _ in range(calls):
                writer.append(a=np.arange(2))
                made += 1
        assert raised.value is error
        assert made < 20
        assert [name for name, _ in artifact.names] == ["frames-00000.npz"]  # nothing after what failed


def test_the_callers_error_ends_the_storing_and_nothing_is_stored_after_it():
    artifact = Stored()
    with pytest.raises(KeyError, match="the caller's"), FrameWriter(artifact, 1) as writer:
        writer.append(a=np.arange(2))
        artifact.go.set()
        raise KeyError("the caller's")
    before = list(artifact.names)
    assert len(before) <= 2
    assert all(not thread.is_alive() for thread in artifact.threads)


def test_the_beats_of_storing_are_those_of_the_call():
    artifact = Stored()
    artifact.write_npz = lambda name, /, **arrays: beat()
    with call("other") as other, call("own") as own:
        own.last = other.last = 0.0
        with FrameWriter(artifact, 1) as writer:
            writer.append(a=np.arange(3))
        assert own.last > 0
        assert other.last == 0


def test_the_writer_holds_less_than_a_chunk_between_calls(tmp_path):
    with ArtifactStore(str(tmp_path)).create("ingest", KEY) as output, output.frames(4) as writer:
        for frame in range(30):
            writer.append(video=np.full((1, 2, 2, 3), frame, dtype=np.uint8))
            assert sum(len(part) for part in writer._pending["video"]) < 4
            stored = len(output._files)
            # One chunk is stored, one waits for that, and one may wait to be taken up.
            assert (frame + 1) // 4 - 3 <= stored <= (frame + 1) // 4


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 0), (2, 2), (3, 2), (0, 6), (5, 6)])
def test_frames_that_are_not_there_are_refused(tmp_path, start, stop):
    reader = write(ArtifactStore(str(tmp_path)), arrays(5), [], 2).frames()
    with pytest.raises(ValueError, match=rf"frames {start}\.\.\.{stop - 1} of artifact {KEY} .*it has 5"):
        reader.read(start, stop)


def test_arrays_of_one_call_have_one_length(tmp_path):
    store = ArtifactStore(str(tmp_path))
    with (
        pytest.raises(ValueError, match=r"differ in length: \{'a': 2, 'b': 3\}"),
        store.create("ingest", KEY) as output,
        output.frames() as writer,
    ):
        writer.append(a=np.zeros(2), b=np.zeros(3))
    assert not store.exists("ingest", KEY)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_every_call_brings_the_same_arrays(tmp_path, first):
    # `first` frames in chunks of two: with and without frames that wait for the rest of their chunk.
    with (
        pytest.raises(ValueError, match=r"expected arrays \['a'\], got \['a', 'b'\]"),
        ArtifactStore(str(tmp_path)).create("ingest", KEY) as output,
        output.frames(2) as writer,
    ):
        writer.append(a=np.zeros(first))
        writer.append(a=np.zeros(1), b=np.zeros(1))


@pytest.mark.parametrize(
    "other", [np.zeros((1, 3), np.uint8), np.zeros((1, 2), np.float32)], ids=["size", "type"]
)
def test_every_call_brings_frames_of_one_kind(tmp_path, other):
    # A silent change of type would give the bytes another meaning from one chunk to the next.
    with (
        pytest.raises(ValueError, match="'a'"),
        ArtifactStore(str(tmp_path)).create("ingest", KEY) as output,
        output.frames(2) as writer,
    ):
        writer.append(a=np.zeros((2, 2), np.uint8))
        writer.append(a=other)


def test_no_frames_are_an_empty_video(tmp_path):
    with ArtifactStore(str(tmp_path)).create("ingest", KEY) as output, output.frames() as writer:
        writer.append(a=np.zeros((0, 2)))
    assert ArtifactStore(str(tmp_path)).open("ingest", KEY).frames().frames == 0


def test_an_artifact_without_frames_says_so(tmp_path):
    store = ArtifactStore(str(tmp_path))
    with store.create("measure", KEY) as output:
        output.write_json("metrics.json", {})
    with pytest.raises(ArtifactError, match=r"stage 'measure' has no file 'frames.json'"):
        store.open("measure", KEY).frames()


def test_an_error_while_writing_frames_leaves_nothing(tmp_path):
    store = ArtifactStore(str(tmp_path))
    with pytest.raises(RuntimeError), store.create("ingest", KEY) as output, output.frames(2) as writer:
        writer.append(a=np.zeros(5))
        raise RuntimeError
    assert not store.exists("ingest", KEY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
