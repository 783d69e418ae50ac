"""Several seeds: the best is delivered, the others are kept, and the spread says where they differ."""

import numpy as np
import pytest
from support.bare_job import configure, run_bare

from recapture.conf.errors import ConfigError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.jobs.job import recapture_stages

QUICK = (
    *("--fill.method", "inverse", "--fill.steps", "1", "--fill.window", "5", "--fill.overlap", "1"),
    *("--dataset.uri", "scenes://?count=1&seed=3&frames=8&height=32&width=48"),
    *("--trajectories", "[{preset: orbit_right, name: a}]"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A job of two seeds over two windows, and that of each seed alone: stage -> (artifact, metrics)."""
    root = tmp_path_factory.mktemp("seeds")

    def run(*words):
        config = configure(root, *QUICK, *words)
        stages = [stage for stage in recapture_stages(config) if stage.name != "measure"]
        outcomes = run_bare(config, stages)
        store = ArtifactStore(config.store)
        return {stage: (store.open(stage, one[0].key), one[0].metrics) for stage, one in outcomes.items()}

    return run("--seeds", "2", "--seeds_chosen_by", "seam"), [run("--seed", str(seed)) for seed in range(2)]


def filled(found):
    frames = np.arange(8)
    return read_filled(found["fill"][0], found["render"][0], frames)["rgb"].astype(int)


def test_each_fill_is_that_of_a_job_with_its_seed_but_for_rounding(made):
    several, alone = made
    kept = several["seeds"][0].frames().read(0, 8)
    for number, one in enumerate(alone):
        stored = one["fill"][0].frames().read(0, 8)["unpasted"].astype(int)
        assert np.abs(kept[f"unpasted_{number}"].astype(int) - stored).max() <= 1
    assert np.abs(kept["unpasted_0"].astype(int) - kept["unpasted_1"]).max() > 1


def test_the_chosen_fill_is_delivered_and_the_spread_is_that_of_all(made):
    several, alone = made
    fills = np.stack([filled(one) for one in alone])
    report = several["fill"][0].read_json("seeds.json")
    chosen = report["chosen"]
    assert np.abs(filled(several) - fills[chosen]).max() <= 1
    assert chosen == int(np.argmin(report["scores"]["seam"]))
    assert several["fill"][1]["chosen_seed"] == chosen
    expected = np.sqrt((fills / 127.5).var(axis=0).mean(axis=-1)) / 2
    spread = several["fill"][0].frames().read(0, 8)["spread"] / 510
    np.testing.assert_allclose(spread, expected, atol=0.01)
    hole = ~several["render"][0].frames().read(0, 8)["visible"]
    assert several["fill"][1]["spread_hole"] == pytest.approx(expected[hole].mean(), abs=0.01)
    assert expected[~hole].mean() < expected[hole].mean() / 4


def test_what_is_delivered_shows_the_spread(made):
    assert {"recapture.mp4", "spread.mp4"} <= set(made[0]["deliver"][0].sizes())
    assert "spread.mp4" not in made[1][0]["deliver"][0].sizes()


def test_one_seed_is_the_job_that_it_was(tmp_path):
    config = configure(tmp_path, *QUICK, "--seeds", "1")
    assert [stage.name for stage in recapture_stages(config)][-4:] == ["render", "fill", "measure", "deliver"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "2", "--fill.method", "classical"), "seeds 2 needs a base"),
        (("--seeds", "2", "--fill.packing.frames", "2"), "do not go together"),
        (("--seeds_chosen_by", "seam"), "seeds_chosen_by is for several seeds"),
        (("--seeds", "0"), "greater than or equal to 1"),
    ],
)
def test_seeds_that_cannot_be_are_one_error(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        configure(tmp_path, *QUICK, *words)
