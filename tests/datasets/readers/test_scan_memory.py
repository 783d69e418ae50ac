"""A second scan of an unchanged dataset opens no file, and a changed file is always read again."""

import os
import shutil
import time
import uuid
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from fsspec.implementations.local import LocalFileOpener
from PIL import Image
from support.davis_like import davis_like

from recapture.datasets.clips.share import Share
from recapture.datasets.media.video import write_video
from recapture.datasets.readers import folders, read_all
from recapture.datasets.readers.scan import scan
from recapture.datasets.readers.scan_memory import ScanMemory
from recapture.datasets.store.upkeep import garbage, remove


def video(path, grey=20, frames=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(str(path), [np.full((32, 48, 3), grey, np.uint8)] * frames, Fraction(12))
    return path


def pictures(folder, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(np.full((8, 12, 3), 10 * index, np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    video(root / "a.mp4")
    (root / "a.txt").write_text("A wall")
    np.savez(root / "a.depth.npz", depth=np.ones((3, 32, 48), np.float32))
    video(root / "deep/b.mp4", 60)
    pictures(root / "walk")
    return root


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files that were just written count as old: the tests cannot wait for each."""
    monkeypatch.setattr(folders, "SETTLED", 0.0)


@pytest.fixture
def opens(monkeypatch):
    """How often each file is opened by name, and how many bytes of it are read."""
    opened, read = Counter(), Counter()
    real = LocalFileOpener._open

    def counting(self):
        if self.path not in opened or self.closed:
            opened[Path(self.path).name] += 1
        real(self)
        raw = self.f

        class Counted:
            def __getattr__(self, name):
                return getattr(raw, name)

            def read(self, *size):
                content = raw.read(*size)
                read[Path(raw.name).name] += len(content)
                return content

        self.f = Counted()

    monkeypatch.setattr(LocalFileOpener, "_open", counting)
    return opened, read


def scanned(root, store, **more):
    clips, rejected = scan(str(root), store=str(store), **more)
    assert not rejected
    return clips


def test_a_second_scan_opens_no_file_of_an_unchanged_dataset(dataset, tmp_path, opens):
    first = scanned(dataset, tmp_path / "store")
    opened, _ = opens
    assert set(opened) >= {"a.mp4", "a.txt", "a.depth.npz", "b.mp4", "0.png"}
    opened.clear()
    again = scanned(dataset, tmp_path / "store")
    assert [name for name in opened if not name.endswith(".parquet")] == []
    assert again == first == scan(str(dataset))[0]


def test_a_file_is_read_once_by_the_first_scan(tmp_path, opens):
    noise = np.random.default_rng(0).integers(0, 255, (40, 180, 320, 3), dtype=np.uint8)
    path = tmp_path / "data/a.mp4"
    path.parent.mkdir()
    write_video(str(path), noise, Fraction(30), crf=12)
    scanned(tmp_path / "data", tmp_path / "store")
    size = path.stat().st_size
    assert size > 1e6
    assert size <= opens[1]["a.mp4"] < 1.25 * size  # its first frame is read again to be decoded


@pytest.mark.parametrize("change", ["content", "caption", "sidecar", "no sidecar", "frame", "new frame"])
def test_a_changed_file_is_read_again_and_its_clip_alone(dataset, tmp_path, opens, change):
    before = {clip.id: clip for clip in scanned(dataset, tmp_path / "store")}
    changed = {"frame": "walk", "new frame": "walk"}.get(change, "a")
    if change == "content":
        video(dataset / "a.mp4", 200)
    elif change == "caption":
        (dataset / "a.txt").write_text("A door")  # of the same size
    elif change == "sidecar":
        np.savez(dataset / "a.known.npz", known=np.ones((3, 32, 48), bool))
    elif change == "no sidecar":
        (dataset / "a.depth.npz").unlink()
    elif change == "frame":
        Image.fromarray(np.full((8, 12, 3), 99, np.uint8)).save(dataset / "walk/1.png")
    else:
        Image.fromarray(np.full((8, 12, 3), 99, np.uint8)).save(dataset / "walk/3.png")
    opens[0].clear()
    after = {clip.id: clip for clip in scanned(dataset, tmp_path / "store")}
    assert {clip_id for clip_id in before if after[clip_id] != before[clip_id]} == {changed}
    assert "b.mp4" not in opens[0]
    assert after == {clip.id: clip for clip in scan(str(dataset))[0]}


def test_a_file_replaced_by_one_of_equal_size_and_age_is_read_again(dataset, tmp_path):
    path = dataset / "a.mp4"
    (before,) = (clip for clip in scanned(dataset, tmp_path / "store") if clip.id == "a")
    content, times = bytearray(path.read_bytes()), path.stat()
    content[content.index(b"x264")] ^= 1
    (tmp_path / "other.mp4").write_bytes(content)
    os.utime(tmp_path / "other.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "other.mp4").rename(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    (after,) = (clip for clip in scanned(dataset, tmp_path / "store") if clip.id == "a")
    assert after.content_hash != before.content_hash


def test_a_file_that_has_only_just_changed_is_not_remembered(dataset, tmp_path, opens, monkeypatch):
    monkeypatch.setattr(folders, "SETTLED", 60.0)
    scanned(dataset, tmp_path / "store")
    opens[0].clear()
    scanned(dataset, tmp_path / "store")
    assert opens[0]["a.mp4"] and opens[0]["b.mp4"]
    # A time far ahead, as of a camera whose clock is wrong, is not a recent one.
    assert folders._is_settled(time.time() + 1e9, time.time())


def test_what_is_remembered_may_be_damaged_or_unwritable_and_costs_time_only(
    dataset, tmp_path, opens, caplog
):
    store = tmp_path / "store"
    first = scanned(dataset, store)
    (held,) = (store / "scans").iterdir()
    whole = held.read_bytes()
    table = pa.parquet.read_table(held)
    for damage in (b"", b"PAR1", whole[:-20], whole[:200] + bytes(100) + whole[300:]):
        held.write_bytes(damage)
        assert scanned(dataset, store) == first
    pa.parquet.write_table(table.drop_columns(["answer"]), held)
    assert scanned(dataset, store) == first
    assert "so the dataset is read again" in caplog.text
    shutil.rmtree(store)
    store.write_text("a file where the store should be")
    assert scanned(dataset, store) == first
    assert "cannot be remembered" in caplog.text


def test_two_scans_at_once_do_no_harm(dataset, tmp_path):
    store = str(tmp_path / "store")
    one, two = (ScanMemory(store, str(dataset), "auto") for _ in range(2))
    first = scanned(dataset, store)
    one.close()  # they found nothing, and began before
    two.close()
    assert scanned(dataset, store) == first


def remembered(store):
    files = sorted((store / "scans").iterdir())
    return sorted(pa.parquet.read_table(file).column("id").to_pylist() for file in files)


def test_what_is_gone_is_forgotten_and_other_datasets_keep_theirs(dataset, tmp_path):
    store = tmp_path / "store"
    scanned(dataset, store)
    scanned(dataset / "deep", store)
    (dataset / "a.mp4").unlink()
    shutil.rmtree(dataset / "walk")
    scanned(dataset, store)
    assert remembered(store) == [["b"], ["deep/b"]]


def test_a_disk_that_is_away_for_one_scan_is_not_read_again(dataset, tmp_path, opens):
    store = tmp_path / "store"
    first = scanned(dataset, store)
    dataset.rename(tmp_path / "away")
    dataset.mkdir()  # the empty folder that an unmounted disk leaves
    assert scan(str(dataset), store=str(store))[0] == []
    dataset.rmdir()
    (tmp_path / "away").rename(dataset)
    (dataset / "deep").rename(tmp_path / "b")
    scanned(dataset, store)
    (tmp_path / "b").rename(dataset / "deep")
    opens[0].clear()
    assert scanned(dataset, store) == first
    assert [name for name in opens[0] if not name.endswith(".parquet")] == []


def test_files_of_a_list_are_remembered_too(dataset, tmp_path, opens):
    rows = [{"uri": "data/a.mp4", "depth_uri": None}, {"uri": "data/deep/b.mp4", "depth_uri": "far.npz"}]
    np.savez(tmp_path / "far.npz", depth=np.ones((3, 32, 48)))
    pa.csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "list.csv")
    first = scanned(tmp_path / "list.csv", tmp_path / "store")
    opens[0].clear()
    assert scanned(tmp_path / "list.csv", tmp_path / "store") == first
    assert {name for name in opens[0] if not name.endswith(".parquet")} <= {"list.csv"}
    np.savez(tmp_path / "far.npz", depth=2 * np.ones((3, 32, 48)))
    assert scanned(tmp_path / "list.csv", tmp_path / "store")[1] != first[1]


def test_views_of_a_layout_are_remembered_by_their_pictures_and_maps(tmp_path, opens):
    root = davis_like(tmp_path / "davis", ("bear", "swan"))
    first = scanned(root, tmp_path / "store")
    assert [clip.id for clip in first] == ["bear", "swan"] and first[0].kind == "davis"
    opens[0].clear()
    assert scanned(root, tmp_path / "store") == first
    assert [name for name in opens[0] if not name.endswith(".parquet")] == []
    mask = root / "Annotations/480p/swan/00001.png"
    Image.fromarray(np.full((8, 12), 7, np.uint8)).save(mask)
    bear, swan = scanned(root, tmp_path / "store")
    assert bear == first[0] and swan != first[1]


def test_files_are_read_in_parallel_and_a_long_scan_is_saved_meanwhile(dataset, tmp_path, monkeypatch):
    for number in range(12):
        shutil.copyfile(dataset / "a.mp4", dataset / f"deep/{number}.mp4")
    running, most = set(), []
    look = read_all._read

    def slow(item, held):
        running.add(item.id)
        time.sleep(0.05)
        most.append(len(running))
        found = look(item, held)
        running.discard(item.id)
        return found

    monkeypatch.setattr(read_all, "_read", slow)
    monkeypatch.setattr(read_all.os, "cpu_count", lambda: 4)
    monkeypatch.setattr("recapture.datasets.readers.scan_memory.SAVED_EVERY", 0.0)
    monkeypatch.setattr(ScanMemory, "close", lambda self: None)  # killed before its end
    clips = scanned(dataset, tmp_path / "store")
    assert len(clips) == 15 and max(most) > 1
    monkeypatch.undo()
    monkeypatch.setattr(folders, "SETTLED", 0.0)
    memory = ScanMemory(str(tmp_path / "store"), str(dataset), "auto")
    assert len(memory._old) >= 1


def test_on_s3_one_listing_with_etags_answers_for_all_files(s3_endpoint, tmp_path, dataset, monkeypatch):
    bucket = f"test-{uuid.uuid4().hex}"
    fs = fsspec.filesystem("s3")
    fs.mkdir(bucket)
    fs.put(f"{dataset}/", f"{bucket}/data/", recursive=True)
    uri = f"s3://{bucket}/data"
    calls = Counter()
    real = type(fs)._call_s3

    async def counting(self, method, *args, **kwargs):
        calls[method] += 1
        return await real(self, method, *args, **kwargs)

    monkeypatch.setattr(type(fs), "_call_s3", counting)
    first = scanned(uri, tmp_path / "store")
    local = scan(str(dataset))[0]
    assert [replace(clip, uri="", depth_uri="") for clip in first] == [
        replace(clip, uri="", depth_uri="") for clip in local
    ]
    calls.clear()
    assert scanned(uri, tmp_path / "store") == first
    assert calls["get_object"] == 0 and sum(calls.values()) < 12, calls
    path = video(tmp_path / "other.mp4", 99)
    fs.put_file(str(path), f"{bucket}/data/deep/b.mp4")
    changed = scanned(uri, tmp_path / "store")
    assert [one.id for one, other in zip(changed, first, strict=True) if one != other] == ["deep/b"]


def test_scans_that_nobody_uses_are_garbage_and_those_in_use_are_kept_young(dataset, tmp_path):
    store = tmp_path / "store"
    first = scanned(dataset, store)
    (held,) = (store / "scans").iterdir()
    (store / "scans/.left.parquet.0123").write_bytes(b"half")
    assert garbage(str(store), 24.0) == []
    days = 86400
    os.utime(held, (time.time() - 89 * days, time.time() - 89 * days))
    os.utime(store / "scans/.left.parquet.0123", (1, 1))
    assert [item.why for item in garbage(str(store), 24.0)] == ["left over from a write"]
    os.utime(held, (time.time() - 91 * days, time.time() - 91 * days))
    found = garbage(str(store), 24.0)
    assert {Path(item.path).name: item.why for item in found} == {
        ".left.parquet.0123": "left over from a write",
        held.name: "scan not used for 90 days",
    }
    assert scanned(dataset, store) == first  # which marks it as used
    assert [item.why for item in garbage(str(store), 24.0)] == ["left over from a write"]
    for item in found:
        remove(str(store), item)
    assert list((store / "scans").iterdir()) == []
    assert scanned(dataset, store) == first


def test_the_shares_of_a_dataset_read_every_clip_once_and_remember_their_own(dataset, tmp_path, opens):
    (dataset / "broken.mp4").write_bytes(b"no video")
    whole, rejected = scan(str(dataset))
    assert len(whole) == 3 and len(rejected) == 1
    opened, _ = opens
    for again in range(2):
        opened.clear()
        shares = [scan(str(dataset), store=str(tmp_path / "store"), share=Share(n, 3)) for n in (1, 2, 3)]
        assert sorted((clip for clips, _ in shares for clip in clips), key=lambda clip: clip.id) == whole
        assert [one for _, lost in shares for one in lost] == rejected
        read = {Path(name).name for name in opened}
        assert ("a.mp4" in read) == (not again) and "broken.mp4" in read
    held = [{clip.id for clip in clips} for clips, _ in shares]
    assert all(Share(n, 3).holds(clip) for n, ids in enumerate(held, 1) for clip in ids)
