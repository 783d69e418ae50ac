"""Adapter files of every maker against the weight change computed by hand, in every layer."""

import itertools
import json
import math

import pytest
import torch
from support import tiny_base as tiny
from support.adapters import effective_weights, linear_layers, original, random_pairs, state, write

from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import open_adapter

ATTENTION = ("attn1", "attn2")
SCALE = 0.7


@pytest.fixture()
def transformer():
    """A tiny transformer with an image branch."""
    torch.manual_seed(0)
    return tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)


def lora_pair(pairs, down, up, *, name=lambda module: module, prefix="", alpha=None, dtype=torch.float32):
    """The tensors of a file in one dialect."""
    tensors = {}
    for pair in pairs:
        spelt = prefix + name(pair.module)
        tensors[f"{spelt}.{down}"] = pair.down.to(dtype)
        tensors[f"{spelt}.{up}"] = pair.up.to(dtype)
        if alpha:
            tensors[f"{spelt}.{alpha}"] = torch.tensor(pair.alpha)
    return tensors


def spelt_with_underscores(module):
    return original(module).replace(".", "_")


AB = ("lora_A.weight", "lora_B.weight")
DOWN_UP = ("lora_down.weight", "lora_up.weight")
DEFAULT = ("lora_A.default.weight", "lora_B.default.weight")
# maker -> (down, up), how it names modules, prefix, alpha tensors
DIALECTS = {
    "diffusers, no alpha": (AB, str, "transformer.", False),
    "diffusers, alpha tensors": (AB, str, "transformer.", True),
    "bare diffusers names": (AB, str, "", False),
    "peft": (AB, str, "base_model.model.", False),
    "peft of Wan's own model": (AB, original, "base_model.model.", False),
    "comfyui, A and B": (AB, original, "diffusion_model.", False),
    "comfyui, down and up, alpha": (DOWN_UP, original, "diffusion_model.", True),
    "comfyui, whole checkpoint prefix": (DOWN_UP, original, "model.diffusion_model.", True),
    "musubi-tuner": (DOWN_UP, spelt_with_underscores, "lora_unet_", True),
    "musubi-tuner without alpha": (DOWN_UP, spelt_with_underscores, "lora_unet_", False),
    "videox-fun": (DOWN_UP, spelt_with_underscores, "lora_unet__", True),
    "videox-fun, newer": (DEFAULT, original, "diffusion_model.", False),
    "diffsynth": (DEFAULT, original, "", False),
    "diffsynth, whole pipeline": (DEFAULT, original, "pipe.dit.", False),
    "diffsynth, vace": (DEFAULT, original, "pipe.vace.", False),
    "kohya names of diffusers": (DOWN_UP, lambda name: name.replace(".", "_"), "lora_unet_", True),
}


@pytest.mark.parametrize("maker", DIALECTS)
def test_every_makers_file_changes_each_layer_by_scale_alpha_over_rank_b_a(transformer, tmp_path, maker):
    sides, name, prefix, alpha = DIALECTS[maker]
    pairs = random_pairs(transformer)
    before = effective_weights(transformer)
    tensors = lora_pair(pairs, *sides, name=name, prefix=prefix, alpha=alpha and "alpha")
    path = write(tmp_path / "adapter.safetensors", tensors)
    check(transformer, path, before, {pair.module: pair.delta if alpha else pair.plain for pair in pairs})


def check(transformer, path, before, deltas, others=None):
    """Apply a file, compare every parameter with the base plus what is expected, and take it off again."""
    stored = state(transformer)
    adapters = AppliedAdapters({"transformer": transformer})
    (fitted,) = adapters.put([Wanted(open_adapter(path), SCALE)])
    after = effective_weights(transformer)
    assert after.keys() == before.keys()
    for key, value in before.items():
        wanted = value.clone()
        if key.removesuffix(".weight") in deltas:
            wanted += SCALE * deltas[key.removesuffix(".weight")].reshape(value.shape)
        if others and key in others:
            wanted += SCALE * others[key].reshape(value.shape)
        assert torch.allclose(after[key], wanted, rtol=1e-4, atol=2e-6), key
    adapters.remove()
    again = state(transformer)
    assert again.keys() == stored.keys() and all(torch.equal(again[key], stored[key]) for key in stored)
    return fitted


@pytest.mark.parametrize("modules", ["attn1", "attn2.to_q", "ffn", "blocks.1.", "blocks.1.attn1.to_k"])
@pytest.mark.parametrize("maker", ["musubi-tuner", "musubi-tuner without alpha", "comfyui, A and B"])
def test_any_subset_of_modules_and_blocks_is_enough(transformer, tmp_path, maker, modules):
    sides, name, prefix, alpha = DIALECTS[maker]
    pairs = random_pairs(transformer, [modules])
    before = effective_weights(transformer)
    tensors = lora_pair(pairs, *sides, name=name, prefix=prefix, alpha=alpha and "alpha")
    path = write(tmp_path / "adapter.safetensors", tensors)
    check(transformer, path, before, {pair.module: pair.delta if alpha else pair.plain for pair in pairs})


def test_dots_behind_an_underscored_block_and_the_older_k_img_are_read(transformer, tmp_path):
    pairs = random_pairs(transformer, ("blocks.1.attn2.",))
    before = effective_weights(transformer)

    def name(module):
        return (
            original(module)
            .replace("blocks.1.", "blocks_1.")
            .replace("k_img", "k.img")
            .replace("v_img", "v.img")
        )

    tensors = lora_pair(pairs, *DOWN_UP, name=name, prefix="lora_unet_", alpha="alpha")
    assert any("k.img" in key for key in tensors)
    path = write(tmp_path / "adapter.safetensors", tensors)
    check(transformer, path, before, {pair.module: pair.delta for pair in pairs})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_files_in_half_and_in_float8_are_read_as_the_values_that_they_hold(transformer, tmp_path, dtype):
    pairs = random_pairs(transformer, ATTENTION)
    before = effective_weights(transformer)
    tensors = lora_pair(pairs, *DOWN_UP, name=original, prefix="diffusion_model.", alpha="alpha", dtype=dtype)
    path = write(tmp_path / "adapter.safetensors", tensors)
    deltas = {
        pair.module: pair.alpha / len(pair.down) * (pair.up.to(dtype).float() @ pair.down.to(dtype).float())
        for pair in pairs
    }
    check(transformer, path, before, deltas)


def settings(pairs, **changes):
    return {"peft_type": "LORA", "r": 4, "lora_alpha": 3.0, **changes}


def test_alpha_of_diffusers_metadata_is_taken_module_by_module(transformer, tmp_path):
    pairs = random_pairs(transformer, ATTENTION)
    before = effective_weights(transformer)
    odd = {"blocks.0.attn1.to_q": 6.0, r"blocks\.1\.attn2\.to_(k|v)": 5.0}
    stated = {f"transformer.{key}": value for key, value in settings(pairs, alpha_pattern=odd).items()}
    path = write(
        tmp_path / "adapter.safetensors",
        lora_pair(pairs, *AB, prefix="transformer."),
        lora_adapter_metadata=stated,
    )
    alphas = {"blocks.0.attn1.to_q": 6.0, "blocks.1.attn2.to_k": 5.0, "blocks.1.attn2.to_v": 5.0}
    deltas = {pair.module: alphas.get(pair.module, 3.0) / len(pair.down) * pair.plain for pair in pairs}
    check(transformer, path, before, deltas)


@pytest.mark.parametrize("stabilised", [False, True])
@pytest.mark.parametrize("prefix", ["base_model.model.", "diffusion_model."], ids=["peft", "diffusion-pipe"])
def test_a_peft_folder_has_its_alpha_beside_it(transformer, tmp_path, prefix, stabilised):
    pairs = random_pairs(transformer, ATTENTION)
    before = effective_weights(transformer)
    name = original if prefix == "diffusion_model." else str
    path = write(tmp_path / "adapter_model.safetensors", lora_pair(pairs, *AB, name=name, prefix=prefix))
    stated = settings(pairs, use_rslora=stabilised, alpha_pattern={name("blocks.1.attn1.to_v"): 8})
    write_json(tmp_path / "adapter_config.json", stated)
    deltas = {}
    for pair in pairs:
        alpha, rank = 8.0 if pair.module == "blocks.1.attn1.to_v" else 3.0, len(pair.down)
        deltas[pair.module] = alpha / (math.sqrt(rank) if stabilised else rank) * pair.plain
    check(transformer, path, before, deltas)
    (tmp_path / "adapter_config.json").unlink()
    (remark,) = open_adapter(path).remarks
    assert "no adapter_config.json beside it" in remark


def write_json(path, content):
    path.write_text(json.dumps(content))


def distilled(transformer, down, up):
    """A file as lightx2v, CausVid and AccVid make them, and what it adds to each parameter."""
    random = torch.Generator().manual_seed(7)
    pairs, parameters = random_pairs(transformer), dict(transformer.named_parameters())
    tensors = lora_pair(pairs, down, up, name=original, prefix="diffusion_model.")
    others = {}

    def add(key, parameter):
        value = torch.randn(parameters[parameter].shape, generator=random) * 0.3
        tensors[f"diffusion_model.{key}"], others[parameter] = value, value

    for module in linear_layers(transformer):
        add(f"{original(module)}.diff_b", f"{module}.bias")
    for block in range(2):
        for attention, norm in itertools.product(("attn1", "attn2"), ("norm_q", "norm_k")):
            module = f"blocks.{block}.{attention}.{norm}"
            add(f"{original(module)}.diff", f"{module}.weight")
        add(f"blocks.{block}.cross_attn.norm_k_img.diff", f"blocks.{block}.attn2.norm_added_k.weight")
        add(f"blocks.{block}.norm3.diff", f"blocks.{block}.norm2.weight")
        add(f"blocks.{block}.norm3.diff_b", f"blocks.{block}.norm2.bias")
        add(f"blocks.{block}.diff_m", f"blocks.{block}.scale_shift_table")
    add("head.diff_m", "scale_shift_table")
    add("patch_embedding.diff", "patch_embedding.weight")
    add("patch_embedding.diff_b", "patch_embedding.bias")
    return tensors, {pair.module: pair.plain for pair in pairs}, others


@pytest.mark.parametrize("sides", [AB, DOWN_UP], ids=["A and B", "down and up"])
def test_differences_of_biases_norms_and_modulation_are_added_exactly_at_the_scale(
    transformer, tmp_path, sides
):
    before = effective_weights(transformer)
    tensors, deltas, others = distilled(transformer, *sides)
    path = write(tmp_path / "adapter.safetensors", tensors)
    fitted = check(transformer, path, before, deltas, others)
    assert not fitted.left_out and sum(len(change.keys) for change in fitted.changes) == len(tensors)


def test_a_bias_alone_without_its_weight_is_a_change_too(transformer, tmp_path):
    before, value = effective_weights(transformer), torch.arange(24.0)
    width = transformer.condition_embedder.time_proj.out_features
    tensors = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": value,
        "diffusion_model.time_projection.1.diff_b": torch.ones(width),
    }
    path = write(tmp_path / "adapter.safetensors", tensors)
    others = {"blocks.0.attn1.to_q.bias": value, "condition_embedder.time_proj.bias": torch.ones(width)}
    check(transformer, path, before, {}, others)


def test_a_head_and_a_first_layer_of_low_rank_and_as_differences(transformer, tmp_path):
    before = effective_weights(transformer)
    down, up = torch.randn(3, 36, 1, 2, 2) * 0.1, torch.randn(24, 3, 1, 1, 1) * 0.1
    head = torch.randn_like(transformer.proj_out.weight) * 0.1
    tensors = {
        "diffusion_model.patch_embedding.lora_down.weight": down,
        "diffusion_model.patch_embedding.lora_up.weight": up,
        "diffusion_model.patch_embedding.alpha": torch.tensor(1.5),
        "diffusion_model.head.head.diff": head,
    }
    deltas = {"patch_embedding": 0.5 * up.flatten(1) @ down.flatten(1), "proj_out": head}
    check(transformer, write(tmp_path / "adapter.safetensors", tensors), before, deltas)


def test_biases_of_b_as_peft_writes_them_are_scaled_like_b(transformer, tmp_path):
    pairs = random_pairs(transformer, ("attn1.to_q",))
    before = effective_weights(transformer)
    tensors = lora_pair(pairs, *AB, prefix="transformer.")
    tensors |= {f"transformer.{pair.module}.lora_B.bias": torch.ones(24) for pair in pairs}
    stated = {f"transformer.{key}": value for key, value in settings(pairs, lora_bias=True).items()}
    path = write(tmp_path / "adapter.safetensors", tensors, lora_adapter_metadata=stated)
    factors = {pair.module: 3.0 / len(pair.down) for pair in pairs}
    deltas = {pair.module: factors[pair.module] * pair.plain for pair in pairs}
    others = {f"{name}.bias": factor * torch.ones(24) for name, factor in factors.items()}
    check(transformer, path, before, deltas, others)


KEY = "diffusion_model.blocks.0.self_attn.q"


def sides(key, rows=24, columns=24, *, rank=2, name=""):
    """A and B of ones."""
    return {
        f"{key}.lora_A.{name}weight": torch.ones(rank, columns),
        f"{key}.lora_B.{name}weight": torch.ones(rows, rank),
    }


PLAIN = sides(KEY)
# kind of file -> (tensors, what the refusal names)
REFUSED = {
    "LoKr": ({f"{KEY}.lokr_w1": torch.ones(2, 2), f"{KEY}.lokr_w2": torch.ones(12, 12)}, "LoKr"),
    "LoHa": ({f"{KEY}.hada_w1_a": torch.ones(24, 2)}, "LoHa"),
    "DoRA": (PLAIN | {f"{KEY}.dora_scale": torch.ones(24, 1)}, "DoRA"),
    "DoRA of peft": (PLAIN | {f"{KEY}.lora_magnitude_vector": torch.ones(24)}, "DoRA"),
    "OFT": ({f"{KEY}.oft_blocks": torch.ones(2, 3, 3)}, "OFT"),
    "Tucker": (PLAIN | {f"{KEY}.lora_mid.weight": torch.ones(2, 2, 1)}, "Tucker"),
    "a checkpoint": ({"blocks.0.self_attn.q.weight": torch.ones(24, 24)}, "no LoRA of a Wan transformer"),
    "a text encoder": (PLAIN | sides("lora_te_x"), "lora_te_x"),
    "another model": (sides("diffusion_model.double_blocks.0.img"), "double_blocks.*made for another model"),
    "an unknown tensor": (PLAIN | {f"{KEY}.extra": torch.ones(2)}, "extra"),
    "A without B": ({f"{KEY}.lora_A.weight": torch.ones(2, 24)}, "no counterpart"),
    "two ranks": (PLAIN | {f"{KEY}.lora_B.weight": torch.ones(24, 3)}, "do not have one rank"),
    "alpha alone": (PLAIN | {f"{KEY[:-1]}k.alpha": torch.tensor(1.0)}, "no counterpart"),
    "mixed files": (PLAIN | sides("transformer.blocks.0.attn1.to_q"), "twice"),
    "two adapters": (sides(KEY, name="a.") | sides(KEY, name="b."), "several adapters"),
    "alpha of two numbers": (PLAIN | {f"{KEY}.alpha": torch.ones(2)}, "cannot be read"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_plain_lora_of_wan_is_refused_by_name_never_by_a_bare_error(tmp_path, fault):
    tensors, message = REFUSED[fault]
    path = write(tmp_path / "adapter.safetensors", tensors)
    with pytest.raises(AdapterError, match=message) as refused:
        open_adapter(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_alpha": "much"}, "no number"),
        ({"lora_alpha": 2, "alpha_pattern": {"(": 3}}, "is no pattern"),
        ({"lora_alpha": 2, "alpha_pattern": {"(a+)+b": 3}}, "repeats too much"),
        ([], "no JSON object"),
    ],
)
def test_peft_settings_of_another_kind_are_refused_by_name(tmp_path, stated, message):
    path = write(tmp_path / "adapter_model.safetensors", PLAIN)
    write_json(tmp_path / "adapter_config.json", stated)
    with pytest.raises(AdapterError, match=message):
        open_adapter(path)


def test_notes_that_are_no_object_are_refused(tmp_path):
    path = write(tmp_path / "adapter.safetensors", PLAIN, recapture=[1])
    with pytest.raises(AdapterError, match="metadata is no JSON object"):
        open_adapter(path)
