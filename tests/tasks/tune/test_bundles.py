"""What a training over several nodes asks for, and what it refuses before it has them; without Ray."""

from dataclasses import replace

import pytest
from support.trainings import PAIRS, run_and_commit, store_with_pairs, tune_stage
from support.tune_plans import TunePlan

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig, RecaptureConfig
from recapture.conf.tune import TuneConfig
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.engine.stage import Resources
from recapture.tasks.engine.threads import limited_threads
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.many_nodes import Rank

TWO_BUNDLES = Resources(cpus=2, bundles=2)


@pytest.fixture
def store(tmp_path):
    return store_with_pairs(tmp_path / "store")


def test_a_node_that_lacks_a_model_or_does_not_see_the_store_is_named(store, tmp_path):
    seen = Checkpoint(store.root, "tune", "seen")
    seen.save(b"", [])
    plain = replace(tune_stage(store, workers=2), resources=TWO_BUNDLES)
    with limited_threads(TWO_BUNDLES):
        for sick, words in (
            (replace(plain, fill=FillConfig(base="/nowhere")), r"node \S+ has no fill\.base '/nowhere'"),
            (replace(plain, config=TuneConfig(start="mine.safetensors")), r"has no tune\.start 'mine\.saf"),
            (
                replace(plain, store=str(tmp_path / "other")),
                r"cannot read .* store '.*other'; name one",
            ),
        ):
            with pytest.raises(UserError, match=words):
                Rank(sick, 0).load("seen")


def test_without_ray_there_is_no_cluster(store):
    with pytest.raises(StageSick, match=r"set execution\.executor ray, or tune\.placement node"):
        run_and_commit(store, replace(tune_stage(store, workers=2), resources=TWO_BUNDLES))


def plan(workers, gpus, placement):
    resources = {"tune": {"cpus": 8, "gpus": gpus}}
    tune = {"workers": workers, "placement": placement, "training": {"batch": workers}}
    return TunePlan(RecaptureConfig(tune=tune, execution={"resources": resources}), (), {})


@pytest.mark.parametrize(
    ("workers", "gpus", "placement", "bundles"),
    [
        (1, 1, "cluster", 1),
        (4, 4, "node", 1),
        (4, 4, "cluster", 4),
        (4, 8, "cluster", 4),
        (2, 0, "cluster", 2),
    ],
)
def test_a_training_asks_for_a_bundle_a_process_where_it_may_lie_on_several_nodes(
    workers, gpus, placement, bundles
):
    assert plan(workers, gpus, placement).stages.tune(None).resources == Resources(8, gpus, bundles)


def test_gpus_that_processes_cannot_share_are_refused():
    with pytest.raises(UserError, match="set it to 0, or to a multiple of 4"):
        plan(4, 2, "cluster").stages.tune(None)


def test_bundles_never_ask_for_more_than_their_sum():
    from recapture.tasks.engine.ray_gang import bundle_of

    assert bundle_of(Resources(8, 3, 3)) == {"CPU": 2.6666, "GPU": 1}
    assert bundle_of(Resources(0.29, 0.1)) == {"CPU": 0.29, "GPU": 0.1}


def test_where_a_training_lies_is_no_part_of_its_key():
    def key(placement):
        (found,) = plan(2, 2, placement).tune_items(0, 5, [PAIRS], {})
        return found.key

    assert key("node") == key("cluster")
