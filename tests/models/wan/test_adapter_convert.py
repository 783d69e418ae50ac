"""Converted adapters against the file that they were made from, and against the readers that they are for."""

import pytest
import torch
from diffusers import WanPipeline
from safetensors import safe_open
from safetensors.torch import load
from support import tiny_base as tiny
from support.adapters import effective_weights, original, random_pairs, write

from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_convert import convert_part, convert_whole
from recapture.models.wan.adapter_file import open_adapter
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import add_lora, set_weights


@pytest.fixture()
def transformer():
    """A tiny transformer with an image branch."""
    torch.manual_seed(0)
    return tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)


def adapter(path, transformer, dtype=torch.float32, **others):
    """A file with alpha in every layer, in diffusers' names."""
    tensors = dict(others)
    for pair in random_pairs(transformer):
        tensors[f"transformer.{pair.module}.lora_A.weight"] = pair.down.to(dtype)
        tensors[f"transformer.{pair.module}.lora_B.weight"] = pair.up.to(dtype)
        tensors[f"transformer.{pair.module}.alpha"] = torch.tensor(pair.alpha)
    return open_adapter(write(path, tensors))


def under(transformer, file):
    """The weights of a transformer under an adapter."""
    adapters = AppliedAdapters({"transformer": transformer})
    adapters.put([Wanted(file, 0.7)])
    found = effective_weights(transformer)
    adapters.remove()
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.allclose(value, other[key], rtol=1e-5, atol=1e-6), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("to", ["comfyui", "original", "diffusers"])
def test_a_converted_adapter_changes_every_layer_as_before(transformer, tmp_path, to, dtype):
    file = adapter(tmp_path / "a.safetensors", transformer, dtype)
    content = convert_whole([(file, "", "")]) if to == "diffusers" else convert_part(file, "", to)
    (tmp_path / "b.safetensors").write_bytes(content)
    again = open_adapter(tmp_path / "b.safetensors")
    if to == "original" and dtype != torch.float32:  # alpha is folded into B, which is rounded
        pairs = zip(under(transformer, file).values(), under(transformer, again).values())
        assert max(float((one - other).abs().max()) for one, other in pairs) < 5e-3
    else:
        assert_same(under(transformer, file), under(transformer, again))


@pytest.mark.parametrize("to", ["comfyui", "diffusers"])
def test_there_and_back_again_the_tensors_are_equal_bit_for_bit(transformer, tmp_path, to):
    file = adapter(tmp_path / "a.safetensors", transformer, torch.bfloat16)
    for step, name in enumerate((to, "diffusers" if to == "comfyui" else "comfyui")):
        content = convert_whole([(file, "", "")]) if name == "diffusers" else convert_part(file, "", name)
        (tmp_path / f"{step}.safetensors").write_bytes(content)
        file = open_adapter(tmp_path / f"{step}.safetensors")
    first = open_adapter(tmp_path / "a.safetensors")

    def read(file):
        return {change.parameter: (change.factor, *values) for change, values in file.read(file.changes)}

    before, after = read(first), read(file)
    assert before.keys() == after.keys()
    for parameter, (factor, *values) in before.items():
        assert after[parameter][0] == pytest.approx(factor, rel=1e-7)
        assert all(torch.equal(one, other) for one, other in zip(values, after[parameter][1:]))


def test_comfyui_names_are_those_of_its_own_files(transformer, tmp_path):
    file = adapter(tmp_path / "a.safetensors", transformer)
    tensors = load(convert_part(file, "", "comfyui"))
    wanted = set()
    for pair in random_pairs(transformer):
        name = f"diffusion_model.{original(pair.module)}"
        wanted |= {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"}
        assert float(tensors[f"{name}.alpha"]) == pair.alpha
    assert set(tensors) == wanted
    bare = load(convert_part(file, "", "original"))
    assert "blocks.0.self_attn.q.lora_A.default.weight" in bare and len(bare) == len(wanted) * 2 // 3


def test_the_stock_pipeline_reads_what_becomes_diffusers(transformer, tmp_path):
    torch.manual_seed(0)
    other = tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)
    file = adapter(tmp_path / "a.safetensors", transformer)
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(convert_whole([(file, "", "")]))
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=other)
    pipeline.load_lora_weights(str(tmp_path), adapter_name="it")
    pipeline.set_adapters("it", 0.7)
    assert_same(under(transformer, file), effective_weights(other))


def test_differences_keep_their_places_and_diffusers_has_none_for_them(transformer, tmp_path):
    others = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24),
        "diffusion_model.blocks.0.self_attn.norm_q.diff": torch.ones(24),
        "diffusion_model.blocks.1.diff_m": torch.ones(1, 6, 24),
        "diffusion_model.head.diff_m": torch.ones(1, 2, 24),
        "diffusion_model.patch_embedding.diff": torch.ones(24, 36, 1, 2, 2),
    }
    file = adapter(tmp_path / "a.safetensors", transformer, **others)
    content = convert_part(file, "", "comfyui")
    assert others.keys() <= load(content).keys()
    (tmp_path / "b.safetensors").write_bytes(content)
    assert_same(under(transformer, file), under(transformer, open_adapter(tmp_path / "b.safetensors")))
    with pytest.raises(AdapterError, match=r"is a difference, .* convert to comfyui"):
        convert_whole([(file, "", "")])


def test_base_and_recommended_scale_of_a_tuned_adapter_go_along(folders, tmp_path):
    base = load_base(folders["inpaint"])
    add_lora(base.transformer, rank=2)
    set_weights(base.transformer, {key: p + 0.1 for key, p in _weights(base).items()})
    path = save_adapter(tmp_path, base.transformer, notes={"scale": "0.7"})
    for to in ("comfyui", "original"):
        (tmp_path / f"{to}.safetensors").write_bytes(convert_part(open_adapter(path), "", to))
        assert open_adapter(tmp_path / f"{to}.safetensors").notes == open_adapter(path).notes
        with safe_open(tmp_path / f"{to}.safetensors", "pt") as file:
            assert "lora_adapter_metadata" not in file.metadata()


def _weights(base):
    from recapture.models.wan.lora import adapter_weights

    return adapter_weights(base.transformer)
