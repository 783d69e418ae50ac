"""Workers that run out of memory, lose their GPU, are killed or leave: one item pays, the others are made."""

import pytest
from support.plans import run_items
from support.scripted import ScriptConfig, counted, items

from recapture.datasets.store.quarantine import Quarantine
from recapture.datasets.store.storage import StoreBusy
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.faults import error_type
from recapture.tasks.engine.retry import RetryPolicy, StageSick

POLICY = RetryPolicy(attempts=2)


def run(executor, stage, todo, policy=POLICY, **settings):
    with executor(**settings) as pool:
        outcomes = pool.run(stage, todo, lambda outcome: None, policy)
    return {outcome.item: outcome for outcome in outcomes}


def test_out_of_memory_is_tried_again_and_then_costs_one_item(executor, stage):
    found = run(executor, stage, items("memory once", "memory", "ok"))
    assert [(o.status, o.attempts) for _, o in sorted(found.items())] == [
        ("ok", 2),
        ("quarantined", 2),
        ("ok", 1),
    ]
    assert found["clip/1"].error_type == "OutOfMemoryError"
    assert "allocate_beyond_the_limit" in found["clip/1"].traceback


@pytest.mark.integration
def test_a_worker_killed_at_its_cpu_limit_costs_one_item(ray_executor, stage):
    found = run(ray_executor, stage, items("ok", "cpu limit", "ok", "ok"), RetryPolicy(attempts=1))
    lost = found.pop("clip/1")
    assert (lost.status, lost.error_type) == ("quarantined", "WorkerLost")
    assert {(outcome.status, outcome.attempts) for outcome in found.values()} == {("ok", 1)}


@pytest.mark.integration
def test_a_worker_that_lost_its_gpu_is_replaced_before_anything_else_runs_on_it(ray_executor, stage):
    # Every later call in that process would fail: one worker, so they would all have gone to it.
    found = run(ray_executor, stage, items("ok", "cuda once", "ok", "ok"), workers=1)
    assert {outcome.status for outcome in found.values()} == {"ok"}
    assert {name: outcome.attempts for name, outcome in found.items()} == {
        "clip/0": 1,
        "clip/1": 2,
        "clip/2": 1,
        "clip/3": 1,
    }
    assert counted(stage.log, "setup") == 2


@pytest.mark.integration
def test_an_item_that_breaks_every_gpu_is_quarantined_alone(ray_executor, stage):
    found = run(ray_executor, stage, items("ok", "cuda", "ok"), workers=1)
    broken = found.pop("clip/1")
    assert (broken.status, broken.error_type, broken.attempts) == ("quarantined", "DeviceLost", 2)
    assert "illegal memory access" in broken.error
    assert {(outcome.status, outcome.attempts) for outcome in found.values()} == {("ok", 1)}


def test_a_gpu_lost_in_this_process_stops_the_stage_and_blames_no_other_clip(tmp_path, stage):
    from recapture.tasks.engine.executor import InlineExecutor

    store = ArtifactStore(str(tmp_path / "store"))
    todo = items("ok", "cuda", "ok")
    with InlineExecutor(store.root) as pool, pytest.raises(StageSick, match="has lost its GPU: CUDA error"):
        run_items(stage, todo, store, pool, run_id="r1")
    assert store.keys("scripted") == {todo[0].key}
    assert Quarantine(store.root, "set").entries() == []


def test_a_store_that_refuses_stops_the_stage_at_once_and_quarantines_nothing(executor, stage):
    todo = items("disk full", "ok", "ok")
    with executor() as pool:
        store = ArtifactStore(pool.store_root)
        with pytest.raises(StageSick, match=r"stage 'scripted' cannot work: /store cannot be written"):
            run_items(stage, todo, store, pool, run_id="r1", policy=POLICY)
    assert counted(stage.log, "run clip/0") == 1
    assert Quarantine(store.root, "set").entries() == []


def test_a_store_that_does_not_answer_is_asked_again_and_then_stops_the_stage(executor, stage):
    todo = items("throttled store")
    with executor() as pool:
        store = ArtifactStore(pool.store_root)
        with pytest.raises(StoreBusy, match=r"slow down \(try 2\)"):
            run_items(stage, todo, store, pool, run_id="r1", policy=POLICY)
    assert Quarantine(store.root, "set").entries() == []


@pytest.mark.integration
def test_workers_that_leave_in_their_set_up_make_the_stage_sick(ray_executor, stage):
    stage.config = ScriptConfig(setup="exits")
    with ray_executor(workers=1) as pool, pytest.raises(StageSick, match="died while setting up"):
        pool.run(stage, items("ok"), lambda outcome: None, POLICY)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), "DeviceLost"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "DeviceLost"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
            "OutOfMemoryError",
        ),
        (RuntimeError("CUDA error: out of memory"), "OutOfMemoryError"),
        (MemoryError(), "OutOfMemoryError"),
        (RuntimeError("sizes of tensors must match"), "RuntimeError"),
        (ValueError("CUDA error in a caption"), "ValueError"),
    ],
)
def test_what_pytorch_says_of_its_device_has_one_name(error, name):
    assert error_type(error) == name
