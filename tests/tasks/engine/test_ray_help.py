"""Idle workers make parts of the last items of others; if they fail, the items are made all the same."""

import pytest
from support.scripted import PARTS, Parted, Scripted, counted, items

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Resources

pytestmark = pytest.mark.integration
GPU = Resources(cpus=0.5, gpus=1)


@pytest.fixture(scope="module")
def two_gpus():
    """A Ray that claims to have two GPUs."""
    import ray
    from support import scripted

    ray.cloudpickle.register_pickle_by_value(scripted)
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(scripted)


@pytest.fixture(scope="module")
def pool(two_gpus, tmp_path_factory):
    """A pool that tests share, empty at first: a worker takes seconds to start."""
    with RayExecutor(str(tmp_path_factory.mktemp("pool") / "store")) as opened:
        yield opened


def run(pool, tmp_path, *scripts, **policy):
    """Have items made; return their stage, their outcomes and the processes that made the parts of each."""
    stage, todo = Parted(str(tmp_path / "log"), resources=GPU), items(*scripts)
    outcomes = pool.run(stage, todo, lambda outcome: None, RetryPolicy(attempts=1, **policy))
    store = ArtifactStore(pool.store_root)
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    assert sorted(outcome.item for outcome in outcomes) == sorted(item.name for item in todo)
    made = {item.name: store.open("scripted", item.key).read_json("pids.json") for item in todo}
    return stage, {outcome.item: outcome for outcome in outcomes}, made


def test_one_long_item_alone_has_a_worker_for_each_of_its_parts(pool, tmp_path):
    # The first test of the pool: it has no worker yet.
    stage, _, made = run(pool, tmp_path, "long")
    assert len(set(made["clip/0"])) == 2
    assert counted(stage.log, "setup") == 2  # no more than there is room for


def test_the_last_long_item_is_made_by_both_workers(pool, tmp_path):
    # The short one is there so that a second worker is set up.
    stage, outcomes, made = run(pool, tmp_path, "long", "one piece")
    pids = made["clip/0"]
    own, other = pids[0], pids[-1]
    assert own != other
    assert pids == [own] * pids.count(own) + [other] * pids.count(other)  # from both ends
    assert counted(stage.log, "part clip/0") <= len(PARTS) + 1  # at most one was made twice
    assert outcomes["clip/0"].gpu_seconds >= 0.7 * len(PARTS)  # with the turns of who helped
    assert ArtifactStore(pool.store_root).keys("scripted-parts") == set()


@pytest.mark.parametrize("script", ["helper dies", "helper fails", "helper hangs"])
def test_a_helper_that_fails_costs_the_item_nothing(pool, tmp_path, script):
    stage, _, made = run(pool, tmp_path, script, "one piece", timeout_seconds=2.0)
    assert counted(stage.log, "help clip/0") == 1
    assert len(set(made["clip/0"])) == 1


def test_an_item_that_waits_behind_another_goes_to_the_worker_that_has_nothing_left(pool, tmp_path):
    stage = Scripted(str(tmp_path / "log"), resources=GPU, slots=2)
    todo = items("turn 6", "turn 0.5", "turn 6")  # the third one is read beside the first or the second
    outcomes = pool.run(stage, todo, lambda outcome: None, RetryPolicy(attempts=1))
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    store = ArtifactStore(pool.store_root)
    made = [store.open("scripted", item.key) for item in todo]
    assert made[0].read_json("pid.json") != made[2].read_json("pid.json")
    first, third = (one.read_json("span.json") for one in (made[0], made[2]))
    assert max(first[0], third[0]) < min(first[1], third[1])  # at the same time


def test_items_are_taken_back_before_their_turn_or_not_at_all(pool, tmp_path):
    stage = Scripted(str(tmp_path / "log"), resources=GPU, slots=2)
    todo = items("turn 2", "turn 0.1", "turn 0.1", "turn 1", "turn 0.1", "turn 2", "turn 0.5")
    outcomes = pool.run(stage, todo, lambda outcome: None, RetryPolicy(attempts=1))
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("ok", 1)}
    assert [counted(stage.log, f"turn {item.name}") for item in todo] == [1] * len(todo)


def test_items_of_one_piece_are_not_helped(pool, tmp_path):
    stage, _, made = run(pool, tmp_path, *["one piece"] * 5)
    assert all(counted(stage.log, f"help {item}") == 0 for item in made)
    assert all(len(set(pids)) == 1 for pids in made.values())
    assert pool.gpus == 2  # that its workers have had


def test_stages_without_parts_are_not_helped(pool, tmp_path):
    assert RayExecutor(str(tmp_path)).gpus == 0
    stage = Scripted(str(tmp_path / "log"), resources=GPU)
    outcomes = pool.run(stage, items("slow", "ok"), lambda outcome: None, RetryPolicy(attempts=1))
    assert {outcome.status for outcome in outcomes} == {"ok"}
