"""Hashes of models in plans: one per file and plan,."""

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.plans import planned

from recapture.conf.load import load_config
from recapture.datasets.store import model_hashes
from recapture.tasks.engine.model_revision import WEIGHTS


def test_an_adapter_is_hashed_once_per_plan_of_many_clips_and_trajectories(tmp_path, monkeypatch):
    adapter = tmp_path / "lora.safetensors"
    base = WEIGHTS / "base/transformer/diffusion_pytorch_model.safetensors"
    with safe_open(base, "pt") as weights:
        wide, deep = weights.get_slice("blocks.0.attn1.to_q.weight").get_shape()
    name = "transformer.blocks.0.attn1.to_q"
    factors = {f"{name}.lora_A.weight": torch.ones(4, deep), f"{name}.lora_B.weight": torch.ones(wide, 4)}
    save_file(factors, adapter, {"filler": "x" * model_hashes.REMEMBERED})
    monkeypatch.setattr(model_hashes, "SETTLED", 0.0)
    read, look = [], model_hashes.file_hash
    monkeypatch.setattr(model_hashes, "file_hash", lambda path: read.append(path) or look(path))
    words = ["--dataset.uri", "scenes://?count=4&frames=5&height=32&width=32", "--fill.adapter", str(adapter)]
    config = load_config(arguments=[*words, "--store", str(tmp_path / "artifacts"), "--fill.method", "base"])
    job = planned(config)
    assert len(job.items("fill")) == 8  # four clips along two trajectories
    assert read.count(str(adapter)) == 1
