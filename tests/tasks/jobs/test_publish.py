"""Published files are complete, under the clips' own names, and written again only when something changed."""

import json
import resource
from contextlib import contextmanager

import pytest

from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.publish import RECORD, publish

VIDEO = bytes(range(256)) * 4096  # 1 MiB
CLIP = Clip("bmx/003", "/v/a.mp4", "video", "24", 5, 64, 48, 0.2, False, "", content_hash="1")
PARAMS = ClipParams(CLIP, TrajectoryConfig(preset="orbit_left", name="left"))
ITEM = Item("bmx/003", "bmx/003@left", "k1", params=PARAMS)


@pytest.fixture
def store(tmp_path):
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with store.create("deliver", "k1") as artifact:
        artifact.write_bytes("recapture.mp4", VIDEO)
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
    assert json.loads((folder / RECORD).read_text())["key"] == "k1"
    assert publish("deliver", [ITEM], metrics, store, str(outputs)) == 0
    assert publish("deliver", [ITEM], {"bmx/003@left": {"psnr": 31.0}}, store, str(outputs)) == 1


def test_a_copy_that_ends_in_the_middle_leaves_no_part_of_a_file_under_its_name(store, tmp_path):
    outputs = tmp_path / "outputs"
    with no_file_larger_than(len(VIDEO) // 2), pytest.raises(OSError, match="File too large"):
        publish("deliver", [ITEM], {}, store, str(outputs))
    assert [path for path in outputs.rglob("*") if path.is_file()] == []
    assert publish("deliver", [ITEM], {}, store, str(outputs)) == 1
    assert (outputs / "bmx/003/left/recapture.mp4").read_bytes() == VIDEO


def test_outputs_may_be_any_storage(store):
    assert publish("deliver", [ITEM], {}, store, "memory://published/outputs") == 1
    assert publish("deliver", [ITEM], {}, store, "memory://published/outputs") == 0
