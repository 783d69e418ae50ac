"""Hashes of models in plans: one per file and plan,."""

from support.plans import planned

from recapture.conf.load import load_config
from recapture.datasets.store import model_hashes


def test_an_adapter_is_hashed_once_per_plan_of_many_clips_and_trajectories(tmp_path, monkeypatch):
    adapter = tmp_path / "lora.safetensors"
    adapter.write_bytes(bytes(model_hashes.REMEMBERED))  # just written, so that no other process remembers it
    read, look = [], model_hashes.file_hash
    monkeypatch.setattr(model_hashes, "file_hash", lambda path: read.append(path) or look(path))
    words = ["--dataset.uri", "scenes://?count=4&frames=5&height=32&width=32", "--fill.adapter", str(adapter)]
    config = load_config(arguments=[*words, "--store", str(tmp_path / "artifacts"), "--fill.method", "base"])
    job = planned(config)
    assert len(job.items("fill")) == 8  # four clips along two trajectories
    assert read.count(str(adapter)) == 1
