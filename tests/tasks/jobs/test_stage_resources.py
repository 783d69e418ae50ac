"""What stages occupy where the settings do not say it: on a machine with a GPU, and without one."""

import pytest
import torch

from recapture.conf.load import load_config
from recapture.tasks.engine.stage import Resources
from recapture.tasks.jobs.job import SHARES, stage_resources

STAGES = ("ingest", "depth", "render", "fill", "baselines", "measure", "deliver")


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
