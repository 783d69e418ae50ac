"""Finished weights belong to the settings that made them; so do scores."""

import pytest
import torch

from recapture.conf.errors import UserError
from recapture.conf.pretrain import PretrainConfig
from recapture.tasks.pretrain.finished_weights import FinishedWeights
from recapture.tasks.pretrain.parts import Pretraining

TENSORS = {"a": torch.tensor([1.5, -2.0], dtype=torch.float16)}


def config(folder, **changes):
    return PretrainConfig(work=str(folder), device="cpu", **changes)


def test_finished_weights_come_back_in_single_precision(tmp_path):
    weights = FinishedWeights(config(tmp_path))
    assert not weights.exists("depth") and weights.digest("depth") == ""
    with pytest.raises(UserError, match="depth is not trained yet"):
        weights.read("depth")
    weights.write("depth", TENSORS)
    assert weights.exists("depth") and weights.digest("depth")
    assert torch.equal(weights.read("depth")["a"], torch.tensor([1.5, -2.0]))
    assert [path.name for path in tmp_path.iterdir()] == ["depth.finished.safetensors"]


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("depth", {"depth_batch": 7}, "depth_batch=96, not 7"),
        ("depth", {"depth": {"steps": 9, "rate": 1e-3, "ema": 0.998}}, "steps=4500, not 9"),
        ("vae", {"autoencoder": {"base_dim": 8}}, r"autoencoder={}, not {'base_dim': 8}"),
        ("vae", {"seed": 1}, "seed=0, not 1"),
    ],
)
def test_weights_of_other_settings_are_refused_by_name(tmp_path, part, changes, said):
    FinishedWeights(config(tmp_path)).write(part, TENSORS)
    with pytest.raises(UserError, match=f"{part}.finished.safetensors was made with .*{said}.*; remove"):
        FinishedWeights(config(tmp_path, **changes)).exists(part)


def test_settings_of_other_parts_and_places_change_nothing(tmp_path):
    FinishedWeights(config(tmp_path)).write("depth", TENSORS)
    other = config(tmp_path, inpainter_batch=3, vae_clips=9, output="elsewhere", gates={"enforce": False})
    assert FinishedWeights(other).exists("depth")


def test_a_part_is_stale_once_the_part_below_was_trained_anew(tmp_path):
    weights = FinishedWeights(config(tmp_path))
    weights.write("vae", TENSORS)
    weights.write("refine", TENSORS)
    assert weights.exists("refine")
    weights.write("vae", {"a": TENSORS["a"] + 1})
    with pytest.raises(UserError, match=r"refine.finished.safetensors was made with vae="):
        weights.exists("refine")


def test_scores_are_remembered_until_weights_or_judge_change(tmp_path):
    calls = []

    def judge(run, part):
        calls.append(part)
        return {"score": float(len(calls))}

    run = Pretraining(config(tmp_path))
    run.weights.write("depth", TENSORS)
    assert [run.scores("depth", judge)["score"] for _ in range(2)] == [1, 1]
    assert Pretraining(config(tmp_path, held_out=2)).scores("depth", judge) == {"score": 2}
    assert run.scores("depth", judge) == {"score": 3}
    run.weights.write("depth", {"a": TENSORS["a"] + 1})
    assert run.scores("depth", judge) == {"score": 4}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="device=cuda, but torch finds no GPU"):
        Pretraining(PretrainConfig(work=str(tmp_path), device="cuda"))
