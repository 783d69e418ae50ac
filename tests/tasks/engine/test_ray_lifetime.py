"""Ray starts when it is needed, and ends with the executor that started it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from support.scripted import Scripted, items

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Resources

pytestmark = pytest.mark.integration


@pytest.fixture
def ray():
    import ray
    from support import scripted

    assert not ray.is_initialized()
    ray.cloudpickle.register_pickle_by_value(scripted)
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(scripted)
    ray.shutdown()


def test_nothing_to_do_starts_no_ray(ray, tmp_path, monkeypatch):
    from recapture.tasks.engine.ray_executor import RayExecutor

    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was started"))
    with RayExecutor(str(tmp_path / "store")) as pool:
        assert pool.run(Scripted(str(tmp_path / "log")), [], lambda outcome: None, RetryPolicy()) == []
    assert not ray.is_initialized()


def test_work_starts_ray_and_the_end_stops_it(ray, tmp_path):
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path / "store"), workers=1) as pool:
        outcomes = pool.run(Scripted(str(tmp_path / "log")), items("ok"), lambda outcome: None, RetryPolicy())
        assert ray.is_initialized()
    assert [outcome.status for outcome in outcomes] == ["ok"]
    assert not ray.is_initialized()


@pytest.mark.full
def test_a_worker_with_a_whole_gpu_never_runs_beside_workers_that_share_it(ray, tmp_path):
    # Two jobs on a node that claims one GPU: one shares it by four, the other needs all of it.
    from recapture.tasks.engine.ray_executor import RayExecutor

    ray.init(address="local", num_cpus=6, num_gpus=1, include_dashboard=False, log_to_driver=False)
    store = ArtifactStore(str(tmp_path / "store"))
    jobs = {"shared": (0.25, items(*["slow"] * 12)), "whole": (1.0, items("slow", "slow"))}

    def run(name):
        gpus, todo = jobs[name]
        stage = Scripted(str(tmp_path / name), resources=Resources(cpus=1, gpus=gpus), name=name)
        with RayExecutor(store.root) as pool:
            return pool.run(stage, todo, lambda outcome: None, RetryPolicy(setup_seconds=120))

    with ThreadPoolExecutor() as threads:
        done = list(threads.map(run, jobs))
    assert {outcome.status for outcomes in done for outcome in outcomes} == {"ok"}
    spans = {
        name: [store.open(name, item.key).read_json("span.json") for item in todo]
        for name, (_, todo) in jobs.items()
    }
    together = [
        (one, other)
        for one in spans["shared"]
        for other in spans["whole"]
        if one[0] < other[1] and other[0] < one[1]
    ]
    assert together == []
    first, second = sorted(spans["whole"])
    assert first[1] <= second[0]  # one GPU holds one of them
    shared = [store.open("shared", item.key).read_json("pid.json") for item in jobs["shared"][1]]
    assert len(set(shared)) == 4  # but four of the others
    moments = [start for start, _ in spans["shared"]]
    assert max(sum(one[0] <= moment < one[1] for one in spans["shared"]) for moment in moments) == 4
