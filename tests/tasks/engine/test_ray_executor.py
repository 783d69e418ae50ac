"""What executors promise that only separate processes can do: dying, hanging, waiting and staying warm."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.scripted import ScriptConfig, Scripted, counted, items, work

from recapture.tasks.engine.board import Board
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.retry import RetryPolicy, StageSick
from recapture.tasks.engine.stage import Resources

pytestmark = pytest.mark.integration
POLICY = RetryPolicy()


@pytest.mark.parametrize("script", ["kill", "exit"])
def test_an_item_that_kills_its_worker_is_quarantined_alone(ray_executor, stage, script):
    found = work(ray_executor, stage, items("ok", script, *["ok"] * 6), RetryPolicy(attempts=2))
    poison = found.pop("clip/1")
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert {outcome.attempts for outcome in found.values()} == {1}
    assert (poison.status, poison.error_type, poison.attempts) == ("quarantined", "WorkerLost", 2)
    assert poison.error.startswith("its worker died: ")
    assert (poison.clip_id, poison.stage) == ("clip/1", "scripted")


def test_a_worker_that_is_lost_once_costs_one_more_try(ray_executor, stage):
    outcome = work(ray_executor, stage, items("kill once"))["clip/0"]
    assert (outcome.status, outcome.attempts) == ("ok", 2)


def test_an_item_that_hangs_is_stopped_at_its_limit_and_quarantined_alone(ray_executor, stage):
    started = time.monotonic()
    policy = RetryPolicy(attempts=1, timeout_seconds=2)
    found = work(ray_executor, stage, items("hang", "ok", "ok", "ok"), policy)
    assert time.monotonic() - started < 60
    hung = found.pop("clip/0")
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert (hung.status, hung.error_type, hung.attempts) == ("quarantined", "WorkerHung", 1)
    assert hung.error == "no progress for 2 s; raise execution.timeout_seconds if it needs longer"
    assert hung.seconds >= 2


def test_an_item_that_hangs_once_is_made_by_another_worker(ray_executor, stage):
    outcome = work(ray_executor, stage, items("hang once"), RetryPolicy(timeout_seconds=2))["clip/0"]
    assert (outcome.status, outcome.attempts) == ("ok", 2)


def test_an_item_of_ten_times_the_limit_survives_while_it_makes_progress(ray_executor, stage):
    found = work(ray_executor, stage, items("long", "ok"), RetryPolicy(attempts=1, timeout_seconds=1))
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert found["clip/0"].seconds >= 10


def test_a_worker_that_cannot_answer_has_as_long_as_one_that_makes_no_progress(ray_executor, stage):
    quick = work(ray_executor, stage, items("busy"), RetryPolicy(attempts=1, timeout_seconds=60))["clip/0"]
    assert quick.status == "ok"
    hung = work(ray_executor, stage, items("busy"), RetryPolicy(attempts=1, timeout_seconds=1))["clip/0"]
    assert (hung.status, hung.error_type) == ("quarantined", "WorkerHung")


def test_one_set_up_that_hangs_costs_one_worker_and_not_the_stage(ray_executor, stage, tmp_path):
    work(ray_executor, Scripted(str(tmp_path / "warm")), items("slow", "slow"))
    stage.config = ScriptConfig(setup="hangs once")
    found = work(
        ray_executor, stage, items("slow", "slow"), RetryPolicy(setup_seconds=10)
    )  # imports take seconds on a busy machine
    assert counted(stage.log, "setup") == 2
    assert [(outcome.status, outcome.attempts) for outcome in found.values()] == [("ok", 1)] * 2


def test_a_stage_that_fits_nowhere_says_what_to_change(ray_executor, stage):
    stage.resources = Resources(cpus=1, gpus=1)
    with ray_executor() as pool, pytest.raises(StageSick, match=r"lower execution.resources.scripted"):
        pool.run(stage, items("ok"), lambda outcome: None, POLICY)


def test_stages_that_fit_nowhere_are_named_together_before_any_works(ray_executor, stage, tmp_path):
    large = Scripted(str(tmp_path / "large"), name="large", resources=Resources(cpus=64))
    on_gpu = Scripted(str(tmp_path / "gpu"), name="on_gpu", resources=Resources(cpus=1, gpus=2))
    with ray_executor() as pool, pytest.raises(StageSick) as sick:
        pool.prepare([(stage, 1), (large, 4), (on_gpu, 4)])
    assert str(sick.value) == (
        "stage 'large' needs 64 CPUs and 0 GPUs per worker, on one node; of 1 nodes the largest for it has "
        "2 CPUs and 0 GPUs; stage 'on_gpu' needs 1 CPUs and 2 GPUs per worker, on one node; of 1 nodes the "
        "largest for it has 2 CPUs and 0 GPUs: lower execution.resources.large and "
        "execution.resources.on_gpu, or add nodes"
    )
    assert counted(stage.log, "setup") == 0


def test_workers_of_all_kinds_are_started_and_set_up_while_the_first_stage_still_works(
    ray_executor, stage, tmp_path
):
    # The second stage reads what the first one makes: nothing of it is ready before that is made.
    heavy = Scripted(
        str(tmp_path / "heavy"), name="heavy", resources=Resources(cpus=1.2), parents=("scripted",)
    )
    stage.resources, ready = Resources(cpus=0.5), threading.Event()
    todo, later = items("long"), items("ok", stage="heavy")
    board = Board()
    board.expect(StagePlan(stage, tuple(todo), ""), 0)
    later = [replace(later[0], inputs={"scripted": todo[0].key})]
    found = {}

    def run(pool, one, some):
        feed = Feed(one, some, board=board)
        found[one.name] = pool.run(one, feed, lambda outcome: (ready.set(), board.settle(outcome)), POLICY)

    with ray_executor() as pool:
        pool.release()
        pool.prepare([(stage, 1), (heavy, 1)])
        wait_until(lambda: len(pool.actors) == 2)  # before any item is there
        threads = [threading.Thread(target=run, args=(pool, *one)) for one in ((stage, todo), (heavy, later))]
        for thread in threads:
            thread.start()
        wait_until(lambda: counted(heavy.log, "setup") == 1)
        assert not ready.is_set()
        for thread in threads:
            thread.join()
    assert [one.status for outcomes in found.values() for one in outcomes] == ["ok", "ok"]


def test_workers_announced_for_what_turns_out_to_be_done_give_way(ray_executor, stage, tmp_path):
    done = Scripted(str(tmp_path / "done"), name="done", resources=Resources(cpus=2))
    with ray_executor() as pool:
        pool.release()
        pool.prepare([(done, 8), (stage, 2)])
        wait_until(lambda: len(pool.actors) == 1)  # there is no room for both
        assert pool.run(done, [], lambda outcome: None, POLICY) == []
        outcomes = pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


def test_datasets_is_hugging_faces_in_workers_too(ray_cluster):
    # Workers have the driver's working directory first on their path, and ./datasets with it.
    def origin():
        import importlib.util
        import sys

        sys.path.insert(0, root)
        return importlib.util.find_spec("datasets").origin

    root = str(Path(__file__).parents[3])
    asked = ray_cluster.remote(num_cpus=0)(origin)  # the pool that the tests share may hold every CPU
    found = ray_cluster.get(asked.remote())
    assert found is not None
    assert not Path(found).is_relative_to(f"{root}/datasets")


# From here on pools with settings of their own: changing from pool to pool starts workers anew.


def test_a_set_up_of_many_times_the_limit_survives_while_it_makes_progress(ray_executor, stage, tmp_path):
    work(ray_executor, Scripted(str(tmp_path / "warm")), items("ok"), workers=1)  # a process takes seconds
    stage.config = ScriptConfig(setup="loads long")
    found = work(ray_executor, stage, items("ok"), RetryPolicy(setup_seconds=1), workers=1)
    assert found["clip/0"].status == "ok"


def test_workers_that_die_in_their_set_up_make_the_stage_sick(ray_executor, stage):
    stage.config = ScriptConfig(setup="dies")
    with ray_executor(workers=1) as pool, pytest.raises(StageSick, match="died while setting up") as sick:
        pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
    assert str(sick.value).startswith("stage 'scripted' cannot work: ")
    assert counted(stage.log, "setup") == 4


def test_a_set_up_that_hangs_makes_the_stage_sick(ray_executor, stage):
    stage.config = ScriptConfig(setup="hangs")
    with ray_executor(workers=1) as pool, pytest.raises(StageSick) as sick:
        pool.run(stage, items("ok"), lambda outcome: None, RetryPolicy(setup_seconds=4))
    assert "made no progress for 4 s: its setup hangs, or no node has room" in str(sick.value)


def test_workers_stay_warm_from_stage_to_stage(ray_executor, stage, store, tmp_path):
    second, todo = Scripted(str(tmp_path / "log2"), name="second"), items("ok", "ok")
    with ray_executor(workers=1) as pool:
        for current in (stage, second):
            outcomes = pool.run(current, todo, lambda outcome: None, POLICY)
            assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
            assert counted(current.log, "setup") == 1
    pids = [store.open(name, todo[0].key).read_json("pid.json") for name in ("scripted", "second")]
    assert pids[0] == pids[1] != os.getpid()


def test_a_worker_killed_between_two_stages_is_replaced(ray_executor, stage, store, tmp_path):
    todo = items("ok")
    with ray_executor(workers=1) as pool:
        pool.run(stage, todo, lambda outcome: None, POLICY)
        os.kill(store.open("scripted", todo[0].key).read_json("pid.json"), signal.SIGKILL)
        outcomes = pool.run(stage, items("ok"), lambda outcome: None, POLICY)
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [("ok", 1)]


def test_a_hung_item_is_stopped_with_its_process(ray_executor, stage):
    # The hung worker must be gone, or it would write into an artifact that another now makes.
    policy = RetryPolicy(timeout_seconds=2)
    work(ray_executor, stage, items("hang once"), policy, workers=1)
    tries = sorted(path.name.split(".")[1:3] for path in Path(stage.log).glob("run*"))
    (first, hung), (second, other) = tries
    assert (first, second) == ("1", "2") and hung != other
    wait_until(lambda: not alive(int(hung)))


def test_one_worker_without_room_does_not_stop_the_others(ray_executor, stage):
    # Two CPUs hold two workers; the third is never placed.
    todo = items(*["ok"] * 8)
    found = work(ray_executor, stage, todo, RetryPolicy(setup_seconds=600), workers=3)
    assert {outcome.status for outcome in found.values()} == {"ok"}


def test_more_workers_than_items_are_not_set_up(ray_executor, stage, tmp_path):
    with ray_executor(workers=2) as pool:
        pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
        second = Scripted(str(tmp_path / "log2"))
        pool.run(second, items("ok"), lambda outcome: None, POLICY)
        assert counted(second.log, "setup") == 1


def test_a_ray_that_was_there_before_is_left_running(pool_apart, warm_pool, ray_cluster, stage):
    pool_apart.close()
    warm_pool.release()
    with RayExecutor(warm_pool.store_root) as pool:
        outcomes = pool.run(stage, items("ok", "ok"), lambda outcome: None, POLICY)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    assert ray_cluster.is_initialized()
    wait_until(lambda: ray_cluster.available_resources().get("CPU") == 2)  # the workers are gone


def wait_until(holds, seconds=60):
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
