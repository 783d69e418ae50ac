"""What executors promise: every item comes back as one outcome, whatever happens to it; inline as on Ray."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.scripted import ScriptConfig, Scripted, counted, items

from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.executor import InlineExecutor, open_executor
from recapture.tasks.engine.retry import RetryPolicy, StageSick, percentile_95, retry_policy
from recapture.tasks.engine.stage import Item, Outcome, Resources

POLICY = RetryPolicy()


@pytest.fixture
def store(store_root):
    return ArtifactStore(store_root)


@pytest.fixture
def stage(tmp_path):
    return Scripted(str(tmp_path / "log"))


def work(executor, stage, todo, policy=POLICY, **settings):
    """Run and return item -> outcome, after checking that each came once, and was told of once."""
    told = []
    with executor(**settings) as pool:
        outcomes = pool.run(stage, todo, told.append, policy)
    assert sorted(outcome.item for outcome in outcomes) == sorted(item.name for item in todo)
    assert told == outcomes
    return {outcome.item: outcome for outcome in outcomes}


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
    found = work(executor, stage, items("throttled", "ok"), RetryPolicy(attempts=attempts))
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


class TestRay:
    """What only separate processes can do."""

    pytestmark = pytest.mark.integration

    @pytest.mark.parametrize("script", ["kill", "exit"])
    def test_an_item_that_kills_its_worker_is_quarantined_alone(self, ray_executor, stage, script):
        found = work(ray_executor, stage, items("ok", script, *["ok"] * 6), RetryPolicy(attempts=2))
        poison = found.pop("clip/1")
        assert {outcome.status for outcome in found.values()} == {"ok"}
        assert {outcome.attempts for outcome in found.values()} == {1}
        assert (poison.status, poison.error_type, poison.attempts) == ("quarantined", "WorkerLost", 2)
        assert poison.error.startswith("its worker died: ")
        assert (poison.clip_id, poison.stage) == ("clip/1", "scripted")

    def test_a_worker_that_is_lost_once_costs_one_more_try(self, ray_executor, stage):
        outcome = work(ray_executor, stage, items("kill once"))["clip/0"]
        assert (outcome.status, outcome.attempts) == ("ok", 2)

    def test_an_item_that_hangs_is_stopped_at_its_limit_and_quarantined_alone(self, ray_executor, stage):
        started = time.monotonic()
        policy = RetryPolicy(attempts=1, timeout_seconds=2)
        found = work(ray_executor, stage, items("hang", "ok", "ok", "ok"), policy)
        assert time.monotonic() - started < 60
        hung = found.pop("clip/0")
        assert {outcome.status for outcome in found.values()} == {"ok"}
        assert (hung.status, hung.error_type, hung.attempts) == ("quarantined", "WorkerHung", 1)
        assert hung.error == "no result after 2 s; raise execution.timeout_seconds if it needs longer"
        assert hung.seconds >= 2

    def test_an_item_that_hangs_once_is_made_by_another_worker(self, ray_executor, stage):
        outcome = work(ray_executor, stage, items("hang once"), RetryPolicy(timeout_seconds=2))["clip/0"]
        assert (outcome.status, outcome.attempts) == ("ok", 2)

    def test_workers_that_die_in_their_set_up_make_the_stage_sick(self, ray_executor, stage):
        stage.config = ScriptConfig(setup="dies")
        with ray_executor(workers=1) as pool, pytest.raises(StageSick, match="died while setting up") as sick:
            pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
        assert str(sick.value).startswith("stage 'scripted' cannot work: ")
        assert counted(stage.log, "setup") == 4

    def test_a_set_up_that_hangs_makes_the_stage_sick(self, ray_executor, stage):
        stage.config = ScriptConfig(setup="hangs")
        with ray_executor(workers=1) as pool, pytest.raises(StageSick) as sick:
            pool.run(stage, items("ok"), lambda outcome: None, RetryPolicy(setup_seconds=4))
        assert "a worker was not ready after 4 s: its setup hangs, or no node has room" in str(sick.value)

    def test_one_set_up_that_hangs_costs_one_worker_and_not_the_stage(self, ray_executor, stage, tmp_path):
        work(ray_executor, Scripted(str(tmp_path / "warm")), items("slow", "slow"))
        stage.config = ScriptConfig(setup="hangs once")
        found = work(ray_executor, stage, items("slow", "slow"), RetryPolicy(setup_seconds=2))
        assert counted(stage.log, "setup") == 2
        assert [(outcome.status, outcome.attempts) for outcome in found.values()] == [("ok", 1)] * 2

    def test_one_worker_without_room_does_not_stop_the_others(self, ray_executor, stage):
        # Two CPUs hold two workers; the third is never placed.
        todo = items(*["ok"] * 8)
        found = work(ray_executor, stage, todo, RetryPolicy(setup_seconds=600), workers=3)
        assert {outcome.status for outcome in found.values()} == {"ok"}

    def test_workers_stay_warm_from_stage_to_stage(self, ray_executor, stage, store, tmp_path):
        second = Scripted(str(tmp_path / "log2"), name="second")
        with ray_executor(workers=1) as pool:
            for current in (stage, second):
                outcomes = pool.run(current, items("ok", "ok"), lambda outcome: None, POLICY)
                assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
                assert counted(current.log, "setup") == 1
        key = items("ok")[0].key
        pids = [store.open(name, key).read_json("pid.json") for name in ("scripted", "second")]
        assert pids[0] == pids[1] != os.getpid()

    def test_more_workers_than_items_are_not_set_up(self, ray_executor, stage, tmp_path):
        with ray_executor(workers=2) as pool:
            pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
            second = Scripted(str(tmp_path / "log2"))
            pool.run(second, items("ok"), lambda outcome: None, POLICY)
            assert counted(second.log, "setup") == 1

    def test_a_worker_killed_between_two_stages_is_replaced(self, ray_executor, stage, store, tmp_path):
        with ray_executor(workers=1) as pool:
            pool.run(stage, items("ok"), lambda outcome: None, POLICY)
            os.kill(store.open("scripted", items("ok")[0].key).read_json("pid.json"), signal.SIGKILL)
            outcomes = pool.run(stage, items("ok"), lambda outcome: None, POLICY)
        assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [("ok", 1)]

    def test_a_stage_that_fits_nowhere_says_what_to_change(self, ray_executor, stage):
        stage.resources = Resources(cpus=1, gpus=1)
        with ray_executor() as pool, pytest.raises(StageSick, match=r"lower execution.resources.scripted"):
            pool.run(stage, items("ok"), lambda outcome: None, POLICY)

    def test_a_ray_that_was_there_before_is_left_running(self, ray_executor, ray_cluster, stage):
        work(ray_executor, stage, items("ok", "ok"), workers=2)
        assert ray_cluster.is_initialized()
        wait_until(lambda: ray_cluster.available_resources().get("CPU") == 2)  # the workers are gone

    def test_datasets_is_hugging_faces_in_workers_too(self, ray_cluster):
        # Workers have the driver's working directory first on their path, and ./datasets with it.
        def origin():
            import importlib.util
            import sys

            sys.path.insert(0, root)
            return importlib.util.find_spec("datasets").origin

        root = str(Path(__file__).parents[3])
        found = ray_cluster.get(ray_cluster.remote(origin).remote())
        assert found is not None
        assert not Path(found).is_relative_to(f"{root}/datasets")

    def test_a_hung_item_is_stopped_with_its_process(self, ray_executor, stage):
        # The hung worker must be gone, or it would write into an artifact that another now makes.
        policy = RetryPolicy(timeout_seconds=2)
        work(ray_executor, stage, items("hang once"), policy, workers=1)
        pids = {int(path.name.split(".")[2]) for path in Path(stage.log).glob("run*")}
        assert len(pids) == 2
        wait_until(lambda: not any(alive(pid) for pid in pids))


def wait_until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


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


@pytest.mark.parametrize(("values", "expected"), [([], 0), ([3], 3), (range(100), 94), ([2, 1], 2)])
def test_the_percentile_is_the_nearest_rank(values, expected):
    assert percentile_95(values) == expected
