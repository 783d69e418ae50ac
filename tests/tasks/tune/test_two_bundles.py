"""A training over two bundles of one Ray node; `test_many_nodes.py` has two nodes, and what dies on them."""

from dataclasses import replace

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

from recapture.tasks.engine.ray_executor import RayExecutor
from recapture.tasks.engine.retry import RetryPolicy, StageSick
from recapture.tasks.engine.stage import Resources

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    return store_with_pairs(tmp_path / "store")


def test_two_bundles_make_the_steps_of_one_process(ray_cluster, store):
    run_and_commit(store, tune_stage(store))
    weights, curve = stored_adapter(store), store.open("tune", KEY).read_json("curve.json")
    store.delete("tune", KEY)
    stage = replace(tune_stage(store, workers=2), resources=Resources(cpus=2, bundles=2))
    with RayExecutor(store.root) as pool:
        (outcome,) = pool.run(stage, [tune_item()], lambda outcome: None, RetryPolicy(attempts=1))
    assert outcome.status == "ok", outcome.error
    for (step, values), (same, others) in zip(
        curve, store.open("tune", KEY).read_json("curve.json"), strict=True
    ):
        assert step == same and values == pytest.approx(others, rel=1e-4)
    # AdamW makes steps of equal size of gradients that are zero but for rounding
    assert difference(weights, stored_adapter(store)) < 2e-4


def test_a_cluster_that_may_grow_is_waited_for(ray_cluster, store):
    large = replace(tune_stage(store, workers=2), resources=Resources(cpus=8, bundles=2))
    with (
        RayExecutor(store.root, workers=1) as patient,
        pytest.raises(StageSick, match=r"no progress for 2 s: .* no node has room"),
    ):
        patient.run(large, [tune_item()], lambda outcome: None, RetryPolicy(setup_seconds=2))
