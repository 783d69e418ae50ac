"""Published files are complete, under the clips' own names, and written again only when something changed."""

import json
import resource
import uuid
from contextlib import contextmanager
from dataclasses import replace

import fsspec
import pytest

from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store import storage
from recapture.datasets.store.storage import StoreBusy, open_filesystem
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.publish import RECORD, publish

VIDEO = bytes(range(256)) * 4096  # 1 MiB
CLIP = Clip("bmx/003", "/v/a.mp4", "video", "24", 5, 64, 48, 0.2, False, "", content_hash="1")
CAPTION = {"text": "a cat", "origin": "written", "by": "/models/blip"}
PARAMS = ClipParams(CLIP, TrajectoryConfig(preset="orbit_left", name="left"))
ITEM = Item("bmx/003", "bmx/003@left", "k1", params=PARAMS)


@pytest.fixture
def store(tmp_path):
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with store.create("deliver", "k1") as artifact:
        artifact.write_bytes("recapture.mp4", VIDEO)
        artifact.meta["caption"] = CAPTION
    return store


@contextmanager
def no_file_larger_than(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_item_is_published_once_and_again_when_its_metrics_change(store, tmp_path):
    outputs = tmp_path / "outputs"
    metrics = {"bmx/003@left": {"psnr": 30.5, "lpips": float("nan")}}
    assert publish("deliver", [ITEM], metrics, store, f"{outputs}/") == 1
    folder = outputs / "bmx/003/left"
    assert sorted(path.name for path in folder.iterdir()) == [RECORD, "recapture.mp4"]
    assert (folder / "recapture.mp4").read_bytes() == VIDEO
    record = json.loads((folder / RECORD).read_text())
    assert record["key"] == "k1" and record["caption"] == CAPTION
    assert publish("deliver", [ITEM], metrics, store, str(outputs)) == 0
    assert publish("deliver", [ITEM], {"bmx/003@left": {"psnr": 31.0}}, store, str(outputs)) == 1


def test_a_copy_that_ends_in_the_middle_leaves_no_part_of_a_file_under_its_name(store, tmp_path):
    outputs = tmp_path / "outputs"
    with no_file_larger_than(len(VIDEO) // 2), pytest.raises(OSError, match="File too large"):
        publish("deliver", [ITEM], {}, store, str(outputs))
    assert [path for path in outputs.rglob("*") if path.is_file() and path.name[0] != "."] == []
    assert publish("deliver", [ITEM], {}, store, str(outputs)) == 1
    assert (outputs / "bmx/003/left/recapture.mp4").read_bytes() == VIDEO


def test_outputs_may_be_any_storage(store):
    assert publish("deliver", [ITEM], {}, store, "memory://published/outputs") == 1
    assert publish("deliver", [ITEM], {}, store, "memory://published/outputs") == 0


A, B, C = (
    {"recapture.mp4": b"A" * 40, "side_by_side.mp4": b"a" * 50},
    {"recapture.mp4": b"B" * 41},
    {"recapture.mp4": b"C" * 40, "side_by_side.mp4": b"c" * 52, "contact_sheet.png": b"s"},
)


@pytest.fixture
def three(tmp_path):
    """A store with the artifacts of one item under three settings."""
    store = ArtifactStore(str(tmp_path / "artifacts"))
    for key, files in {"a": A, "b": B, "c": C}.items():
        with store.create("deliver", key) as artifact:
            for name, content in files.items():
                artifact.write_bytes(name, content)
    return store


@pytest.fixture(params=["local", "memory", "s3"])
def outputs(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "outputs")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/outputs"
    request.getfixturevalue("s3_endpoint")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    bucket = f"outputs-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/outputs"


def shown(outputs):
    """Return file name -> bytes of the item's folder, without the record."""
    filesystem, root = open_filesystem(outputs)
    filesystem.invalidate_cache()
    folder = f"{root}/bmx/003/left"
    found = filesystem.find(folder) if filesystem.exists(folder) else []
    return {path.rsplit("/", 1)[1]: filesystem.cat_file(path) for path in found}


def published(three, key, outputs):
    return publish("deliver", [replace(ITEM, key=key)], {}, three, outputs)


def test_files_of_earlier_settings_do_not_stay_beside_new_ones(three, outputs):
    published(three, "a", outputs)
    assert published(three, "b", outputs) == 1
    assert shown(outputs).keys() - {RECORD} == {"recapture.mp4"}
    assert shown(outputs)["recapture.mp4"] == B["recapture.mp4"]


@pytest.mark.parametrize("harm", ["deleted", "cut off"])
def test_a_published_file_that_is_deleted_or_cut_off_is_written_again(three, outputs, harm):
    published(three, "a", outputs)
    filesystem, root = open_filesystem(outputs)
    path = f"{root}/bmx/003/left/side_by_side.mp4"
    filesystem.rm_file(path)
    if harm == "cut off":
        filesystem.pipe_file(path, b"aa")
    assert published(three, "a", outputs) == 1
    assert {name: content for name, content in shown(outputs).items() if name != RECORD} == A
    assert published(three, "a", outputs) == 0


def test_a_users_own_files_and_the_folders_of_other_clips_stay(three, tmp_path):
    outputs = str(tmp_path / "outputs")
    published(three, "a", outputs)
    folder = tmp_path / "outputs/bmx/003/left"
    (folder / "notes.txt").write_text("mine")
    (folder / "cut.mp4").write_text("mine too")
    (folder / "inner").mkdir()
    (folder / "inner/recapture.mp4").write_text("of clip bmx/003/left")
    published(three, "b", outputs)
    assert {path.name for path in folder.iterdir()} == {
        RECORD,
        "recapture.mp4",
        "notes.txt",
        "cut.mp4",
        "inner",
    }
    assert (folder / "inner/recapture.mp4").exists()


def test_a_folder_of_an_earlier_version_without_a_list_of_files_is_made_whole(three, tmp_path):
    folder = tmp_path / "outputs/bmx/003/left"
    folder.mkdir(parents=True)
    for name, content in C.items():
        (folder / name).write_bytes(content)
    (folder / RECORD).write_text(json.dumps({"clip": "bmx/003", "key": "c", "metrics": {}}))
    published(three, "b", str(tmp_path / "outputs"))
    assert {path.name for path in folder.iterdir()} == {RECORD, "recapture.mp4"}


class Killed(BaseException):
    """In place of SIGKILL."""


def dying_after(steps, filesystem, monkeypatch):
    """Make the storage die instead of the given change, counted from 0."""
    left = [steps]

    def counted(original):
        def change(*arguments, **settings):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return original(*arguments, **settings)

        return change

    changes = [(filesystem, "rm_file"), (filesystem, "pipe_file"), (filesystem, "put_file")]
    if "file" in filesystem.protocol:
        changes = [(filesystem, "rm_file"), (storage, "_replace_file")]
    for target, name in changes:
        monkeypatch.setattr(target, name, counted(getattr(target, name)))


@pytest.mark.parametrize("afterwards", ["a", "b", "c"])
def test_a_publication_killed_at_any_step_is_consistent_after_the_next_run(
    three, outputs, monkeypatch, afterwards
):
    filesystem, _ = open_filesystem(outputs)
    for steps in range(40):
        published(three, "a", outputs)
        with monkeypatch.context() as patch:
            dying_after(steps, filesystem, patch)
            try:
                published(three, "c", outputs)
                died = False
            except Killed:
                died = True
        files = shown(outputs)
        if RECORD in files:  # whatever the moment, a record tells the truth
            whole = {"a": A, "c": C}[json.loads(files[RECORD])["key"]]
            assert whole.items() <= files.items()
        published(three, afterwards, outputs)
        files = shown(outputs)
        assert json.loads(files.pop(RECORD))["key"] == afterwards
        assert files == {"a": A, "b": B, "c": C}[afterwards]
        if not died:
            break
    assert steps > 6 and not died


def test_a_copy_that_ends_up_shorter_is_not_recorded_as_published(three, monkeypatch):
    outputs = f"memory://{uuid.uuid4().hex}/outputs"
    filesystem, _ = open_filesystem(outputs)
    monkeypatch.setattr(filesystem, "put_file", lambda source, path: filesystem.pipe_file(path, b"short"))
    with pytest.raises(StoreBusy, match=r"recapture.mp4 has 5 bytes after it was written, not 40"):
        published(three, "a", outputs)
    assert RECORD not in shown(outputs)
