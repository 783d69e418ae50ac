"""What executors promise: every item comes back as one outcome, whatever happens to it; inline as on Ray."""

import pytest
from support.scripted import ScriptConfig, Scripted, counted, items, work

from recapture.conf.schema import ExecutionConfig
from recapture.tasks.engine.executor import InlineExecutor, open_executor
from recapture.tasks.engine.retry import RetryPolicy, StageSick, retry_policy
from recapture.tasks.engine.stage import Item, Outcome, Resources

POLICY = RetryPolicy()


def test_every_item_is_made_and_measured(executor, stage, store):
    todo = items(*["ok"] * 7)
    found = work(executor, stage, todo)
    for item in todo:
        outcome = found[item.name]
        assert (outcome.status, outcome.attempts, outcome.key) == ("ok", 1, item.key)
        assert (outcome.clip_id, outcome.stage) == (item.clip_id, "scripted")
        assert outcome.metrics == {"score": 6.0}
        assert outcome.seconds > 0
        assert outcome.device
        artifact = store.open("scripted", item.key)
        assert artifact.read_json("x.json") == {"item": item.name}
        assert outcome.bytes == sum(len(artifact.read_bytes(name)) for name in artifact.names())


def test_parents_are_opened_for_the_stage(executor, stage, store):
    with store.create("before", "p" * 32) as output:
        output.write_json("x.json", "from the parent")
    item = Item("a", "a", "k" * 32, {"before": "p" * 32}, "parent")
    orphan = Item("b", "b", "m" * 32, {"before": "q" * 32}, "parent")
    found = work(executor, stage, [item, orphan])
    assert store.open("scripted", item.key).read_json("parent.json") == "from the parent"
    assert found["b"].status == "blocked"  # it is not to blame; the next run makes its parent
    assert f"stage 'before' has no artifact {'q' * 32}" in found["b"].error


def test_no_items_need_no_set_up(executor, stage):
    assert work(executor, stage, []) == {}
    assert counted(stage.log, "setup") == 0


def test_one_failing_item_is_quarantined_and_the_others_finish(executor, stage, store):
    found = work(executor, stage, items("ok", "fail", "ok", "ok"))
    assert [found[f"clip/{n}"].status for n in range(4)] == ["ok", "quarantined", "ok", "ok"]
    failed = found["clip/1"]
    assert (failed.error_type, failed.attempts, failed.clip_id) == ("ValueError", 1, "clip/1")
    assert failed.error == "depth has 3 non-finite frames (12, 13, 14); drop the clip"
    assert "scripted.py" in failed.traceback
    assert not store.exists("scripted", failed.key)


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [("odd", "TwoArguments", "one 1, two 2"), ("silent", "AssertionError", "AssertionError")],
)
def test_an_exception_nobody_foresaw_keeps_clip_stage_type_and_place(executor, stage, script, kind, message):
    outcome = work(executor, stage, items(script))["clip/0"]
    assert (outcome.clip_id, outcome.stage, outcome.status) == ("clip/0", "scripted", "quarantined")
    assert (outcome.error_type, outcome.error) == (kind, message)
    assert "in run" in outcome.traceback


def test_what_may_mend_itself_is_tried_again(executor, stage):
    outcome = work(executor, stage, items("flaky"))["clip/0"]
    assert (outcome.status, outcome.attempts) == ("ok", 3)
    assert counted(stage.log, "run clip/0") == 3


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_what_does_not_mend_itself_is_given_up_after_the_configured_tries(executor, stage, attempts):
    found = work(
        executor, stage, items("throttled", "ok"), RetryPolicy(attempts=attempts, pause_seconds=0.01)
    )
    outcome = found["clip/0"]
    assert (outcome.status, outcome.attempts) == ("quarantined", attempts)
    assert outcome.error == f"slow down (try {attempts})"
    assert counted(stage.log, "run clip/0") == attempts
    assert found["clip/1"].status == "ok"


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (
            "user error",
            "stage 'scripted' cannot work: no model in 'weights/none'; set depth.model. "
            "Fix this and rerun the job; completed items are kept",
        ),
        (
            "error",
            "stage 'scripted' cannot work: KeyError: 'patch_size'. "
            "Fix this and rerun the job; completed items are kept",
        ),
    ],
)
def test_a_stage_that_cannot_be_set_up_stops_with_one_message(executor, stage, setup, message):
    stage.config = ScriptConfig(setup=setup)
    told = []
    with executor() as pool, pytest.raises(StageSick) as sick:
        pool.run(stage, items("ok", "ok", "ok"), told.append, POLICY)
    assert str(sick.value) == message
    assert told == []
    assert counted(stage.log, "run clip/0") == 0


def test_a_pool_works_on_after_a_sick_stage(executor, stage, tmp_path):
    sick = Scripted(str(tmp_path / "sick"), ScriptConfig(setup="error"))
    with executor() as pool:
        with pytest.raises(StageSick):
            pool.run(sick, items("ok", "ok"), lambda outcome: None, POLICY)
        outcomes = pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


def test_a_stage_gets_the_threads_of_its_resources(executor, stage, store):
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(5)
    cv2.setNumThreads(4)
    try:
        for cpus, threads in ((0.5, 1), (2.0, 2)):
            stage.resources = Resources(cpus=cpus)
            item = Item("a", "a", f"{cpus}".ljust(32, "0"), params="threads")
            work(executor, stage, [item])
            assert store.open("scripted", item.key).read_json("threads.json") == [threads, threads]
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (5, 4)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_the_callers_error_in_on_outcome_is_not_swallowed(executor, stage):
    def broken(outcome):
        raise OSError("disk full")

    with executor() as pool, pytest.raises(OSError, match="disk full"):
        pool.run(stage, items("ok", "ok"), broken, POLICY)


def test_a_policy_repeats_only_what_is_listed():
    policy = RetryPolicy(attempts=2)
    transient = Outcome("a", "a", "k", "s", "error", "ConnectionError", attempts=1)
    assert policy.again(transient)
    assert not policy.again(Outcome("a", "a", "k", "s", "error", "ConnectionError", attempts=2))
    assert not policy.again(Outcome("a", "a", "k", "s", "error", "ValueError", attempts=1))


def test_the_configuration_reaches_executor_and_policy(tmp_path):
    config = ExecutionConfig(executor="inline", attempts=7, timeout_seconds=12)
    assert isinstance(open_executor(config, str(tmp_path)), InlineExecutor)
    policy = retry_policy(config)
    assert (policy.attempts, policy.timeout_seconds) == (7, 12)
