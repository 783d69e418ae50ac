"""A stage's shard is brought up to date: what is there is reused, what failed is held, the rest is made."""

from dataclasses import replace

import pytest
from support.plans import run_items
from support.scripted import ScriptConfig, counted, items

from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.storage import open_filesystem
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.engine.run_stage import sort_items
from recapture.tasks.engine.stage import Item


def run(store, stage, todo, run_id="r1", **more):
    with InlineExecutor(store.root) as executor:
        return run_items(stage, todo, store, executor, run_id=run_id, **more)


def statuses(outcomes):
    return [outcome.status for outcome in outcomes]


def names(planned):
    return [item.name for item in planned]


def test_the_first_run_makes_everything_and_the_second_nothing(store, stage):
    todo = items("ok", "ok", "ok")
    first = run(store, stage, todo)
    second = run(store, stage, todo, "r2")
    assert statuses(first) == ["ok"] * 3
    assert statuses(second) == ["reused"] * 3
    assert counted(stage.log, "setup") == 1
    assert all(counted(stage.log, f"run {item.name}") == 1 for item in todo)


def test_outcomes_come_in_the_order_of_the_items_whatever_became_of_them(store, stage):
    todo = items("ok", "fail", "ok", "ok")
    run(store, stage, [todo[2], todo[1]])
    outcomes = run(store, stage, todo, "r2")
    assert [outcome.item for outcome in outcomes] == names(todo)
    assert statuses(outcomes) == ["ok", "quarantined", "reused", "ok"]


def test_every_outcome_is_told_once(store, stage):
    todo = items("ok", "fail", "ok")
    run(store, stage, todo[:1])
    told = []
    outcomes = run(store, stage, [*todo, orphan()], "r2", on_outcome=told.append)
    assert sorted(o.item for o in told) == sorted(o.item for o in outcomes)
    assert {o.item: o.status for o in told} == {o.item: o.status for o in outcomes}


def test_a_reused_item_keeps_the_metrics_of_its_making(store, stage):
    todo = items("ok")
    made = run(store, stage, todo)
    reused = run(store, stage, todo, "r2")
    assert reused[0].metrics == made[0].metrics == {"score": 6.0}


def test_losing_every_manifest_loses_no_work(store, stage):
    todo = items("ok", "ok")
    run(store, stage, todo)
    filesystem, base = open_filesystem(store.root)
    filesystem.rm(f"{base}/manifests", recursive=True)
    outcomes = run(store, stage, todo, "r2")
    assert statuses(outcomes) == ["reused"] * 2
    assert outcomes[0].metrics == {"score": 6.0}
    rows = read_manifest(store.root, "set", "scripted")
    assert {key: (row["status"], row["metrics"]) for key, row in rows.items()} == {
        item.key: ("reused", {"score": 6.0}) for item in todo
    }


@pytest.mark.parametrize("loss", ["artifact", "file", "cut", "marker"])
def test_an_artifact_lost_behind_our_back_is_made_again(store, stage, loss):
    todo = items("ok", "ok")
    run(store, stage, todo)
    filesystem, base = open_filesystem(store.root)
    key = todo[0].key
    folder = f"{base}/objects/scripted/{key[:2]}/{key}"
    if loss == "artifact":
        filesystem.rm(folder, recursive=True)
    elif loss == "file":
        filesystem.rm_file(f"{folder}/x.json")
    elif loss == "cut":
        filesystem.pipe_file(f"{folder}/x.json", b"{")
    else:
        filesystem.pipe_file(f"{folder}/meta.json", b"{")
    assert names(sort_items(stage, todo, store, "set").todo) == ["clip/0"]
    assert statuses(run(store, stage, todo, "r2")) == ["ok", "reused"]
    assert store.open("scripted", key).read_json("x.json") == {"item": "clip/0"}


def test_a_failed_item_is_held_with_its_reason_until_it_is_retried(store, stage):
    todo = items("fail", "ok")
    run(store, stage, todo)
    quarantine = Quarantine(store.root, "set")
    (entry,) = quarantine.entries()
    assert (entry.item, entry.clip_id, entry.stage, entry.key) == (
        "clip/0",
        "clip/0",
        "scripted",
        todo[0].key,
    )
    assert (entry.error_type, entry.attempts, entry.run_id) == ("ValueError", 1, "r1")
    assert "non-finite frames" in entry.error
    assert "scripted.py" in entry.traceback

    held = run(store, stage, todo, "r2")
    assert statuses(held) == ["quarantined", "reused"]
    assert (held[0].error_type, held[0].error) == ("ValueError", entry.error)
    assert counted(stage.log, "run clip/0") == 1

    quarantine.retry(entry)
    repaired = [replace(todo[0], params="ok"), todo[1]]
    assert statuses(run(store, stage, repaired, "r3")) == ["ok", "reused"]
    assert quarantine.entries() == []


def test_a_dropped_item_is_left_out_for_good(store, stage):
    todo = items("fail")
    run(store, stage, todo)
    quarantine = Quarantine(store.root, "set")
    quarantine.drop(quarantine.entries()[0])
    assert statuses(run(store, stage, todo, "r2")) == ["dropped"]
    assert counted(stage.log, "run clip/0") == 1


def test_an_artifact_that_is_there_outweighs_an_old_quarantine(store, stage):
    todo = items("fail")
    run(store, stage, todo)
    with store.create("scripted", todo[0].key) as output:
        output.write_json("x.json", {})
    assert statuses(run(store, stage, todo, "r2")) == ["reused"]


def orphan():
    return Item("b", "b@left", "b" * 32, {"before": "q" * 32}, "parent")


def test_an_item_without_its_parent_is_blocked_and_not_quarantined(store, stage):
    outcomes = run(store, stage, [orphan()])
    assert statuses(outcomes) == ["blocked"]
    assert outcomes[0].error == "stage 'before' has no artifact for it"
    assert Quarantine(store.root, "set").entries() == []
    assert counted(stage.log, "setup") == 0
    with store.create("before", "q" * 32) as output:
        output.write_json("x.json", 7)
    assert statuses(run(store, stage, [orphan()], "r2")) == ["ok"]


def test_parents_may_be_taken_for_granted_when_planning_ahead(store, stage):
    assert names(sort_items(stage, [orphan()], store, "set", expected=True).todo) == ["b@left"]
    assert [missing for _, missing in sort_items(stage, [orphan()], store, "set").blocked] == ["before"]


@pytest.mark.parametrize(("script", "expected"), [("ok", ["ok", "reused"]), ("fail", ["quarantined"] * 2)])
def test_two_copies_of_a_clip_are_worked_on_once(store, stage, script, expected):
    one = items(script)[0]
    outcomes = run(store, stage, [one, replace(one, name="copy", clip_id="copy")])
    assert statuses(outcomes) == expected
    assert outcomes[1].item == "copy"
    assert counted(stage.log, "run clip/0") == 1


def test_the_manifest_tells_what_was_worked_on_and_nothing_else(store, stage):
    todo = items("ok", "fail", "ok")
    run(store, stage, todo[:2], shard=4)
    run(store, stage, todo, "r2", shard=4)
    rows = read_manifest(store.root, "set", "scripted")
    assert rows.keys() == {item.key for item in todo}
    assert [rows[item.key]["status"] for item in todo] == ["ok", "quarantined", "ok"]
    assert [rows[item.key]["run_id"] for item in todo] == ["r1", "r1", "r2"]
    assert rows[todo[0].key]["metrics"] == {"score": 6.0}
    assert rows[todo[0].key]["bytes"] > 0
    assert rows[todo[0].key]["seconds"] > 0
    assert rows[todo[1].key]["error_type"] == "ValueError"
    run(store, stage, todo, "r3")
    assert not [path for path in _parts(store) if "r3" in path]


def _parts(store):
    filesystem, base = open_filesystem(store.root)
    return filesystem.find(f"{base}/manifests")


def test_a_sick_stage_leaves_nothing_behind(store, stage):
    stage.config = ScriptConfig(setup="user error")
    with pytest.raises(StageSick, match="no model in 'weights/none'"):
        run(store, stage, items("ok"))
    assert store.keys("scripted") == set()
    assert Quarantine(store.root, "set").entries() == []


def test_what_was_finished_before_an_interruption_is_recorded_and_reused(store, stage):
    todo = items("ok", "ok", "ok")

    def interrupt(outcome):
        if outcome.item == "clip/1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, stage, todo, on_outcome=interrupt)
    assert read_manifest(store.root, "set", "scripted").keys() == {item.key for item in todo[:2]}
    assert statuses(run(store, stage, todo)) == ["reused", "reused", "ok"]
    assert read_manifest(store.root, "set", "scripted").keys() == {item.key for item in todo}


def test_datasets_share_artifacts_and_not_quarantines(store, stage):
    todo = items("ok", "fail")
    run(store, stage, todo)
    with InlineExecutor(store.root) as executor:
        outcomes = run_items(stage, todo, store, executor, dataset="other", run_id="r2")
    assert statuses(outcomes) == ["reused", "quarantined"]
    assert counted(stage.log, "run clip/1") == 2
