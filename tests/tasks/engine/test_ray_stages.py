"""Several stages at once on one set of workers: who gets which item, whose workers give way, who pays."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from support.scripted import ScriptConfig, Scripted, Weighted, counted, items

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.ray_gang import too_large
from recapture.tasks.engine.ray_shares import shares
from recapture.tasks.engine.retry import RetryPolicy, StageSick
from recapture.tasks.engine.stage import Resources

pytestmark = pytest.mark.integration
ONE_TRY = RetryPolicy(attempts=1)
GPU = Resources(cpus=0.5, gpus=1)


@pytest.fixture(scope="module")
def small_ray():
    """A Ray of one CPU that claims to have a GPU."""
    import ray
    from support import scripted

    ray.cloudpickle.register_pickle_by_value(scripted)
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(scripted)


@pytest.fixture(scope="module")
def pool(small_ray, tmp_path_factory):
    """A pool that tests share: a worker takes seconds to start."""
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path_factory.mktemp("pool") / "store")) as opened:
        yield opened


def stage_of(tmp_path, name, **more):
    return Scripted(str(tmp_path / name), name=name, **more)


def side_by_side(pool, runs, policy=ONE_TRY):
    """Run stages at once; return stage -> item -> outcome. runs: stage, items, rank."""

    def run(one):
        stage, todo, rank = one
        found = pool.run(stage, Feed(stage, todo, rank=rank), lambda outcome: None, policy)
        return stage.name, {outcome.item: outcome for outcome in found}

    with ThreadPoolExecutor(len(runs)) as threads:
        return dict(threads.map(run, runs))


def moments(pool, stage, todo):
    """When each item's artifact was committed."""
    store = ArtifactStore(pool.store_root)
    return [store.open(stage.name, item.key).read_json("moment.json") for item in todo]


def test_items_of_later_stages_come_first_and_among_them_the_longest(pool, tmp_path):
    first, last = (stage_of(tmp_path, name) for name in ("first", "last"))
    early = items("slow", *["moment"] * 4, stage="first")  # the slow one holds the only worker
    late = [
        replace(item, params=Weighted.of("moment", weight))
        for item, weight in zip(items(*["moment"] * 4, stage="last"), (2.0, 4.0, 1.0, 3.0), strict=True)
    ]
    found = side_by_side(pool, [(first, early, 0), (last, late, 1)])
    assert {outcome.status for outcomes in found.values() for outcome in outcomes.values()} == {"ok"}
    weights = [item.params.weight for _, item in sorted(zip(moments(pool, last, late), late, strict=True))]
    assert weights == [4.0, 3.0, 2.0, 1.0]
    assert max(moments(pool, last, late)) < min(moments(pool, first, early[1:]))
    assert counted(first.log, "setup") == counted(last.log, "setup") == 1  # one worker hosts both


def test_kinds_of_workers_that_do_not_fit_together_take_turns_and_do_not_thrash(pool, tmp_path):
    whole, half = stage_of(tmp_path, "whole"), stage_of(tmp_path, "half", resources=Resources(cpus=0.6))
    runs = [(one, items(*["ok"] * 12, stage=one.name), rank) for rank, one in enumerate((whole, half))]
    found = side_by_side(pool, runs)
    assert {outcome.status for outcomes in found.values() for outcome in outcomes.values()} == {"ok"}
    assert counted(whole.log, "setup") <= 2 and counted(half.log, "setup") <= 2


def test_two_items_of_a_worker_that_dies_are_tried_again_alone_and_only_what_dies_alone_pays(pool, tmp_path):
    stage = stage_of(tmp_path, "gpu", resources=GPU, slots=2)
    todo = items("kill in company", "sit in company", "ok", stage="gpu")
    found = side_by_side(pool, [(stage, todo, 0)])["gpu"]
    killer, company, other = (found[item.name] for item in todo)
    assert (killer.status, killer.error_type, killer.attempts) == ("quarantined", "WorkerLost", 1)
    assert (company.status, company.attempts) == ("ok", 1)
    assert (other.status, other.attempts) == ("ok", 1)
    assert counted(stage.log, "run clip/0") == 2


def test_the_silent_one_of_two_items_is_stopped_and_the_other_is_made_again_at_no_cost(pool, tmp_path):
    stage = stage_of(tmp_path, "gpu", resources=GPU, slots=2)
    todo = items("hang", "long", stage="gpu")
    found = side_by_side(pool, [(stage, todo, 0)], RetryPolicy(attempts=1, timeout_seconds=2))["gpu"]
    hung, other = (found[item.name] for item in todo)
    assert (hung.status, hung.error_type) == ("quarantined", "WorkerHung")
    assert (other.status, other.attempts) == ("ok", 1)


def test_a_sick_stage_stops_itself_and_not_those_beside_it(pool, tmp_path):
    sick = stage_of(tmp_path, "sick", config=ScriptConfig(setup="user error"))
    well = stage_of(tmp_path, "well")

    def run(stage):
        try:
            return pool.run(stage, items("ok", "ok", stage=stage.name), lambda outcome: None, ONE_TRY)
        except StageSick as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        error, made = threads.map(run, (sick, well))
    assert "no model in 'weights/none'" in str(error)
    assert [outcome.status for outcome in made] == ["ok", "ok"]


def test_stopping_ends_every_run_with_the_given_error_and_what_hangs_with_its_worker(pool, tmp_path):
    # The last test of the pool, which works no more.
    class Stopped(Exception):
        pass

    stage, raised = stage_of(tmp_path, "scripted"), []

    def run():
        try:
            pool.run(stage, items("hang"), lambda outcome: None, ONE_TRY)
        except Stopped as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not counted(stage.log, "run clip/0"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    why = Stopped()
    pool.stop(why)
    thread.join(20)
    assert raised == [why]
    with pytest.raises(Stopped):
        pool.run(stage, items("ok"), lambda outcome: None, ONE_TRY)
    while pool.actors:
        assert time.monotonic() < deadline
        time.sleep(0.05)


NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}]
MOST, TENTH = Resources(cpus=1, gpus=0.8), Resources(cpus=1, gpus=0.1)
FILL, CPU, HALF = Resources(cpus=2, gpus=1), Resources(cpus=1), Resources(cpus=1, gpus=0.5)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({CPU: 100}, {CPU: 12}),
        ({FILL: 100}, {FILL: 2}),
        ({FILL: 100, CPU: 100}, {FILL: 2, CPU: 8}),
        ({FILL: 1, CPU: 3}, {FILL: 1, CPU: 3}),
        ({FILL: 100, HALF: 100}, {FILL: 1, HALF: 2}),
        ({FILL: 100, HALF: 1, CPU: 100}, {FILL: 1, HALF: 1, CPU: 9}),
        ({Resources(cpus=6, bundles=3): 5}, {Resources(cpus=6, bundles=3): 2}),
        ({MOST: 100}, {MOST: 2}),  # not 2 / 0.8 = 2.5: part of a GPU is part of one device
        ({MOST: 100, TENTH: 100}, {MOST: 2, TENTH: 4}),
        ({Resources(gpus=0.4): 100}, {Resources(gpus=0.4): 4}),
        ({Resources(gpus=1.2, bundles=2): 9}, {Resources(gpus=1.2, bundles=2): 1}),
    ],
)
def test_kinds_of_workers_share_the_nodes_the_heaviest_first_and_one_of_each_in_turn(wanted, expected):
    assert shares(NODES, wanted, dict.fromkeys(wanted, 2)) == expected


def test_a_request_that_no_node_meets_is_named_with_the_node_that_comes_nearest():
    assert too_large({"fill": FILL, "measure": CPU}, NODES) == ""
    wanted = {"fill": Resources(cpus=16, gpus=1), "measure": CPU, "tune": Resources(9, 3, bundles=3)}
    assert too_large(wanted, NODES) == (
        "stage 'fill' needs 16 CPUs and 1 GPUs per worker, on one node; of 2 nodes the largest for it has "
        "8 CPUs and 2 GPUs; stage 'tune' needs 3 times 3 CPUs and 1 GPUs per worker, each on one node, and "
        "there is room for 2; of 2 nodes the largest for it has 8 CPUs and 2 GPUs: lower "
        "execution.resources.fill and execution.resources.tune and tune.workers, or add nodes"
    )


def test_where_not_one_of_each_kind_fits_those_at_work_stay_and_those_with_work_come_next():
    nodes, kinds = [{"CPU": 4.0, "GPU": 1.0}], {FILL: 9, HALF: 9}
    assert shares(nodes, kinds, {FILL: 2, HALF: 1}) == {FILL: 0, HALF: 2}
    assert shares(nodes, kinds, {FILL: 1, HALF: 0}) == {FILL: 0, HALF: 2}
    assert shares(nodes, kinds, {FILL: 1, HALF: 2}) == {FILL: 1, HALF: 0}
