"""Complete shards go together, sixteen at the most; one with work goes alone."""

import pytest
from support.plans import run_items
from support.scripted import items

from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.storage import StoreBusy, open_filesystem
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine import batches as neighbours
from recapture.tasks.engine.batches import TOGETHER, batches
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.planner import StagePlan


def run(store, stage, todo, **more):
    with InlineExecutor(store.root) as executor:
        return run_items(stage, todo, store, executor, **more)


def shards(todo, size=2):
    return list(enumerate(StagePlan(None, tuple(todo), "").shards(size)))


def cut_up(stage, todo, store, size=2):
    return batches(StagePlan(stage, tuple(todo), stage.name), size, store)


def cut(stage, todo, store, size=2):
    """First shard, shards and whether all is there; asserts that no item is lost, repeated or moved."""
    found = list(cut_up(stage, todo, store, size))
    assert [item for batch in found for item in batch.items] == list(todo)
    return [(batch.number, batch.shards, batch.complete is not None) for batch in found]


def test_a_job_with_everything_to_do_has_a_batch_a_shard(store, stage):
    assert cut(stage, items(*["ok"] * 5), store) == [(0, 1, False), (1, 1, False), (2, 1, False)]


def test_finished_neighbours_go_together_up_to_the_limit(store, stage):
    todo = items(*["ok"] * (TOGETHER + 2))
    run(store, stage, todo, run_id="r1")
    assert cut(stage, todo, store, size=1) == [(0, TOGETHER, True), (TOGETHER, 2, True)]


@pytest.mark.parametrize("loss", ["artifact", "file", "cut", "marker", "torn marker"])
def test_a_shard_with_one_artifact_lost_or_damaged_goes_alone(store, stage, loss):
    todo = items(*["ok"] * 10)
    run(store, stage, todo, run_id="r1")
    filesystem, base = open_filesystem(store.root)
    key = todo[5].key
    folder = f"{base}/objects/scripted/{key[:2]}/{key}"
    if loss == "artifact":
        filesystem.rm(folder, recursive=True)
    elif loss in ("file", "marker"):
        filesystem.rm_file(f"{folder}/{'x' if loss == 'file' else 'meta'}.json")
    else:
        filesystem.pipe_file(f"{folder}/{'x' if loss == 'cut' else 'meta'}.json", b"{")
    assert cut(stage, todo, store) == [(0, 2, True), (2, 1, False), (3, 2, True)]


def test_a_failed_item_keeps_its_shard_alone(store, stage):
    todo = items("ok", "ok", "fail", "ok")
    run(store, stage, todo, run_id="r1")
    assert cut(stage, todo, store) == [(0, 1, True), (1, 1, False)]


def test_a_later_shard_is_looked_up_when_the_work_before_it_is_done(store, stage, monkeypatch):
    todo = items(*["ok"] * 6)
    run(store, stage, todo[:2], run_id="r1")
    looked, complete = [], ArtifactStore.all_whole

    def looking(self, stage, keys):
        keys = list(keys)
        looked.append(len(keys))
        return complete(self, stage, keys)

    monkeypatch.setattr(ArtifactStore, "all_whole", looking)
    for batch in cut_up(stage, todo, store):
        if batch.complete is None:
            assert len(looked) == batch.number + 1  # no shard behind it was looked up
            run(store, stage, batch.items, run_id="r2")
    assert len(looked) == 3


def test_storage_that_does_not_answer_is_left_to_who_works_on_the_shard(store, stage, monkeypatch):
    todo = items("ok", "ok")
    run(store, stage, todo, run_id="r1")

    def away(self, stage, keys):
        raise StoreBusy("throttled")

    monkeypatch.setattr(ArtifactStore, "whole", away)
    assert cut(stage, todo, store) == [(0, 1, False)]


def test_a_batch_comes_to_the_same_as_its_shards_and_is_looked_at_once(store, stage, monkeypatch):
    todo = items(*["ok"] * 6, "ok")
    todo.append(todo[0])  # a second copy of a clip, in another shard
    run(store, stage, todo, run_id="r1")
    apart = [outcome for number, shard in shards(todo) for outcome in run(store, stage, shard, run_id="r2")]
    looked, exists = [], ArtifactStore._whole
    monkeypatch.setattr(
        ArtifactStore, "_whole", lambda self, stage, key: looked.append(key) or exists(self, stage, key)
    )
    filesystem, base = open_filesystem(store.root)
    filesystem.rm(f"{base}/manifests", recursive=True)
    (batch,) = cut_up(stage, todo, store)
    told = []
    together = run(store, stage, batch.items, run_id="r3", complete=batch.complete, on_outcome=told.append)
    assert together == apart == told
    assert {outcome.status for outcome in together} == {"reused"}
    assert sorted(looked) == sorted(item.key for item in todo)
    rows = read_manifest(store.root, "set", "scripted")  # artifacts that no part named are named
    assert {key: row["run_id"] for key, row in rows.items()} == {item.key: "r3" for item in todo}


def test_titles_number_the_shards_from_one():
    todo = tuple(items("ok", "ok"))
    assert neighbours.Batch(2, 1, todo, None).title == "3: 2 items"
    assert neighbours.Batch(2, 1, todo, {}).title == "3: 2 items, all complete"
    assert neighbours.Batch(2, 4, todo, {}).title == "3-6: 2 items, all complete"
