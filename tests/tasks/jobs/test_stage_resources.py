"""What stages occupy where the settings do not say it: on a machine with a GPU, and without one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from simulate_workers import CPU, FIFTH, stages

from bench.simulated_pools import simulate_job
from recapture.conf.load import load_config
from recapture.tasks.engine.ray_shares import shares
from recapture.tasks.engine.stage import Resources
from recapture.tasks.jobs.stage_resources import SHARES, stage_resources

STAGES = ("ingest", "depth", "render", "fill", "enlarge", "baselines", "measure", "deliver")


def resources(*words, profile=None):
    config = load_config(profile=profile, arguments=["--dataset.uri", "scenes://", *words])
    return {stage: stage_resources(config, stage) for stage in STAGES}


@pytest.fixture()
def gpus(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_without_a_gpu_every_stage_has_one_cpu(gpus):
    gpus(0)
    assert set(resources().values()) == {Resources()}


def test_fill_and_one_worker_for_depth_and_render_share_a_gpu_and_the_rest_is_done_on_cpus(gpus):
    gpus(1)
    found = resources()
    assert {found[stage] for stage in ("ingest", "baselines", "measure", "deliver")} == {Resources()}
    helpers = {found[stage] for stage in ("depth", "render")}
    assert len(helpers) == 1  # one kind: one pool
    assert found["fill"].gpus + helpers.pop().gpus == pytest.approx(1)
    assert resources("--fill.method", "classical")["fill"] == Resources()


@pytest.mark.parametrize(
    "words",
    [("--execution.resources", "{deliver: {cpus: 2}}"), ("--execution.ray_address", "auto")],
)
def test_settings_of_any_stage_and_other_machines_decide_themselves(gpus, words):
    gpus(4)
    assert all(one.gpus == 0 for one in resources(*words).values())


@pytest.mark.parametrize("profile", ["wan", "wan-1.3b", "wan-14b", "wan-2.2", "wan-few-step", "cluster"])
def test_profiles_give_the_helpers_of_a_gpu_one_kind(gpus, profile):
    gpus(0)
    found = resources(profile=profile)
    helpers = {found[stage] for stage in SHARES if stage != "fill"}
    assert {found[stage] for stage in STAGES if stage not in SHARES} == {Resources()}
    assert len(helpers) == 1 and found["fill"].gpus + helpers.pop().gpus == pytest.approx(1)


@pytest.mark.parametrize("profile", ["wan", "cluster"])
@pytest.mark.parametrize("gpus_here", [1, 4])
def test_with_the_resources_of_a_profile_the_fill_never_pauses_though_measuring_takes_143_cpu_seconds(
    gpus, profile, gpus_here
):
    gpus(gpus_here)
    given, clips = resources(profile=profile), 12 * gpus_here
    job = [replace(stage, resources=given[stage.name]) for stage in stages(30.0, (95.0, 48.0), CPU, FIFTH)]
    ran = simulate_job(job, [{"CPU": 16.0 * gpus_here, "GPU": float(gpus_here)}], clips)
    assert len({turn.worker for turn in ran.of("fill")}) == gpus_here
    assert ran.pauses("fill") == 0.0
    measured = [turn.ended for turn in ran.of("measure")]
    assert max(measured) < ran.of("fill")[-1].ended + 3 * 143.0  # no more is left for the end


@pytest.mark.parametrize(
    ("cores", "gpus_here", "expected"), [(16, 1, (1, 1, 10)), (64, 4, (4, 4, 40)), (8, 1, (1, 1, 2))]
)
def test_the_workers_of_a_node_are_those_of_the_page_on_running(gpus, cores, gpus_here, expected):
    gpus(gpus_here)
    given = resources(profile="wan")
    wanted = {given[stage]: 100 for stage in STAGES}
    found = shares([{"CPU": float(cores), "GPU": float(gpus_here)}], wanted, dict.fromkeys(wanted, 2))
    assert tuple(found[given[stage]] for stage in ("fill", "render", "measure")) == expected
    row = f"| {gpus_here} GPU{'s' * (gpus_here > 1)}, {cores} cores | {' | '.join(map(str, expected))} |"
    assert row in (Path(__file__).parents[3] / "docs/running.md").read_text()
