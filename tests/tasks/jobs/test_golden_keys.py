"""Content keys that must not change: artifacts in people's stores are found by them.

golden_keys.json holds the keys of whole jobs as of 2026-11-28, before the code was rearranged. If a stage is
changed on purpose so that its bytes differ, raise its version and replace its keys here in the same commit.
"""

import json
from pathlib import Path

import pytest

from recapture.conf.load import load_config
from recapture.models.tuning.curriculum import Round
from recapture.tasks.jobs.behind_mask import with_still_camera
from recapture.tasks.jobs.job import inpaint_stages, plan_job, recapture_stages, source_stages
from recapture.tasks.tune.plan import PairsKey, TunePlan

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
TUNINGS = {
    "tuned": (),
    "tuned a clip, packed": ("--tune.scope", "clip", "--fill.packing.frames", "2"),
    "tuned without cycle": ("--tune.cycle.moves", "0", "--tune.training.first_block", "1"),
    "tuned with depth": ("--tune.cycle.depth", "model", "--fill.vae_precision", "bfloat16"),
}
GOLDEN = json.loads((Path(__file__).parent / "golden_keys.json").read_text())


def keys_of(plans):
    return {plan.stage.name: {item.name: item.key for item in plan.items} for plan in plans}


def recaptured(words):
    config = load_config(arguments=words)
    return keys_of(plan_job(config, recapture_stages(config)).stages)


def inpainted():
    config = with_still_camera(load_config(arguments=["--mask.outpaint.left", "0.25", *SCENES]))
    return keys_of(plan_job(config, inpaint_stages(config)).stages)


def tuned(words):
    """The keys of a first round, of a second that goes on from its adapters, and of the curve."""
    config = load_config(arguments=[*SCENES, *words])
    job = plan_job(config, source_stages(config))
    sources = {clip.id: {} for clip in job.clips}
    for stage in job.stages:
        for item in stage.items:
            sources[item.clip_id][stage.stage.name] = item.key
    plan = TunePlan(config, job.clips, sources)
    each_clip = config.tune.scope == "clip"
    adapters, pairs, found = {}, [], keys_of(job.stages)
    steps = [*plan.explore_items("base", 20.0, {})]
    for number, one in enumerate([Round(5, 15, 60), Round(15, 25, 60)]):
        made = plan.pairs_items(number, one, adapters)
        pairs += [PairsKey(item.clip_id, number, item.key) for item in made]
        trained = plan.tune_items(number, one.steps, pairs, adapters, each_clip=each_clip)
        for item in trained:
            own = [item.clip_id] if each_clip else [clip.id for clip in job.clips]
            adapters |= dict.fromkeys(own, item.key)
        steps += [*made, *trained, *plan.explore_items(f"round-{number}", 25.0, adapters)]
    return found | {"tuning": {item.name: item.key for item in steps}}


def test_the_keys_of_a_job_are_those_of_the_golden_file():
    assert {name: recaptured(words) for name, words in RECAPTURES.items()} == GOLDEN["recaptures"]
    assert inpainted() == GOLDEN["inpainted"]


def test_the_bundled_sample_has_the_same_keys_by_its_own_name():
    assert (
        recaptured(("--fill.method", "inverse", "--dataset.uri", "sample://"))
        == GOLDEN["recaptures"]["sample"]
    )


@pytest.mark.parametrize("name", TUNINGS)
def test_the_keys_of_two_rounds_are_those_of_the_golden_file(name):
    assert tuned(TUNINGS[name]) == GOLDEN["tunings"][name]
