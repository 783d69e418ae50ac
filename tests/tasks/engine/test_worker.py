"""What a worker promises that hosts several stages and works on several items at once."""

import threading
import time
from dataclasses import dataclass, field

import pytest
from support.scripted import ScriptConfig, Scripted, counted, items

from recapture.conf.turn import turn
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.faults import WITHDRAWN
from recapture.tasks.engine.stage import Resources
from recapture.tasks.engine.worker import Worker, loading, working


@dataclass
class Sharing(Scripted):
    """A stage whose items meet others on their worker."""

    slots: int = 2
    resources: Resources = Resources(gpus=1)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=30))
    tries: list = field(default_factory=list)
    inside: list = field(default_factory=list)
    hung: threading.Event = field(default_factory=threading.Event)

    def run(self, item, inputs, output):
        self.inside.append(item.name)
        self.tries.append((item.name, len(self.inside)))
        try:
            return self._run(item, output)
        finally:
            self.inside.remove(item.name)

    def _run(self, item, output):
        script, tries = item.params, [name for name, _ in self.tries].count(item.name)
        if script == "turns":
            self.meeting.wait()
            with turn():
                time.sleep(0.2)
        if script == "memory beside others" and tries == 1:
            self.meeting.wait()
            raise MemoryError
        if script == "memory":
            raise MemoryError
        if script == "hangs":
            self.hung.wait(30)
        output.write_json("x.json", item.name)
        return {}


@pytest.fixture
def worker(monkeypatch, store):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")  # restored after the test
    return Worker(store.root, Resources())


@pytest.fixture
def sharing(tmp_path):
    return Sharing(str(tmp_path / "log"))


def both(worker, todo):
    """Work on two items at once; return their outcomes."""
    found = {}

    def work(item):
        found[item.name] = worker.run("scripted", item, 1)

    threads = [threading.Thread(target=work, args=(item,), daemon=True) for item in todo]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [found[item.name] for item in todo]


def test_a_worker_keeps_the_stages_that_it_has_loaded(worker, stage, tmp_path):
    second = Scripted(str(tmp_path / "second"), name="second")
    assert worker.load(stage) == worker.load(second, ["scripted"]) == ""
    outcomes = [worker.run(name, items("ok")[0], 1) for name in ("scripted", "second", "scripted")]
    assert [outcome.stage for outcome in outcomes] == ["scripted", "second", "scripted"]
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert counted(stage.log, "setup") == counted(second.log, "setup") == 1


def test_a_stage_that_is_loaded_again_replaces_the_one_of_its_name(worker, stage, tmp_path):
    again = Scripted(str(tmp_path / "again"))
    assert worker.load(stage) == worker.load(again) == ""
    worker.run("scripted", items("ok")[0], 1)
    assert (counted(stage.log, "run clip/0"), counted(again.log, "run clip/0")) == (0, 1)


def test_a_stage_whose_setup_fails_leaves_the_others_loaded(worker, stage, tmp_path):
    assert worker.load(stage) == ""
    broken = Scripted(str(tmp_path / "broken"), ScriptConfig(setup="user error"), name="broken")
    assert worker.load(broken, ["scripted"]) == "no model in 'weights/none'; set depth.model"
    assert worker.run("scripted", items("ok")[0], 1).status == "ok"


def test_the_seconds_of_an_items_turns_are_its_own(worker, sharing):
    worker.load(sharing)
    alone, *pair = items("ok", "turns", "turns")
    assert worker.run("scripted", alone, 1).gpu_seconds == 0
    outcomes = both(worker, pair)
    assert all(0.2 <= outcome.gpu_seconds <= outcome.seconds for outcome in outcomes)
    # One of them waited for the other, and that is not its use of the device.
    assert max(outcome.seconds for outcome in outcomes) >= 0.4
    assert sum(outcome.gpu_seconds for outcome in outcomes) <= max(outcome.seconds for outcome in outcomes)


def test_a_stage_without_a_gpu_has_no_seconds_on_one(worker, sharing):
    sharing.resources = Resources()
    worker.load(sharing)
    assert [outcome.gpu_seconds for outcome in both(worker, items("turns", "turns"))] == [0, 0]


def test_items_whose_memory_does_not_suffice_together_are_made_alone(worker, sharing, store):
    worker.load(sharing)
    todo = items("memory beside others", "memory beside others")
    outcomes = both(worker, todo)
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [("ok", 1)] * 2
    assert len(sharing.tries) == 4
    assert [together for _, together in sharing.tries[2:]] == [1, 1]
    assert {store.open("scripted", item.key).read_json("x.json") for item in todo} == {"clip/0", "clip/1"}


def test_an_item_that_had_the_worker_alone_is_not_tried_twice(worker, sharing):
    worker.load(sharing)
    outcome = worker.run("scripted", items("memory")[0], 1)
    assert (outcome.status, outcome.error_type) == ("error", "OutOfMemoryError")
    assert len(sharing.tries) == 1


def test_the_item_that_hangs_is_told_from_the_one_that_works_beside_it(worker, sharing):
    worker.load(sharing)
    (hangs,) = items("hangs")
    thread = threading.Thread(target=worker.run, args=("scripted", hangs, 1), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while worker.silence(working("scripted", "clip/0")) < 0.5:
        assert time.monotonic() < deadline
        works = items("ok", "ok")[1]
        assert worker.run("scripted", works, 1).status == "ok"  # its beats are not those of the other
    assert worker.silence(working("scripted", "clip/1")) == 0  # it has ended
    assert worker.silence() < worker.silence(working("scripted", "clip/0"))
    sharing.hung.set()
    thread.join(30)


def test_a_stage_that_hangs_in_its_setup_is_silent(worker, stage, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(stage, "setup", lambda: go.wait(30))
    thread = threading.Thread(target=worker.load, args=(stage,), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while worker.silence(loading("scripted")) < 0.3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.set()
    thread.join(30)
    assert worker.silence(loading("scripted")) == 0


def test_an_item_that_is_withdrawn_before_its_turn_leaves_nothing_and_the_other_is_made(tmp_path):
    worker = Worker(str(tmp_path / "store"), Resources(gpus=1))
    stage = Scripted(str(tmp_path / "log"), resources=Resources(gpus=1), slots=2)
    assert worker.load(stage) == ""
    (first, second), outcomes = items("turn 1.5", "turn 0.1"), {}

    def make(item):
        outcomes[item.name] = worker.run("scripted", item, 1)

    threads = [threading.Thread(target=make, args=(item,)) for item in (first, second)]
    threads[0].start()
    wait_until(lambda: counted(stage.log, f"turn {first.name}"))
    threads[1].start()
    wait_until(lambda: counted(stage.log, f"run {second.name}"))
    assert not worker.withdraw("scripted", first.name)  # it has its turn
    assert worker.withdraw("scripted", second.name)
    for thread in threads:
        thread.join(30)
    assert outcomes[first.name].status == "ok"
    assert (outcomes[second.name].status, outcomes[second.name].error_type) == ("error", WITHDRAWN)
    assert counted(stage.log, f"turn {second.name}") == 0
    store = ArtifactStore(str(tmp_path / "store"))
    assert store.keys("scripted") == {first.key}
    assert not [path for path in tmp_path.rglob("*half.json*") if second.key in str(path)]
    assert worker.run("scripted", second, 1).status == "ok"  # it may come back


def wait_until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.integration
def test_a_worker_with_two_slots_works_on_two_items_at_once(ray_cluster, tmp_path):
    from recapture.tasks.engine.ray_watch import GROUP, WORK

    root = str(tmp_path / "store")
    threads = {GROUP: 1, WORK: 2}
    actor = ray_cluster.remote(num_cpus=0, concurrency_groups=threads)(Worker).remote(root, Resources())
    stage = Scripted(str(tmp_path / "log"))
    assert ray_cluster.get(actor.load.options(concurrency_group=WORK).remote(stage)) == ""
    todo, run = items("slow", "slow"), actor.run.options(concurrency_group=WORK)
    outcomes = ray_cluster.get([run.remote("scripted", item, 1) for item in todo])
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    store = ArtifactStore(root)
    spans = [store.open("scripted", item.key).read_json("span.json") for item in todo]
    assert max(start for start, _ in spans) < min(end for _, end in spans)
    ray_cluster.kill(actor)
