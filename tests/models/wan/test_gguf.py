"""Transformers in GGUF files: what they compute is what the restored weights compute."""

import importlib.util

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import tiny_base as tiny

from recapture.models.tuning.examples import check_trainable
from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import open_adapter
from recapture.models.wan.gguf_file import GgufFile
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import load_adapter, remove_lora
from recapture.models.wan.tensor_files import CheckpointError

KINDS = {
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q4_K": gguf.GGMLQuantizationType.Q4_K,
    "BF16": gguf.GGMLQuantizationType.BF16,
}
WIDE = {
    "num_attention_heads": 2,
    "attention_head_dim": 128,
    "ffn_dim": 256,
    "text_dim": 256,
}  # a block of Q4_K


def quantised(value, kind):
    """Quantise rows; the package writes no K quants, so theirs are random blocks with small scales."""
    if kind != KINDS["Q4_K"]:
        return gguf.quantize(value, kind)
    random = np.random.default_rng(value.shape[0])
    blocks = random.integers(0, 256, (value.shape[0], value.shape[1] // 256, 144), dtype=np.uint8)
    scales = np.array([2e-4, 1e-4], dtype=np.float16).view(np.uint8)
    blocks[..., :4] = scales
    return blocks.reshape(value.shape[0], -1)


def write_gguf(path, kind, prefix=""):
    """Write a tiny transformer with quantised matrices under Wan's own names; return the restored one."""
    torch.manual_seed(4)
    model = tiny.tiny_transformer("inpaint", **WIDE)
    from safetensors.torch import load_file

    state = load_file(tiny.write_single_file(path.with_suffix(".safetensors"), model))
    writer = gguf.GGUFWriter(str(path), "wan")
    restored = {}
    for key, tensor in state.items():
        value = tensor.numpy()
        if (
            value.ndim == 2
            and value.shape[1] % 256 == 0
            and "embedding" not in key
            and "modulation" not in key
        ):
            stored = quantised(value, kind)
            restored[key] = gguf.dequantize(stored, kind).reshape(value.shape)
            writer.add_tensor(prefix + key, stored, raw_dtype=kind)
        else:
            restored[key] = value
            writer.add_tensor(prefix + key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name, parameter in model.named_parameters():
        (old,) = [key for key, new in names_of(state).items() if new == name]
        parameter.data = torch.from_numpy(restored[old].copy()).float()
    return model, restored


def names_of(state):
    from recapture.models.wan.original_keys import diffusers_names

    return diffusers_names(list(state))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return tiny.write_tiny_base(tmp_path_factory.mktemp("parts") / "base", text_dim=256)


def inputs(model):
    random = torch.Generator().manual_seed(7)
    return (
        torch.randn(1, model.config.in_channels, 3, 4, 6, generator=random),
        torch.tensor([400.0]),
        torch.randn(1, 16, model.config.text_dim, generator=random),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_gguf_transformer_computes_what_its_restored_weights_do(tmp_path, parts, kind, prefix):
    twin, _ = write_gguf(tmp_path / "wan.gguf", KINDS[kind], prefix)
    base = load_base(tmp_path / "wan.gguf", parts=parts)
    assert base.layout == "inpaint" and base.dtype == torch.float32
    with torch.no_grad():
        found, expected = base.transformer(*inputs(twin)).sample, twin(*inputs(twin)).sample
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_restored_tensors_are_the_packages_own(tmp_path, kind):
    _, restored = write_gguf(tmp_path / "wan.gguf", KINDS[kind])
    file = GgufFile(tmp_path / "wan.gguf")
    assert file.shapes["patch_embedding.weight"] == (256, 36, 1, 2, 2)
    for key, value in restored.items():
        assert file.shapes[key] == value.shape
        assert np.array_equal(file.read(key).numpy(), value)


def test_an_adapter_on_gguf_adds_its_change_and_leaves_with_it(tmp_path, parts):
    twin, _ = write_gguf(tmp_path / "wan.gguf", KINDS["Q8_0"])
    base = load_base(tmp_path / "wan.gguf", parts=parts)
    random = torch.Generator().manual_seed(1)
    down, up = (torch.randn(shape, generator=random) * 0.1 for shape in ((4, 256), (256, 4)))
    from safetensors.torch import save_file

    key = "transformer.blocks.0.attn1.to_q.lora_{}.weight"
    save_file({key.format("A"): down, key.format("B"): up}, tmp_path / "a.safetensors")
    bare = base.transformer(*inputs(twin)).sample
    load_adapter(base.transformer, tmp_path / "a.safetensors", scale=1.0)
    found = base.transformer(*inputs(twin)).sample
    with torch.no_grad():
        twin.blocks[0].attn1.to_q.weight += up @ down
        expected = twin(*inputs(twin)).sample
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))
    assert not torch.allclose(found, bare, atol=1e-3)
    remove_lora(base.transformer)
    assert torch.equal(base.transformer(*inputs(twin)).sample, bare)


def test_differences_on_gguf_reach_what_is_not_quantised_and_are_refused_elsewhere(tmp_path, parts):
    write_gguf(tmp_path / "base.gguf", KINDS["Q8_0"])
    transformer = load_base(tmp_path / "base.gguf", parts=parts).transformer
    bias = transformer.blocks[0].attn1.to_q.bias.detach().clone()
    key = "diffusion_model.blocks.0.self_attn.q"
    save_file({f"{key}.diff_b": torch.ones(256)}, tmp_path / "bias.safetensors")
    save_file({f"{key}.diff": torch.ones(256, 256)}, tmp_path / "weight.safetensors")
    adapters = AppliedAdapters({"transformer": transformer}, merge=True)
    adapters.put([Wanted(open_adapter(tmp_path / "bias.safetensors"), 0.5)])
    torch.testing.assert_close(transformer.blocks[0].attn1.to_q.bias, bias + 0.5)
    with pytest.raises(AdapterError, match="is quantised in this base; use the base in bf16"):
        adapters.put([Wanted(open_adapter(tmp_path / "weight.safetensors"), 0.5)])
    assert torch.equal(transformer.blocks[0].attn1.to_q.bias, bias)


def test_a_gguf_file_cut_short_is_one_sentence(tmp_path, parts):
    write_gguf(tmp_path / "wan.gguf", KINDS["Q8_0"])
    content = (tmp_path / "wan.gguf").read_bytes()
    for size in (len(content) - 5000, 300, 10):
        (tmp_path / "wan.gguf").write_bytes(content[:size])
        with pytest.raises(
            CheckpointError, match=r"wan\.gguf is (cut short|no GGUF).*download it again"
        ) as error:
            load_base(tmp_path / "wan.gguf", parts=parts)
        assert "\n" not in str(error.value)


def test_a_gguf_file_of_another_model_is_named_by_its_tensor(tmp_path, parts):
    writer = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "t5encoder")
    writer.add_tensor("enc.blk.0.attn_q.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"patch_embedding\.weight' is missing; this is no Wan"):
        load_base(tmp_path / "x.gguf", parts=parts)


def test_tuning_on_a_quantised_base_is_refused(tmp_path, parts):
    write_gguf(tmp_path / "wan.gguf", KINDS["Q8_0"])
    with pytest.raises(ValueError, match=r"quantised base \(GGUF\) cannot be trained"):
        check_trainable(load_base(tmp_path / "wan.gguf", parts=parts))


def test_without_the_package_the_sentence_names_it(tmp_path, parts, monkeypatch):
    write_gguf(tmp_path / "wan.gguf", KINDS["Q8_0"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(CheckpointError, match="needs the package gguf; install it: pip install gguf"):
        load_base(tmp_path / "wan.gguf", parts=parts)
