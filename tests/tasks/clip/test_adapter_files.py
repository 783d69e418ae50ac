"""Adapters as settings name them: files, folders, pairs, clips' own, on any storage."""

import fsspec
import pytest
import torch
from safetensors.torch import save
from support.adapters import write

from recapture.conf.errors import ConfigError, UserError
from recapture.conf.load import load_config
from recapture.models.wan.adapter_file import open_adapter
from recapture.tasks.clip.adapter_files import (
    AdapterFiles,
    Source,
    header,
    local_file,
    noise_pair,
    revision,
    scale_of,
)

KEY = "diffusion_model.blocks.0.self_attn.q"
TENSORS = {f"{KEY}.lora_A.weight": torch.ones(2, 24), f"{KEY}.lora_B.weight": torch.ones(24, 2)}


def files(*words):
    return AdapterFiles(load_config(arguments=list(words)).fill)


def lora(path, **metadata):
    return str(write(path, TENSORS, **metadata))


def test_a_file_alone_with_its_scale_is_the_simple_case(tmp_path):
    path = lora(tmp_path / "style.safetensors")
    assert files("--fill.adapter", path).of("any") == (Source(path),)
    assert files("--fill.adapter", path, "--fill.adapter_scale", "0.4").of("any") == (Source(path, 0.4),)
    assert files().of("any") == ()


def test_several_adapters_keep_their_own_scales_and_transformers(tmp_path):
    one, two = lora(tmp_path / "one.safetensors"), lora(tmp_path / "two.safetensors")
    listed = f"[{{path: {one}, scale: -0.5, transformer: high}}, {{path: {two}}}]"
    assert files("--fill.adapters", listed).of("any") == (Source(one, -0.5, "high"), Source(two))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fill.adapter", "a"], "both set"),
        (["--fill.adapter_scale", "1"], "set the scale of each"),
        (["--fill.method", "classical"], "needs a base"),
    ],
)
def test_settings_of_one_and_of_several_adapters_are_not_mixed(more, message):
    with pytest.raises(ConfigError, match=message):
        load_config(arguments=["--fill.adapters", "[{path: a}]", *more])
    with pytest.raises(ConfigError, match="transformer"):
        load_config(arguments=["--fill.adapters", "[{path: a, transformer: middle}]"])


@pytest.mark.parametrize(
    "name", ["pytorch_lora_weights.safetensors", "adapter_model.safetensors", "x.safetensors"]
)
def test_a_folder_with_one_adapter_is_as_good_as_the_file(tmp_path, name):
    path = lora(tmp_path / "folder" / name)
    (tmp_path / "folder" / "README.md").write_text("about it")
    assert files("--fill.adapter", f"{tmp_path}/folder/").of("any") == (Source(path),)


PAIRS = [
    ("style_high_noise.safetensors", "style_low_noise.safetensors"),
    ("high_noise_model.safetensors", "low_noise_model.safetensors"),
    ("Wan2.2-Lightning-4steps_HIGH_fp16.safetensors", "Wan2.2-Lightning-4steps_LOW_fp16.safetensors"),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_folder_with_a_high_and_a_low_noise_file_is_a_pair(tmp_path, pair):
    high, low = (lora(tmp_path / name) for name in pair)
    both = (Source(high, 1.0, "high"), Source(low, 1.0, "low"))
    assert files("--fill.adapter", str(tmp_path), "--fill.adapter_scale", "1").of("any") == both
    listed = f"[{{path: {tmp_path}, transformer: low}}]"
    assert files("--fill.adapters", listed).of("any") == (Source(low, None, "low"),)
    assert noise_pair(*pair) == noise_pair(*reversed(pair)) == pair


def test_the_common_name_of_a_pair_names_both_files(tmp_path):
    high, low = (lora(tmp_path / f"style_{noise}_noise.safetensors") for noise in ("high", "low"))
    for name in ("style.safetensors", "style"):
        both = (Source(high, None, "high"), Source(low, None, "low"))
        assert files("--fill.adapter", f"{tmp_path}/{name}").of("any") == both


def test_files_that_are_no_pair_are_not_taken_for_one(tmp_path):
    assert noise_pair("highland.safetensors", "lowland.safetensors") is None
    assert noise_pair("a_high.safetensors", "b_low.safetensors") is None
    lora(tmp_path / "a.safetensors"), lora(tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"has 2 adapters \(a.safetensors, b.safetensors\); name one file"):
        files("--fill.adapter", str(tmp_path))
    with pytest.raises(UserError, match="has no adapter; name a LoRA file"):
        files("--fill.adapter", str(tmp_path / "nothing"))


def test_a_clips_own_adapter_takes_precedence_over_the_one_for_all(tmp_path):
    shared = lora(tmp_path / "pytorch_lora_weights.safetensors")
    own = lora(tmp_path / "clips/day/one/pytorch_lora_weights.safetensors")
    found = files("--fill.adapter", str(tmp_path))
    assert found.of("day/one") == (Source(own),)
    assert found.of("day/two") == (Source(shared),) == found.shared
    (tmp_path / "pytorch_lora_weights.safetensors").unlink()
    found = files("--fill.adapter", str(tmp_path))
    with pytest.raises(UserError, match="has no adapter for clip 'day/two' and none for all clips"):
        found.of("day/two")


def test_adapters_are_read_from_any_storage(tmp_path):
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/styles/pytorch_lora_weights.safetensors", save(TENSORS))
    filesystem.pipe("/styles/clips/a/pytorch_lora_weights.safetensors", save(TENSORS))
    filesystem.pipe("/styles/peft/adapter_model.safetensors", save(TENSORS))
    filesystem.pipe("/styles/peft/adapter_config.json", b'{"lora_alpha": 8}')
    found = files("--fill.adapter", "memory://styles")
    assert found.of("a") == (Source("memory://styles/clips/a/pytorch_lora_weights.safetensors"),)
    assert found.of("b") == (Source("memory://styles/pytorch_lora_weights.safetensors"),)
    (peft,) = files("--fill.adapter", "memory://styles/peft").of("b")
    with local_file(peft.path) as path:
        (change,) = open_adapter(path).changes
    assert change.factor == 4.0
    assert revision(peft.path) != revision("memory://styles/pytorch_lora_weights.safetensors")
    filesystem.pipe("/styles/broken.safetensors", b"no tensors")
    with pytest.raises(UserError, match=r"memory://styles/broken.safetensors cannot be read as safetensors"):
        header("memory://styles/broken.safetensors")


def test_the_revision_is_of_the_bytes_and_not_of_the_path(tmp_path):
    one, same = lora(tmp_path / "one.safetensors"), lora(tmp_path / "elsewhere/two.safetensors")
    assert revision(one) == revision(same)
    peft = lora(tmp_path / "peft/adapter_model.safetensors")
    before = revision(peft)
    (tmp_path / "peft/adapter_config.json").write_text('{"lora_alpha": 8}')
    assert before == revision(one) != revision(peft)


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [({}, 1.0), ({"recapture": {"base": "x"}}, 0.7), ({"recapture": {"base": "x", "scale": "0.5"}}, 0.5)],
    ids=["of another maker", "tuned here, long ago", "tuned here"],
)
def test_without_a_scale_the_files_own_recommendation_counts_and_else_1(tmp_path, metadata, scale):
    path = lora(tmp_path / "a.safetensors", **metadata)
    assert scale_of(Source(path), header(path)) == scale
    assert scale_of(Source(path, 0.25), header(path)) == 0.25
