"""The share of a job in which its GPUs are busy, against shares that are known."""

from dataclasses import replace

import pytest

from recapture.tasks.engine import busy as busy_module
from recapture.tasks.engine.busy import Busy
from recapture.tasks.engine.stage import Outcome

ONE = Outcome("a", "a", "k", "fill", "ok", seconds=10.0, gpu_seconds=6.0)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(busy_module, "time", clock)
    return clock


def test_two_gpus_that_work_without_pause_are_busy_all_the_time(clock):
    busy = Busy()
    for _ in range(5):
        clock.now += 10
        for _ in range(2):
            busy.add(replace(ONE, gpu_seconds=10.0))
    assert busy.share(2) == 1.0
    assert busy.shares(2) == {"fill": 1.0}


def test_a_stage_counts_from_its_first_item_to_its_last_and_a_job_from_its_start_to_its_end(clock):
    busy = Busy()
    clock.now += 40  # other stages
    busy.add(replace(ONE, stage="ingest", gpu_seconds=0.0))
    for _ in range(3):
        clock.now += 10
        busy.add(ONE)
    clock.now += 30
    assert busy.share(1) == 18 / 100
    assert busy.shares(1) == {"fill": 18 / 30}
    assert busy.share(2) == 9 / 100


def test_items_that_share_a_worker_count_their_turns_and_not_their_waits(clock):
    busy = Busy()
    for _ in range(4):  # each is 20 s on the worker, 10 s of them on the GPU
        clock.now += 10
        busy.add(replace(ONE, seconds=20.0, gpu_seconds=10.0))
    assert busy.share(1) == 1.0


def test_failed_items_keep_gpus_busy_too(clock):
    busy = Busy()
    clock.now += 10
    busy.add(replace(ONE, status="error", gpu_seconds=10.0))
    assert busy.share(1) == 1.0


def test_without_gpus_or_turns_there_is_no_share(clock):
    busy = Busy()
    clock.now += 10
    assert busy.share(4) is None
    busy.add(ONE)
    assert busy.share(0) is None
    assert busy.shares(0) == {}
