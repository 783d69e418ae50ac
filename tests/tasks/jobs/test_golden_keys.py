"""Content keys that must not change: artifacts in people's stores are found by them.

golden_keys.json holds the keys of whole jobs. If a stage is changed on purpose so that its bytes differ,
raise its version and replace its keys here in the same commit.
"""

import json
from pathlib import Path

import pytest

from recapture.conf.load import load_config
from recapture.flows.jobs import planned
from recapture.tasks.engine.planner import supposed

ROOT = Path(__file__).parents[3]
SAMPLE = ("--dataset.uri", f"{ROOT}/datasets/sample")
SCENES = ("--dataset.uri", "scenes://?count=2&seed=3&frames=9&height=48&width=64")
RECAPTURES = {
    "sample": ("--fill.method", "inverse", *SAMPLE),
    "packed": (
        *("--fill.packing.frames", "2", "--measure.baselines", "false", *SCENES),
        *(
            "--trajectories",
            "[{preset: orbit_right, angle_degrees: 40}, {preset: orbit_left, angle_degrees: 10}]",
        ),
    ),
    "masked": ("--mask.objects", "[1]", "--mask.prompt", "a blue sphere", *SCENES),
}
TUNING = (
    *("--tune.curriculum.rounds", "[{low: 5, high: 15, steps: 60}, {low: 15, high: 25, steps: 60}]"),
    *("--tune.explore.angles", "[20, 25]"),
)
TUNINGS = {
    "tuned": (),
    "tuned per clip, packed": ("--tune.scope", "clip", "--fill.packing.frames", "2"),
    "tuned, then touched up": ("--tune.scope", "both", "--tune.touch_up_steps", "7"),
    "tuned without cycle": ("--tune.cycle.moves", "0", "--tune.training.first_block", "1"),
    "tuned with depth": ("--tune.cycle.depth", "model", "--fill.vae_precision", "bfloat16"),
}
GOLDEN = json.loads((Path(__file__).parent / "golden_keys.json").read_text())


def keys(kind, words):
    """Stage -> item -> key of a job, as if every item could be made."""
    found = {}
    for plan in supposed(planned(load_config(arguments=words), kind).plans()):
        found.setdefault(plan.stage.name, {}).update({item.name: item.key for item in plan.items})
    return found


def test_the_keys_of_a_job_are_those_of_the_golden_file():
    assert {name: keys("recapture", words) for name, words in RECAPTURES.items()} == GOLDEN["recaptures"]
    assert keys("inpaint", ("--mask.outpaint.left", "0.25", *SCENES)) == GOLDEN["inpainted"]


def test_the_bundled_sample_has_the_same_keys_by_its_own_name():
    assert (
        keys("recapture", ("--fill.method", "inverse", "--dataset.uri", "sample://"))
        == GOLDEN["recaptures"]["sample"]
    )


@pytest.mark.parametrize("name", TUNINGS)
def test_the_keys_of_two_rounds_are_those_of_the_golden_file(name):
    assert keys("train", (*SCENES, *TUNING, *TUNINGS[name])) == GOLDEN["tunings"][name]
