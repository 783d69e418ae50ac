"""`recapture models convert-adapter` on files, pairs and combined files."""

import pytest
import torch
from safetensors.torch import load_file
from support import tiny_base as tiny
from support.adapters import random_pairs, write
from typer.testing import CliRunner

from recapture.conf.errors import UserError
from recapture.flows.cli import app
from recapture.models.wan.adapter_file import open_adapter


def run(*words):
    result = CliRunner().invoke(app, ["models", "convert-adapter", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output.splitlines()


def lora(path, prefix="transformer.", seed=1):
    tensors = {}
    for pair in random_pairs(tiny.tiny_transformer("t2v"), ["attn1"], seed=seed):
        tensors |= {f"{prefix}{pair.module}.lora_A.weight": pair.down}
        tensors |= {f"{prefix}{pair.module}.lora_B.weight": pair.up}
    return write(path, tensors)


def changes(path):
    """Part and parameter -> A and B."""
    file = open_adapter(path)
    return {
        (part, change.parameter): values
        for part in file.parts
        for change, values in file.read(file.of_part(part))
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(a, b) for key in one for a, b in zip(one[key], other[key]))


def test_a_file_becomes_a_file_of_comfyui_and_comes_back(tmp_path):
    path = lora(tmp_path / "a.safetensors")
    assert run(path, tmp_path / "b.safetensors") == [f"written: {tmp_path}/b.safetensors"]
    assert "diffusion_model.blocks.0.self_attn.q.lora_down.weight" in load_file(tmp_path / "b.safetensors")
    run(tmp_path / "b.safetensors", tmp_path / "c.safetensors", "--to", "diffusers")
    assert_same(changes(path), changes(tmp_path / "c.safetensors"))


@pytest.mark.parametrize("combined", [True, False])
def test_an_adapter_of_two_transformers_becomes_a_pair_and_comes_back(tmp_path, combined):
    if combined:
        tensors = load_file(lora(tmp_path / "1.safetensors", "transformer.", seed=1))
        tensors |= load_file(lora(tmp_path / "2.safetensors", "transformer_2.", seed=2))
        source = write(tmp_path / "in/both.safetensors", tensors)
    else:
        lora(tmp_path / "in/a_high_noise.safetensors", seed=1)
        lora(tmp_path / "in/a_low_noise.safetensors", seed=2)
        source = tmp_path / "in"
    lines = run(source, tmp_path / "out/style.safetensors", "--to", "original")
    assert lines == [f"written: {tmp_path}/out/style_{noise}_noise.safetensors" for noise in ("high", "low")]
    run(tmp_path / "out", tmp_path / "back.safetensors", "--to", "diffusers")
    back = changes(tmp_path / "back.safetensors")
    assert {part for part, _ in back} == {"high", "low"}
    for noise, seed in (("high", 1), ("low", 2)):
        for pair in random_pairs(tiny.tiny_transformer("t2v"), ["attn1"], seed=seed):
            down, up = back[noise, f"{pair.module}.weight"]
            assert torch.equal(down, pair.down) and torch.equal(up, pair.up)


def test_what_is_no_adapter_is_one_sentence(tmp_path):
    for words, message in (
        ((tmp_path / "nothing.safetensors", tmp_path / "b.safetensors"), "has no adapter"),
        ((lora(tmp_path / "a.safetensors"), tmp_path / "b.pt"), "is no .safetensors file"),
        (
            (write(tmp_path / "c.safetensors", {"x.lokr_w1": torch.ones(1)}), tmp_path / "b.safetensors"),
            "LoKr",
        ),
    ):
        with pytest.raises(UserError, match=message):
            run(*words)
