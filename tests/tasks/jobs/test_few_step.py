"""The profile for distillation adapters of four steps: a tiny base, an adapter in lightx2v's layout."""

import pytest
import torch
from support.adapters import linear_layers, original, random_pairs, write
from support.bare_job import SCENES, run_bare
from support.tiny_base import write_tiny_base

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.models.wan.load import load_base
from recapture.models.wan.passes import counted_passes
from recapture.tasks.clip.adapters import adapter_identity
from recapture.tasks.jobs import fill as fill_stage

HERE = ("--fill.precision", "float32", "--fill.vae_precision", "float32")
PLAIN = ("compile_blocks", "fused_layers", "merged_adapters", "chunked_vae")


def distilled(path, transformer):
    """Write an adapter with lightx2v's names: low-rank weights, and differences of biases and norms."""
    layers, tensors = linear_layers(transformer), {}
    for pair in random_pairs(transformer):
        name = f"diffusion_model.{original(pair.module)}"
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair.down, pair.up
        tensors[f"{name}.diff_b"] = torch.full_like(layers[pair.module].bias, 0.1)
    for block in range(len(transformer.blocks)):
        width = transformer.blocks[block].attn1.norm_q.weight.shape
        tensors[f"diffusion_model.blocks.{block}.self_attn.norm_q.diff"] = torch.full(width, 0.1)
    return write(path, tensors)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny base, and an adapter of it."""
    root = tmp_path_factory.mktemp("few")
    base = write_tiny_base(root / "base", "inpaint")
    return base, distilled(root / "lightx2v.safetensors", load_base(base).transformer)


def test_the_profile_by_name_fills_in_four_passes_with_the_adapter_at_scale_1(made, tmp_path, monkeypatch):
    base, adapter = made
    off = [word for name in PLAIN for word in (f"--fill.speed.{name}", "false")]
    counts, fill_window = [], fill_stage.FillStage._fill

    def counted(self, *given):
        with counted_passes(self._filler.base) as passes:
            filled = fill_window(self, *given)
        counts.append(passes.count)
        return filled

    monkeypatch.setattr(fill_stage.FillStage, "_fill", counted)
    rgb = {}
    for name, words in (("plain", ()), ("distilled", ("--fill.adapter", str(adapter)))):
        root = tmp_path / name
        config = load_config(
            "wan-few-step",
            arguments=[
                *("--dataset.name", "small", "--dataset.uri", SCENES.format(count=1)),
                *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
                *("--execution.executor", "inline", "--tracking.enabled", "false", "--depth.source", "given"),
                *("--execution.resources", "{}", "--measure.baselines", "false"),
                *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
                *("--fill.base", str(base), *HERE, *off, *words),
            ],
        )
        (outcome,) = run_bare(config)["fill"]
        assert outcome.status == "ok", outcome.error
        artifact = ArtifactStore(config.store).open("fill", outcome.key)
        rgb[name] = artifact.frames().read(0, 5)
        if words:
            (report,) = artifact.meta["adapters"]
            assert not report["left_out"]
            (identity,) = adapter_identity(config.fill, "scene-000000")["adapters"]
            assert identity["scale"] == 1
    assert counts == [4, 4]
    assert any((rgb["plain"][name] != rgb["distilled"][name]).any() for name in rgb["plain"])
