"""Packing in the plan: the order of trajectories, keys that say what was shown, waves, and what fails."""

import math

import pytest

from recapture.conf.schema import FillConfig, RecaptureConfig, TrajectoryConfig
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.job import plan_job, recapture_stages
from recapture.tasks.jobs.packing import filling_order, reach
from recapture.tasks.jobs.shards import Shards, as_it_stands, without

FAR, NEAR, SIDE = "orbit_left_30", "orbit_right_10", "dolly_in_0.1"
IN_ORDER = [SIDE, NEAR, FAR]
TRAJECTORIES = [
    {"preset": "orbit_left", "angle_degrees": 30},
    {"preset": "orbit_right", "angle_degrees": 10},
    {"preset": "dolly_in", "distance": 0.1},
]


def config(tmp_path=".", frames=2, trajectories=TRAJECTORIES, count=2, **packing):
    return RecaptureConfig.model_validate(
        {
            "dataset": {"name": "small", "uri": f"scenes://?count={count}&frames=5&height=48&width=64"},
            "store": f"{tmp_path}/store",
            "trajectories": trajectories,
            "fill": {"packing": {"frames": frames, **packing}},
        }
    )


def plan(settings):
    return plan_job(settings, recapture_stages(settings))


def keys(job, stage="fill", clip="scene-000000"):
    return {item.params["label"]: item.key for item in job.stage(stage).items if item.clip_id == clip}


@pytest.mark.parametrize(
    ("given", "degrees", "distance"),
    [
        ({"preset": "static"}, 0, 0),
        ({"preset": "orbit_left"}, 20, 2 * math.sin(math.radians(10))),
        (
            {"preset": "orbit_up", "angle_degrees": -35, "mode": "direct"},
            35,
            2 * math.sin(math.radians(17.5)),
        ),
        ({"preset": "pan_right", "angle_degrees": 15}, 15, 0),
        ({"preset": "right", "distance": 0.5}, math.degrees(math.atan(0.5)), 0.5),
        ({"preset": "dolly_in", "distance": 0.3}, 0, 0.3),
        ({"preset": "zoom_in", "distance": 0.3}, 0, 0),
        ({"keyframes": ({"at": 0, "phi": 5}, {"at": 0.5, "phi": -25}, {"at": 1, "phi": 5})}, 25, None),
        ({"stabilise_seconds": 1.0}, 0, 0),
        ({"file": "cameras.json"}, math.inf, math.inf),
    ],
)
def test_how_far_a_trajectory_goes(given, degrees, distance):
    found = reach(TrajectoryConfig(**given))
    assert found[0] == pytest.approx(degrees, abs=1e-5)
    assert distance is None or found[1] == pytest.approx(distance, abs=1e-5)


def test_clips_are_filled_from_the_smallest_move_on_in_whatever_order_they_are_given():
    for trajectories in (TRAJECTORIES, TRAJECTORIES[::-1]):
        assert [one.label for one in filling_order(config(trajectories=trajectories))] == IN_ORDER
    twins = [{"preset": "orbit_right"}, {"preset": "orbit_left"}]
    assert [one.label for one in filling_order(config(trajectories=twins))] == ["orbit_left", "orbit_right"]


def test_without_packing_the_keys_are_what_they_were():
    settings = config(frames=0, spacing=3, positions="time_aligned")
    job = plan(settings)
    fill = job.stage("fill")
    later = {"packing", "vae_precision", "attention", "compile_blocks"}  # settings that came after the keys
    old = settings.fill.model_dump(mode="json", exclude=later)
    for item, trajectory in zip(fill.items, settings.trajectories * 2):
        clip = next(clip for clip in job.clips if clip.id == item.clip_id)
        identity = fill.stage.identity(clip, trajectory)
        assert item.key == content_key("fill", fill.stage.version, old, item.inputs, identity)
        assert set(item.inputs) == {"ingest", "depth", "render"} and "rank" not in item.params
    assert [plan.items for plan in job.stages] == [plan.items for plan in plan_again(settings, spacing=8)]


def plan_again(settings, **packing):
    changed = settings.fill.packing.model_copy(update=packing)
    fill = settings.fill.model_copy(update={"packing": changed})
    return plan(settings.model_copy(update={"fill": fill})).stages


def test_a_fill_depends_on_every_fill_before_it():
    job = plan(config())
    fills, renders = keys(job), keys(job, "render")
    for item in job.stage("fill").items:
        if item.clip_id != "scene-000000":
            continue
        before = IN_ORDER[: IN_ORDER.index(item.params["label"])]
        expected = {f"fill/{n}": fills[label] for n, label in enumerate(before)}
        expected |= {f"render/{n}": renders[label] for n, label in enumerate(before)}
        assert {name: key for name, key in item.inputs.items() if "/" in name} == expected
    plain = keys(plan(config(frames=0)))
    assert fills[SIDE] == plain[SIDE]  # nothing comes before it
    assert fills[NEAR] != plain[NEAR] and fills[FAR] != plain[FAR]
    other = keys(plan(config(spacing=3)))
    assert [label for label in IN_ORDER if other[label] != fills[label]] == [NEAR, FAR]


def test_a_changed_trajectory_redoes_those_that_were_shown_it():
    before = keys(plan(config()))
    moved = [TRAJECTORIES[0], {**TRAJECTORIES[1], "mode": "direct", "name": NEAR}, TRAJECTORIES[2]]
    after = keys(plan(config(trajectories=moved)))
    assert [label for label in IN_ORDER if after[label] != before[label]] == [NEAR, FAR]
    renamed = [TRAJECTORIES[0], {**TRAJECTORIES[1], "name": "other"}, TRAJECTORIES[2]]
    assert keys(plan(config(trajectories=renamed)))[FAR] == before[FAR]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_no_shard_holds_a_fill_and_one_that_is_shown_it(size):
    job = plan(config(count=3))
    shards = [shard for plan in job.stages if plan.stage.name == "fill" for shard in plan.shards(size)]
    assert sorted(item.name for shard in shards for item in shard) == sorted(
        item.name for item in job.stage("fill").items
    )
    made = set()
    for shard in shards:
        assert len(shard) <= size
        for item in shard:
            assert {key for name, key in item.inputs.items() if name.startswith("fill/")} <= made
        made |= {item.key for item in shard}
    in_one = [len(list(plan.shards(100))) for plan in job.stages]
    assert in_one == [3 if plan.stage.name == "fill" else 1 for plan in job.stages]


def outcomes_of(stage, items, failed=()):
    return [
        Outcome(one.name, one.clip_id, one.key, stage.name, "quarantined" if one.name in failed else "ok")
        for one in items
    ]


def went(job, failed):
    """Every item as it was run, by stage and name, and what was said."""
    shards, run, said = Shards(job, 100), {}, []
    assert len(shards) == 8
    for stage, _, items in shards:
        run |= {(stage.name, item.name): item for item in items}
        said += shards.settle(items, outcomes_of(stage, items, failed if stage.name == "fill" else ()))
    return shards.job, run, said


def test_nothing_is_planned_anew_where_nothing_fails():
    job = plan(config())
    after, run, said = went(job, ())
    assert after is job and said == [] and len(run) == 2 + 2 + 4 * 6


def test_what_comes_after_a_failed_fill_is_filled_without_it_under_another_key():
    job = plan(config())
    lost = f"scene-000000@{SIDE}"
    after, run, said = went(job, {lost})
    assert said == [
        f"scene-000000@{label} is filled without {lost}, of which there is no fill" for label in (NEAR, FAR)
    ]
    full, less = keys(job), keys(after)
    assert full[SIDE] == less[SIDE] and full[NEAR] != less[NEAR] and full[FAR] != less[FAR]
    near = run["fill", f"scene-000000@{NEAR}"]
    assert near.key == less[NEAR] == keys(plan(config(frames=0)))[NEAR]  # nothing is left to be shown
    far = run["fill", f"scene-000000@{FAR}"]
    assert far.key == less[FAR] and far.inputs["fill/0"] == less[NEAR] and "fill/1" not in far.inputs
    assert run["measure", far.name].inputs["fill"] == run["deliver", far.name].inputs["fill"] == less[FAR]
    assert keys(job, clip="scene-000001") == keys(after, clip="scene-000001")
    assert after == without(job, {lost})


def test_a_plan_ahead_knows_what_quarantine_holds_back(tmp_path):
    job = plan(config(tmp_path))
    store = ArtifactStore(job.config.store)
    assert as_it_stands(job, store) == job
    first = next(item for item in job.stage("fill").items if item.params["label"] == SIDE)
    quarantine(job, "fill", first)
    assert as_it_stands(job, store) == without(job, {first.name})
    render = next(item for item in job.stage("render").items if item.name == f"scene-000001@{NEAR}")
    quarantine(job, "render", render)
    held = {first.name, render.name}
    assert as_it_stands(job, store) == without(job, held)
    # a fill that failed when it was shown less is held back under that key alone
    near = next(item for item in without(job, held).stage("fill").items if item.name.endswith("0@" + NEAR))
    quarantine(job, "fill", near)
    assert as_it_stands(job, store) == without(job, {*held, near.name})


def quarantine(job, stage, item):
    entry = Quarantined(item.name, item.clip_id, stage, item.key, "ValueError", "broken", "", 1, "run")
    Quarantine(job.config.store, job.config.dataset.name).add(entry)


def test_a_fill_without_a_base_packs_nothing():
    with pytest.raises(ValueError, match=r"fill.packing shows frames to a base"):
        FillConfig.model_validate({"method": "classical", "packing": {"frames": 1}})
