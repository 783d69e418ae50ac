"""Stages side by side over several nodes, one of which is lost."""

import shutil
import tempfile
import threading
import time
from dataclasses import replace

import pytest
from support.bare_job import configure
from support.scripted import Scripted, counted, items

from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands import doctor_nodes
from recapture.tasks.engine.board import Board
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Resources

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]  # a cluster is started


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two nodes with one CPU each and a head, with folders of its own: others may run beside it."""
    import ray
    from ray.cluster_utils import Cluster
    from support import scripted

    folder = tempfile.mkdtemp(prefix="ray-")  # short, as paths of sockets have to be
    ray.cloudpickle.register_pickle_by_value(scripted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes, workers
        ray.shutdown()
        nodes.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(scripted)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pool(cluster, tmp_path):
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path / "store")) as opened:
        yield opened


def test_two_stages_stream_over_two_nodes(pool, tmp_path):
    half = Resources(cpus=0.5)
    first = Scripted(str(tmp_path / "first"), name="first", resources=half)
    second = Scripted(str(tmp_path / "second"), name="second", resources=half, parents=("first",))
    todo = items(*["node"] * 6, stage="first")
    later = [
        replace(item, inputs={"first": made.key})
        for item, made in zip(items(*["node"] * 6, stage="second"), todo, strict=True)
    ]
    board, found = Board(), {}
    for stage, some in ((first, todo), (second, later)):
        board.expect(StagePlan(stage, tuple(some), ""), 0)

    def run(stage, some, rank):
        feed = Feed(stage, some, board=board, rank=rank)
        found[stage.name] = pool.run(stage, feed, board.settle, RetryPolicy(attempts=1))

    pool.prepare([(first, 6), (second, 6)])
    threads = [threading.Thread(target=run, args=one) for one in ((first, todo, 0), (second, later, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert {outcome.status for outcomes in found.values() for outcome in outcomes} == {"ok"}
    store = ArtifactStore(pool.store_root)
    nodes = {store.open("first", item.key).read_json("node.json") for item in todo}
    assert len(nodes) == 2


def test_doctor_asks_every_node_for_its_versions_and_for_what_was_written_here(
    cluster, tmp_path, monkeypatch
):
    words = ("--outputs", f"memory://{tmp_path.name}/outputs")  # memory is of one process: not shared
    found = list(doctor_nodes.check_nodes(configure(tmp_path, *words)))
    assert [finding.status for finding in found] == ["fail"] * 3
    for finding in found:
        assert "outputs: memory://" in finding.message and "mount it on all nodes" in finding.way_out
    (fine,) = doctor_nodes.check_nodes(configure(tmp_path))
    assert fine.status == "ok" and fine.message.startswith("3 of 3 have this package")
    assert not list(tmp_path.rglob(".probe-*"))
    monkeypatch.setattr(doctor_nodes, "_versions", lambda: {"recapture": "9", "torch": "2", "python": "3"})
    assert all(
        "recapture 9" in finding.message and "one image" in finding.way_out
        for finding in doctor_nodes.check_nodes(configure(tmp_path))
    )


def test_a_node_that_is_lost_costs_the_item_on_it_one_more_try_and_the_others_nothing(
    cluster, pool, tmp_path
):
    nodes, workers = cluster
    stage, found = Scripted(str(tmp_path / "log")), []
    todo = items("long", "long", "ok", "ok")

    def run():
        found.extend(pool.run(stage, todo, lambda outcome: None, RetryPolicy(attempts=2)))

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 200
    while not (counted(stage.log, "run clip/0") and counted(stage.log, "run clip/1")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    nodes.remove_node(workers[0], allow_graceful=False)
    thread.join(300)
    assert {outcome.status for outcome in found} == {"ok"}
    assert sorted(outcome.attempts for outcome in found) == [1, 1, 1, 2]
