"""fill.speed.max_loss in a job: what is measured, what is chosen, and what that changes."""

import json
import shutil

import pytest
from support.bare_job import artifacts, configure, counts, run_bare

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.jobs import surveyed
from recapture.models.fill.calibrate import shortcuts
from recapture.tasks.clip.clip_stage import ClipParams
from recapture.tasks.engine.executor import InlineExecutor
from recapture.tasks.engine.retry import retry_policy
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs import calibrate
from recapture.tasks.jobs.calibrate import CalibrateStage, calibration_of, first_videos
from recapture.tasks.jobs.job import ClipJob, recapture_stages

BASE = ("--fill.method", "base", "--fill.steps", "10", "--fill.guidance_scale", "3")
BOUNDED = (*BASE, "--fill.speed.max_loss", "3")
WAYS = shortcuts(10, guided=True, caches=True)


def carry_out(config):
    """Run a job in this process; return it and stage -> outcomes."""
    job, outcomes = ClipJob.of(config, recapture_stages(config)), {}
    with InlineExecutor(config.store, config.dataset.uri) as executor:
        context = RunContext(
            ArtifactStore(config.store), executor, "small", "run", retry_policy(config.execution)
        )
        for plan in job.plans():
            plan.outcomes += run_stage(plan.stage, plan.items, context)
            job.summary.add(plan.stage.name, plan.outcomes)
            outcomes.setdefault(plan.stage.name, []).extend(plan.outcomes)
    return job, outcomes


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    """A finished job of three clips that may lose 3 dB: its settings, job and outcomes."""
    root = tmp_path_factory.mktemp("bounded")
    config = configure(root, *BOUNDED, count=3)
    return root, config, *carry_out(config)


def outcome(clip, lost, passes=4.0, status="ok"):
    """An outcome of the calibration in which every shortcut loses `lost` dB."""
    metrics = {}
    for place, way in enumerate(WAYS):
        metrics |= {f"{way.name}/psnr": 20.0 - lost * (place > 0)}
        metrics |= {f"{way.name}/passes": 20.0 if place == 0 else passes + place, f"{way.name}/seconds": 1.0}
    return Outcome(clip, clip, "key", "calibrate", status, metrics=metrics)


def stage(**words):
    config = load_config(arguments=["--dataset.uri", "scenes://?count=1", *BOUNDED])
    return CalibrateStage(config.fill)


def test_a_job_within_a_loss_records_each_way_and_fills_by_the_chosen_one(bounded):
    _, config, job, outcomes = bounded
    assert counts(outcomes)["calibrate"] == {"ok": 3}
    found = job.summary.calibration
    assert [one.shortcut for one in found.found] == WAYS and found.videos == 3
    assert found.chosen.passes < 1 and found.chosen.upper <= 3
    artifact = ArtifactStore(config.store).open("calibrate", outcomes["calibrate"][0].key)
    recorded = json.loads(artifact.read_bytes("calibration.json"))
    assert {f"{way.name}/psnr" for way in WAYS} <= recorded.keys()
    assert recorded[f"{WAYS[0].name}/passes"] == 20
    fill = ArtifactStore(config.store).open("fill", outcomes["fill"][0].key)
    chosen = found.chosen.shortcut
    assert chosen.saving.budget > 0
    assert fill.meta["sampling"]["steps"] == chosen.steps
    assert fill.meta["sampling"]["step_cache"] == chosen.saving.budget
    assert found.chosen.shortcut.name in job.summary.markdown()


def test_the_chosen_way_given_by_hand_has_the_same_fills(bounded):
    root, _, job, outcomes = bounded
    chosen = job.summary.calibration.chosen.shortcut
    interval = json.dumps(list(chosen.saving.guided))
    words = ("--fill.steps", str(chosen.steps), "--fill.speed.step_cache", str(chosen.saving.budget))
    config = configure(root, *BASE, *words, "--fill.speed.guidance_interval", interval, count=3)
    again = run_bare(config)
    assert "calibrate" not in again
    assert {one.key for one in again["fill"]} == {one.key for one in outcomes["fill"]}
    assert counts(again)["fill"] == {"reused": 3}


def test_a_second_run_and_a_plan_of_it_find_everything_made(bounded):
    root, config, _, _ = bounded
    before = artifacts(root)
    _, plans = surveyed(config)
    assert not any(one.new for one in plans)
    assert {"ingest, to calibrate", "calibrate"} <= {one.plan.title for one in plans}
    _, again = carry_out(config)
    assert {status for stage in counts(again).values() for status in stage} == {"reused"}
    assert artifacts(root) == before


def test_a_plan_of_a_new_job_shows_the_calibration_and_exact_fills(tmp_path):
    config = configure(tmp_path, *BOUNDED, count=3)
    _, plans = surveyed(config)
    new = {one.plan.title: len(one.new) for one in plans}
    assert new["calibrate"] == new["fill"] == 3
    exact = surveyed(configure(tmp_path, *BASE, count=3))[1]
    assert "calibrate" not in {one.plan.title for one in exact}

    def keys(plans):
        return [item.key for one in plans for item in one.plan.items if one.plan.title == "fill"]

    assert keys(plans) == keys(exact)


def test_another_loss_measures_nothing_again(bounded):
    _, config, _, _ = bounded
    strict = config.model_copy(
        update={
            "fill": config.fill.model_copy(
                update={"speed": config.fill.speed.model_copy(update={"max_loss": 0.01})}
            )
        }
    )
    _, plans = surveyed(strict)
    assert not next(one for one in plans if one.plan.title == "calibrate").new


def test_videos_without_holes_are_filled_exactly_and_the_summary_says_so(tmp_path):
    words = ("--trajectories", "[{preset: static}]")
    job, outcomes = carry_out(configure(tmp_path, *BOUNDED, *words, count=3))
    assert job.summary.calibration is None
    assert counts(outcomes)["calibrate"] == counts(outcomes)["fill"] == {"ok": 3}
    assert "none of the first videos has holes" in job.summary.markdown()
    exact = run_bare(configure(tmp_path, *BASE, *words, count=3))
    assert counts(exact)["fill"] == {"reused": 3}


def test_a_video_that_cannot_be_calibrated_leaves_the_choice_to_the_others(bounded, tmp_path, monkeypatch):
    root, _, before, _ = bounded
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)

    def broken(self, filler, view, hidden, caption):
        raise ValueError("a broken video")

    monkeypatch.setattr(CalibrateStage, "_measure", broken)
    words = ("--execution.attempts", "1")
    job, outcomes = carry_out(configure(tmp_path, *BOUNDED, *words, count=4))
    assert counts(outcomes)["calibrate"] == {"quarantined": 1, "reused": 3}
    assert job.summary.calibration.videos == 3
    assert job.summary.calibration.chosen == before.summary.calibration.chosen
    assert counts(outcomes)["fill"] == {"reused": 3, "ok": 1}


def test_too_large_losses_and_too_few_videos_choose_the_exact_way_and_say_why():
    lossy = calibration_of(stage(), [outcome(f"clip{n}", 4.0) for n in range(5)])
    assert lossy.chosen is lossy.found[0] and "no shortcut is sure" in lossy.warnings[0]
    few = calibration_of(stage(), [outcome("clip1", 0.0), outcome("clip2", 0.0)])
    assert few.chosen is few.found[0] and "it takes 3" in few.warnings[0]
    good = calibration_of(stage(), [outcome(f"clip{n}", 0.1) for n in range(5)])
    assert good.chosen.shortcut == WAYS[1] and not good.warnings
    settled = good.settled(stage().config)
    assert settled.speed.max_loss == 0 and settled.speed.step_cache == WAYS[1].saving.budget
    assert calibration_of(stage(), [outcome("clip", 0.0, status="quarantined")]) is None


def test_the_first_clips_are_calibrated_on_along_their_trajectories_in_turn():
    config = load_config(
        arguments=[
            *("--dataset.uri", "scenes://?count=3", "--trajectories"),
            "[{preset: left, name: a}, {preset: right, name: b}]",
        ]
    )
    clips = ClipJob.of(config, recapture_stages(config)).clips
    params = [ClipParams(clip, one) for clip in clips for one in config.trajectories]
    names = [one.name.replace("scene-00000", "") for one in first_videos(params, 5)]
    assert names == ["0@a", "1@b", "2@a", "0@b", "1@a"]
    assert len(first_videos(params, 64)) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fill.speed.max_loss", "0.3", "--fill.speed.step_cache", "0.1"), "chooses step_cache itself"),
        (("--fill.speed.max_loss", "0.3", "--fill.method", "classical"), "method classical has none"),
        (("--fill.speed.guidance_interval", "[0, 0.5]"), "needs guidance"),
        (("--fill.speed.guidance_interval", "[0.5, 0.2]"), "0 <= begin < end <= 1"),
        (
            (
                *("--fill.speed.step_cache", "0.1", "--fill.method", "inverse"),
                *("--fill.inverse.solver", "repaint"),
            ),
            "'repaint', which repeats steps",
        ),
    ],
)
def test_settings_that_cannot_be_are_one_message(words, message):
    with pytest.raises(UserError, match=message):
        load_config(arguments=["--dataset.uri", "scenes://?count=1", *words])


def test_with_a_solver_that_repeats_steps_no_cache_is_tried():
    words = ("--fill.method", "inverse", "--fill.inverse.solver", "repaint", "--fill.speed.max_loss", "1")
    config = load_config(arguments=["--dataset.uri", "scenes://?count=1", "--fill.steps", "30", *words])
    tried = calibrate.CalibrateStage(config.fill).tried
    assert len(tried) > 1 and all(one.saving.budget == 0 for one in tried)
