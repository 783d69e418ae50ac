"""Packing in the plan: the order of trajectories, keys that say what was shown, waves, and what fails."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from support.plans import Planned, as_it_stands, planned

from recapture.conf.schema import FillConfig, RecaptureConfig, TrajectoryConfig
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.tasks.engine import planner
from recapture.tasks.engine.planner import expected
from recapture.tasks.jobs.job import ClipJob, recapture_stages
from recapture.tasks.jobs.packing import filling_order, reach

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


def keys(job, stage="fill", clip="scene-000000"):
    return {item.params.label: item.key for item in job.items(stage) if item.clip_id == clip}


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


def order(settings, clip="scene-000000"):
    """The labels of a clip's fills as they follow each other."""
    job = ClipJob.of(settings, recapture_stages(settings))
    before = filling_order(job.params(job.stages[-1]))
    mine = [one for one in job.params(job.stages[-1]) if one.clip_id == clip]
    return [one.label for one in sorted(mine, key=lambda one: len(before[one.name]))]


def test_clips_are_filled_from_the_smallest_move_on_in_whatever_order_they_are_given():
    for trajectories in (TRAJECTORIES, TRAJECTORIES[::-1]):
        assert order(config(trajectories=trajectories)) == IN_ORDER
    twins = [{"preset": "orbit_right"}, {"preset": "orbit_left"}]
    assert order(config(trajectories=twins)) == ["orbit_left", "orbit_right"]


def test_without_packing_its_settings_change_no_key():
    settings = config(frames=0, spacing=3, positions="time_aligned")
    job = planned(settings)
    for item in job.items("fill"):
        assert set(item.inputs) == {"ingest", "depth", "render"}
    again = changed(settings, spacing=8)
    assert [job.items(stage) for stage in job.stages] == [again.items(stage) for stage in again.stages]


def changed(settings, **packing):
    packing = settings.fill.packing.model_copy(update=packing)
    fill = settings.fill.model_copy(update={"packing": packing})
    return planned(settings.model_copy(update={"fill": fill}))


def test_a_fill_depends_on_every_fill_before_it():
    job = planned(config())
    fills, renders = keys(job), keys(job, "render")
    for item in job.items("fill"):
        if item.clip_id != "scene-000000":
            continue
        before = IN_ORDER[: IN_ORDER.index(item.params.label)]
        expected = {f"fill/{n}": fills[label] for n, label in enumerate(before)}
        expected |= {f"render/{n}": renders[label] for n, label in enumerate(before)}
        assert {name: key for name, key in item.inputs.items() if "/" in name} == expected
    plain = keys(planned(config(frames=0)))
    assert fills[SIDE] == plain[SIDE]  # nothing comes before it
    assert fills[NEAR] != plain[NEAR] and fills[FAR] != plain[FAR]
    other = keys(planned(config(spacing=3)))
    assert [label for label in IN_ORDER if other[label] != fills[label]] == [NEAR, FAR]


def test_a_changed_trajectory_redoes_those_that_were_shown_it():
    before = keys(planned(config()))
    moved = [TRAJECTORIES[0], {**TRAJECTORIES[1], "mode": "direct", "name": NEAR}, TRAJECTORIES[2]]
    after = keys(planned(config(trajectories=moved)))
    assert [label for label in IN_ORDER if after[label] != before[label]] == [NEAR, FAR]
    renamed = [TRAJECTORIES[0], {**TRAJECTORIES[1], "name": "other"}, TRAJECTORIES[2]]
    assert keys(planned(config(trajectories=renamed)))[FAR] == before[FAR]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_no_shard_holds_a_fill_and_one_that_is_shown_it(size):
    job = planned(config(count=3))
    shards = [shard for plan in job.stages["fill"] for shard in plan.shards(size)]
    assert [item for shard in shards for item in shard] == job.items("fill")
    made = set()
    for shard in shards:
        assert len(shard) <= size
        for item in shard:
            assert {key for name, key in item.inputs.items() if name.startswith("fill/")} <= made
        made |= {item.key for item in shard}
    assert {stage: len(plans) for stage, plans in job.stages.items() if len(plans) > 1} == {"fill": 3}


def went(settings, failed=()):
    """The plans of a job whose fills called `failed` could not be made, and the notes on them."""
    job, plans = ClipJob.of(settings, recapture_stages(settings)), []
    for plan in job.plans():
        for item in plan.items:
            lost = plan.stage.name == "fill" and item.name in failed
            outcome = expected(plan.stage, item)
            plan.outcomes.append(replace(outcome, status="quarantined") if lost else outcome)
        plans.append(plan)
    return Planned(job, plans), [note for plan in plans for note in plan.notes]


def test_what_comes_after_a_failed_fill_is_filled_without_it_under_another_key():
    job = planned(config())
    lost = f"scene-000000@{SIDE}"
    after, notes = went(config(), {lost})
    assert notes == [
        f"scene-000000@{label}: stage 'fill' runs without {lost}, which could not be made"
        for label in (NEAR, FAR)
    ]
    full, less = keys(job), keys(after)
    assert full[SIDE] == less[SIDE] and full[NEAR] != less[NEAR] and full[FAR] != less[FAR]
    assert less[NEAR] == keys(planned(config(frames=0)))[NEAR]  # nothing is left to be shown
    far = next(item for item in after.items("fill") if item.name == f"scene-000000@{FAR}")
    assert far.inputs["fill/0"] == less[NEAR] and "fill/1" not in far.inputs
    for stage in ("measure", "deliver"):
        later = next(item for item in after.items(stage) if item.name == far.name)
        assert later.inputs["fill"] == less[FAR]
    assert keys(job, clip="scene-000001") == keys(after, clip="scene-000001")


def test_a_failed_fill_costs_no_second_plan_of_what_does_not_follow_it(monkeypatch):
    # Every key is computed once, however many fills fail and in however many shards.
    computed = []
    original = planner.content_keys

    def counting(stage, version, settings):
        key = original(stage, version, settings)

        def counted(inputs, identity):
            computed.append(stage)
            return key(inputs, identity)

        return counted

    monkeypatch.setattr(planner, "content_keys", counting)
    lost = {f"scene-{number:06d}@{SIDE}" for number in range(0, 20, 2)}
    job, notes = went(config(count=20), lost)
    assert len(notes) == 20
    checked = len(job.clips) + 1  # the check before a job makes the keys of one clip
    assert Counter(computed) == {
        stage: len(job.items(stage)) * checked // len(job.clips) for stage in job.stages
    }


def test_a_plan_ahead_knows_what_quarantine_holds_back(tmp_path):
    settings = config(tmp_path)
    job = planned(settings)

    def same(found, lost):
        expected, _ = went(settings, lost)
        assert {stage: found.keys(stage) for stage in found.stages} == {
            stage: expected.keys(stage) for stage in expected.stages
        }
        return expected

    same(as_it_stands(settings), ())
    first = next(item for item in job.items("fill") if item.params.label == SIDE)
    quarantine(settings, "fill", first)
    same(as_it_stands(settings), {first.name})
    render = next(item for item in job.items("render") if item.name == f"scene-000001@{NEAR}")
    quarantine(settings, "render", render)
    held = {first.name, render.name}
    less = same(as_it_stands(settings), held)
    # a fill that failed when it was shown less is held back under that key alone
    near = next(item for item in less.items("fill") if item.name.endswith("0@" + NEAR))
    quarantine(settings, "fill", near)
    same(as_it_stands(settings), {*held, near.name})


def quarantine(settings, stage, item):
    entry = Quarantined(item.name, item.clip_id, stage, item.key, "ValueError", "broken", "", 1, "run")
    Quarantine(settings.store, settings.dataset.name).add(entry)


def test_a_fill_without_a_base_packs_nothing():
    with pytest.raises(ValueError, match=r"fill.packing needs a base"):
        FillConfig.model_validate({"method": "classical", "packing": {"frames": 1}})
