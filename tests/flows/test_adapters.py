"""Recapturing with adapters of other makers, from the command's settings to the videos and the report."""

import numpy as np
import pytest
import torch
from support import tiny_base as tiny
from support.adapters import original, random_pairs, write

from recapture.datasets.store.store import ArtifactStore
from recapture.flows.recapture_dataset import recapture
from recapture.tasks.clip.filled_frames import read_filled

pytestmark = pytest.mark.integration
FEW = ("--fill.method", "base", "--fill.steps", "2", "--fill.noise_scale", "1")


def lora(path, transformer, modules, seed=1):
    tensors = {}
    for pair in random_pairs(transformer, modules, seed=seed):
        name = f"diffusion_model.{original(pair.module)}"
        tensors |= {f"{name}.lora_down.weight": pair.down, f"{name}.lora_up.weight": pair.up}
        tensors |= {f"{name}.diff_b": torch.full((len(pair.up),), 0.05)}
    return write(path, tensors)


def filled(root):
    """The store's fills: (what was applied, the frames)."""
    store = ArtifactStore(f"{root}/artifacts")
    fills = [store.open("fill", key) for key in store.keys("fill")]
    (render,) = (store.open("render", key) for key in store.keys("render"))
    return [(fill.meta.get("adapters"), read_filled(fill, render, np.arange(5))["rgb"]) for fill in fills]


def test_a_pair_for_two_transformers_changes_the_fill_and_the_report_says_what_was_left_out(job, tmp_path):
    base = tiny.write_tiny_base(tmp_path / "base", two=True)
    image = tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)
    lora(tmp_path / "style/style_high_noise.safetensors", image, ["attn"], seed=1)
    lora(tmp_path / "style/style_low_noise.safetensors", image, ["attn"], seed=2)
    words = (*FEW, "--fill.base", str(base))
    assert [warning for warning in recapture(job(*words)).warnings if "caption" not in warning] == []
    summary = recapture(job(*words, "--fill.adapter", str(tmp_path / "style")))
    assert summary.acceptable and summary.counts["fill"] == {"ok": 1}
    told = [warning for warning in summary.warnings if "caption" not in warning]  # too long for its encoder
    assert len(told) == 2
    for warning, noise, transformer in zip(told, ("high", "low"), ("transformer", "transformer_2")):
        assert warning.startswith(
            f"style_{noise}_noise.safetensors: 48 of 60 tensors are applied to {transformer}; 12 are left out"
        )
    assert "48 of 60 tensors are applied to transformer_2" in summary.markdown()
    (_, plain), (applied, under) = sorted(filled(tmp_path), key=lambda one: one[0] is not None)
    assert [one["tensors"] for one in applied] == [48, 48]
    assert [one["transformer"] for one in applied] == ["transformer", "transformer_2"]
    assert (plain != under).any()
