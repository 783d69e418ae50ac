"""A run that goes on from the finished weights of an earlier one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recapture.conf.errors import UserError
from recapture.conf.load import load_pretrain_config
from recapture.tasks.pretrain.parts import Pretraining

SMOKE = str(Path(__file__).parents[2] / "support/pretrain_smoke.yaml")


def run(work, *words):
    return Pretraining(load_pretrain_config(SMOKE, arguments=["--work", str(work), *words]))


def trained(run, part):
    assert run.train(part, lambda *_: None)
    return load_file(run.weights.path(part))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The work folder of a run of all parts but the judge's."""
    begun = run(tmp_path_factory.mktemp("first"))
    for part in ("vae", "refine", "sharpen", "inpainter", "depth"):
        trained(begun, part)
    return begun.folder


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_no_steps_keep_weights_and_statistics_bit_for_bit(first, tmp_path):
    on = run(tmp_path, "--start", str(first), "--refine.steps", "0", "--depth.steps", "0")
    for part in ("refine", "depth"):
        assert equal(trained(on, part), load_file(first / f"{part}.finished.safetensors")), part


def test_steps_go_on_from_the_weights_of_the_earlier_run(first, tmp_path):
    """At a rate of nearly 0 the weights stay those of the earlier run; initial weights are far from them."""
    slow = ["--inpainter.rate", "1e-9", "--depth.rate", "1e-9", "--sharpen.rate", "1e-9", "--seed", "4"]
    on = run(tmp_path / "on", "--start", str(first), "--refine.steps", "0", *slow)
    trained(on, "refine")
    for part in ("sharpen", "inpainter", "depth"):
        weights, before = trained(on, part), load_file(first / f"{part}.finished.safetensors")
        for name, value in before.items():
            assert torch.allclose(weights[name].float(), value.float(), atol=2e-3, rtol=2e-3), (part, name)
    anew = trained(run(tmp_path / "anew", *slow), "depth")
    before = load_file(first / "depth.finished.safetensors")
    assert max(float((anew[name].float() - before[name].float()).abs().max()) for name in before) > 0.02


def test_a_file_says_which_runs_its_weights_come_from(first, tmp_path):
    second = run(tmp_path / "2", "--start", str(first), "--depth.steps", "2")
    trained(second, "depth")
    third = run(tmp_path / "3", "--start", str(second.folder), "--depth.steps", "1", "--seed", "5")
    trained(third, "depth")
    with safe_open(third.weights.path("depth"), "pt") as file:
        notes = file.metadata()
    earlier = json.loads(notes["earlier"])
    assert [entry["steps"] for entry in earlier] == [4, 2] and json.loads(notes["recapture"])["steps"] == 1
    assert all(entry["seconds"] >= 0 for entry in earlier)


def test_other_weights_to_start_from_are_other_settings(first, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(first / "depth.finished.safetensors")
    with safe_open(first / "depth.finished.safetensors", "pt") as file:
        notes = file.metadata()
    save_file(tensors, other / "depth.finished.safetensors", notes)
    on = run(tmp_path / "on", "--start", str(other), "--depth.steps", "1")
    trained(on, "depth")
    assert on.finished("depth")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, other / "depth.finished.safetensors", notes)
    with pytest.raises(UserError, match=r"depth.finished.safetensors was made with start="):
        run(tmp_path / "on", "--start", str(other), "--depth.steps", "1").finished("depth")


@pytest.mark.parametrize(
    ("words", "part", "said"),
    [
        (["--start", "nowhere"], "depth", "start=nowhere is no folder; give the work folder"),
        (["--depth.steps", "0"], "depth", "depth.steps=0 keeps earlier weights, but start has no"),
        (["--depth_model", "{hidden_size: 64}"], "depth", "is of another architecture: .* there and .* here"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said(first, tmp_path, words, part, said):
    start = [] if "0" in words or "--start" in words else ["--start", str(first)]
    with pytest.raises(UserError, match=said):
        run(tmp_path, *start, *words).train(part, lambda *_: None)
