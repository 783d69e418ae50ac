"""A training over two nodes of a Ray cluster: the same adapter, no process left behind, clear errors."""

import os
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from support.trainings import (
    KEY,
    difference,
    run_and_commit,
    store_with_pairs,
    stored_adapter,
    tune_item,
    tune_stage,
)

from recapture.conf.schema import FillConfig
from recapture.tasks.engine.retry import RetryPolicy, StageSick
from recapture.tasks.engine.stage import Outcome, Resources
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.tune_stage import TuneStage

TWO_BUNDLES = Resources(cpus=2, bundles=2)


# The set-up starts a cluster and imports torch in each process; test_two_bundles.py runs on every commit.
pytestmark = [pytest.mark.full, pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two nodes with one CPU each and a head, with folders of its own: others may run beside it."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # short, as paths of sockets have to be
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes
        ray.shutdown()
        nodes.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pool(cluster, tmp_path_factory):
    """A pool that tests share: a worker takes seconds to start."""
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path_factory.mktemp("pool") / "store")) as opened:
        yield opened


@dataclass(frozen=True)
class Training:
    """A training over two nodes, of which one process died in its third step, and its twin in one process."""

    outcome: Outcome
    curve: list
    weights: dict
    curve_alone: list
    weights_alone: dict
    log: Path

    def wrote(self, what):
        """What its processes wrote down: process -> text."""
        return {int(path.stem): path.read_text() for path in self.log.glob(f"*.{what}")}


@pytest.fixture(scope="module")
def disturbed(pool, tmp_path_factory):
    log, store = tmp_path_factory.mktemp("log"), store_with_pairs(pool.store_root)
    run_and_commit(store, tune_stage(store))
    weights, curve = stored_adapter(store), store.open("tune", KEY).read_json("curve.json")
    store.delete("tune", KEY)
    outcome = run(pool, watched(store, log, "dies once", checkpoint_seconds=0))
    assert outcome.status == "ok", outcome.error
    curve_now = store.open("tune", KEY).read_json("curve.json")
    return Training(outcome, curve_now, stored_adapter(store), curve, weights, log)


@pytest.fixture
def store(tmp_path):
    return store_with_pairs(tmp_path / "store")


def run(pool, one, policy=RetryPolicy()):  # noqa: B008 - frozen
    (outcome,) = pool.run(one, [tune_item()], lambda outcome: None, policy)
    return outcome


def watched(store, log, script, **settings):
    """A training over two bundles that writes down its processes, and does what a script says."""

    class Watched(TuneStage):  # local, so that it reaches the nodes by value
        def run(self, item, inputs, output):
            if script == "its worker dies":
                threading.Thread(target=die_with_others_left).start()
            return super().run(item, inputs, output)

        def train(self, item, worker, reduce):
            note("node", ray.get_runtime_context().get_node_id())
            note("rank", worker[0])
            if script == "its worker dies":
                time.sleep(600)
            calls = []

            def counted(gradients):
                calls.append(1)
                note("calls", len(calls))
                if script.endswith("dies once") and worker[0] == 1 and len(calls) == 4 and first_to_die():
                    while Checkpoint(self.store, "tune", item.key).load() is None:
                        time.sleep(0.05)
                    if script == "its node dies once":
                        note("doomed", "")
                        time.sleep(600)
                    die()
                reduce(gradients)

            return super().train(item, worker, counted)

    def note(what, value):
        Path(log, f"{os.getpid()}.{what}").write_text(str(value))

    def first_to_die():
        try:
            Path(log, "died").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def die_with_others_left():
        while len(list(Path(log).glob("*.rank"))) < 2:
            time.sleep(0.05)
        die()

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    import ray

    log = str(log)
    plain = tune_stage(store, workers=2, **settings)
    return Watched(plain.config, plain.fill, plain.store, resources=TWO_BUNDLES)


def wait_until(holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_processes_lie_on_two_nodes(disturbed):
    nodes, ranks = disturbed.wrote("node"), disturbed.wrote("rank")
    for rank in "01":
        assert len({nodes[pid] for pid in ranks if ranks[pid] == rank}) == 1
    assert len(set(nodes.values())) == 2


def test_two_nodes_make_the_steps_of_one_process(disturbed):
    for (step, values), (same, others) in zip(disturbed.curve_alone, disturbed.curve, strict=True):
        assert step == same and values == pytest.approx(others, rel=1e-4)
    # AdamW makes steps of equal size of gradients that are zero but for rounding
    assert difference(disturbed.weights_alone, disturbed.weights) < 2e-4


def test_after_a_process_has_died_the_training_goes_on_from_its_checkpoint(disturbed):
    assert disturbed.outcome.attempts == 2
    calls, ranks = disturbed.wrote("calls"), disturbed.wrote("rank")
    first, second = sorted(int(calls[pid]) for pid in ranks if ranks[pid] == "1")
    assert first == 4  # a held-out loss and two steps; in the third it died
    assert second < 6 + 2  # fewer than all steps and the held-out losses after the first


def test_no_process_is_left_and_the_cpus_are_free(pool, disturbed):
    import ray

    pool.release()
    pids = disturbed.wrote("rank")
    assert len(pids) == 4
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    wait_until(lambda: ray.available_resources().get("CPU") == 2)


def test_no_process_outlives_a_worker_that_died(pool, store, tmp_path):
    outcome = run(pool, watched(store, tmp_path, "its worker dies"), RetryPolicy(attempts=1))
    assert outcome.error_type == "WorkerLost"
    pids = [int(path.stem) for path in tmp_path.glob("*.rank")]
    assert len(pids) == 2
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_training_goes_on_without_the_node_that_it_has_lost(cluster, pool, store, tmp_path):
    def lose_node():
        wait_until(lambda: list(tmp_path.glob("*.doomed")), seconds=100)
        (doomed,) = tmp_path.glob("*.doomed")
        lost = doomed.with_suffix(".node").read_text()
        cluster.remove_node(
            next(node for node in cluster.worker_nodes if node.node_id == lost), allow_graceful=False
        )

    cluster.add_node(num_cpus=1)
    threading.Thread(target=lose_node, daemon=True).start()
    outcome = run(pool, watched(store, tmp_path, "its node dies once", checkpoint_seconds=0))
    assert (outcome.status, outcome.attempts) == ("ok", 2), outcome.error
    nodes = {path.stem: path.read_text() for path in tmp_path.glob("*.node")}
    assert len(nodes) == 4 and len(set(nodes.values())) == 3


def test_what_goes_wrong_on_a_node_is_said_and_the_next_stage_has_the_bundles(pool, store):
    assert run(pool, replace(tune_stage(store, workers=2), resources=TWO_BUNDLES)).status == "ok"
    sick = replace(tune_stage(store, workers=2, rate=1e30, warm_up=1, clip=1e30), resources=TWO_BUNDLES)
    outcome = run(pool, sick)
    assert (outcome.status, outcome.error_type) == ("quarantined", "Diverged")
    assert "lower the learning rate" in outcome.error
    with pytest.raises(StageSick, match=r"node \S+ has no fill.base '/nowhere'; give an absolute path"):
        run(pool, replace(sick, fill=FillConfig(base="/nowhere")))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (
            Resources(cpus=3, bundles=3),
            r"3 times 1 CPUs and 0 GPUs.*room for 2; of 3 nodes the largest .*: lower .*tune\.workers",
        ),
        (
            Resources(cpus=2, gpus=2, bundles=2),
            r"2 times 1 CPUs and 1 GPUs.*room for 0; .*: lower .*tune\.workers",
        ),
        (
            Resources(cpus=2),
            r"2 CPUs and 0 GPUs per worker, on one node; .*: lower execution\.resources\.tune",
        ),
    ],
)
def test_more_than_the_cluster_has_is_said_at_once(pool, store, resources, words):
    with pytest.raises(StageSick, match=words):
        run(pool, replace(tune_stage(store, workers=2), resources=resources))
