"""Several adapters, two transformers, bases that lack a branch: what is applied, what is refused."""

import pytest
import torch
from diffusers import WanPipeline
from support import tiny_base as tiny
from support.adapters import effective_weights, linear_layers, original, random_pairs, state, write

from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME, open_adapter
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import add_lora, load_adapter, remove_lora, set_weights


def comfyui(path, pairs, prefix="diffusion_model.", **others):
    tensors = {}
    for pair in pairs:
        tensors[f"{prefix}{original(pair.module)}.lora_down.weight"] = pair.down
        tensors[f"{prefix}{original(pair.module)}.lora_up.weight"] = pair.up
        tensors[f"{prefix}{original(pair.module)}.alpha"] = torch.tensor(pair.alpha)
    return write(path, tensors | others)


def adapters_of(*transformers):
    return AppliedAdapters(dict(zip(("transformer", "transformer_2"), transformers)))


def assert_changed(transformer, before, deltas):
    after = effective_weights(transformer)
    for key, value in before.items():
        wanted = value + deltas.get(key.removesuffix(".weight"), torch.zeros(()))
        assert torch.allclose(after[key], wanted, rtol=1e-4, atol=2e-6), key


def test_several_adapters_add_up_each_at_its_scale(tmp_path):
    torch.manual_seed(0)
    transformer = tiny.tiny_transformer("inpaint")
    before, stored = effective_weights(transformer), state(transformer)
    first = random_pairs(transformer, ["attn1", "ffn"], seed=1)
    second = random_pairs(transformer, ["attn1.to_q", "attn2"], seed=2)
    bias = {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24)}
    files = [
        open_adapter(comfyui(tmp_path / "first.safetensors", first, **bias)),
        open_adapter(comfyui(tmp_path / "second.safetensors", second, **bias)),
    ]
    adapters = adapters_of(transformer)
    adapters.put([Wanted(files[0], 0.5), Wanted(files[1], -1.5)])
    deltas = {pair.module: 0.5 * pair.delta for pair in first}
    for pair in second:
        deltas[pair.module] = deltas.get(pair.module, 0.0) - 1.5 * pair.delta
    key = "blocks.0.attn1.to_q.bias"
    assert_changed(transformer, before | {key: before[key] - 1.0}, deltas)

    adapters.put([Wanted(files[1], 1.0)])  # another choice replaces the first as a whole
    deltas = {pair.module: pair.delta for pair in second}
    assert_changed(transformer, before | {key: before[key] + 1.0}, deltas)
    adapters.remove()
    again = state(transformer)
    assert again.keys() == stored.keys() and all(torch.equal(again[key], stored[key]) for key in stored)


def test_a_bias_difference_changes_the_output_of_a_layer_by_exactly_scale_times_it(tmp_path):
    transformer = tiny.tiny_transformer("t2v")
    layer, difference = transformer.blocks[0].ffn.net[2], torch.linspace(-1, 1, 24)
    path = write(tmp_path / "a.safetensors", {"diffusion_model.blocks.0.ffn.2.diff_b": difference})
    with torch.no_grad():
        layer.bias.zero_()
        plain = layer(torch.zeros(1, 32))
        adapters_of(transformer).put([Wanted(open_adapter(path), 0.5)])
        assert torch.equal(layer(torch.zeros(1, 32)) - plain, 0.5 * difference[None])


@pytest.fixture()
def two():
    """Two transformers, as Wan2.2 A14B has them."""
    torch.manual_seed(0)
    return tiny.tiny_transformer("inpaint"), tiny.tiny_transformer("inpaint")


def test_a_single_adapter_on_two_transformers_is_refused_and_never_one_of_two(two, tmp_path):
    stored = [state(one) for one in two]
    file = open_adapter(comfyui(tmp_path / "a.safetensors", random_pairs(two[0], ["attn1"])))
    with pytest.raises(AdapterError, match="has two transformers; state which it is for"):
        adapters_of(*two).put([Wanted(file, 1.0)])
    for one, before in zip(two, stored):
        assert all(torch.equal(value, before[key]) for key, value in state(one).items())


@pytest.mark.parametrize(("which", "changed"), [("both", (0, 1)), ("high", (0,)), ("low", (1,))])
def test_a_stated_transformer_gets_the_adapter_and_the_other_does_not(two, tmp_path, which, changed):
    before = [effective_weights(one) for one in two]
    pairs = random_pairs(two[0], ["attn1"])
    file = open_adapter(comfyui(tmp_path / "a.safetensors", pairs))
    found = adapters_of(*two).put([Wanted(file, 0.7, which)])
    assert [one.transformer for one in found] == [("transformer", "transformer_2")[n] for n in changed]
    for number, one in enumerate(two):
        deltas = {pair.module: 0.7 * pair.delta for pair in pairs} if number in changed else {}
        assert_changed(one, before[number], deltas)


PREFIXES = {
    "diffusers": ("transformer.", "transformer_2."),
    "ai-toolkit, combined": ("diffusion_model.transformer_1.", "diffusion_model.transformer_2."),
    "diffsynth": ("pipe.dit.", "pipe.dit2."),
}


def combined(path, two, prefixes):
    pairs = [random_pairs(one, ["attn1", "ffn"], seed=3 + number) for number, one in enumerate(two)]
    tensors = {}
    for prefix, own in zip(prefixes, pairs):
        for pair in own:
            name = pair.module if prefix.startswith("transformer") else original(pair.module)
            tensors[f"{prefix}{name}.lora_A.weight"] = pair.down
            tensors[f"{prefix}{name}.lora_B.weight"] = pair.up
    return write(path, tensors), pairs


@pytest.mark.parametrize("maker", PREFIXES)
def test_a_combined_file_gives_each_transformer_its_own_part(two, tmp_path, maker):
    path, pairs = combined(tmp_path / "a.safetensors", two, PREFIXES[maker])
    before = [effective_weights(one) for one in two]
    adapters_of(*two).put([Wanted(open_adapter(path), 0.7)])
    for one, own, values in zip(two, pairs, before):
        assert_changed(one, values, {pair.module: 0.7 * pair.plain for pair in own})


@pytest.mark.parametrize("maker", PREFIXES)
def test_a_combined_file_on_one_transformer_is_refused_unless_a_part_is_chosen(two, tmp_path, maker):
    path, pairs = combined(tmp_path / "a.safetensors", two, PREFIXES[maker])
    alone, before = two[0], effective_weights(two[0])
    for which in (None, "both"):
        with pytest.raises(
            AdapterError, match="has only one; state which part it takes, `transformer: high or low`"
        ):
            adapters_of(alone).put([Wanted(open_adapter(path), 1.0, which)])
    adapters_of(alone).put([Wanted(open_adapter(path), 1.0, "low")])
    assert_changed(alone, before, {pair.module: pair.plain for pair in pairs[1]})


def test_stating_a_transformer_that_is_not_there_is_refused(two, tmp_path):
    single = open_adapter(comfyui(tmp_path / "a.safetensors", random_pairs(two[0], ["attn1"])))
    with pytest.raises(AdapterError, match="this base has only one transformer"):
        adapters_of(two[0]).put([Wanted(single, 1.0, "low")])
    second = open_adapter(
        comfyui(tmp_path / "b.safetensors", random_pairs(two[0], ["attn1"]), "transformer_2.")
    )
    with pytest.raises(
        AdapterError, match="changes only the low-noise transformer, and is stated to be for high"
    ):
        adapters_of(*two).put([Wanted(second, 1.0, "high")])
    assert [one.transformer for one in adapters_of(*two).put([Wanted(second, 1.0)])] == ["transformer_2"]


def test_an_i2v_adapter_on_a_base_without_an_image_branch_leaves_it_out_and_says_so(tmp_path):
    image = tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)
    torch.manual_seed(0)
    plain = tiny.tiny_transformer("inpaint")
    pairs = random_pairs(image)
    path = comfyui(tmp_path / "i2v.safetensors", pairs)
    before = effective_weights(plain)
    (fitted,) = adapters_of(plain).put([Wanted(open_adapter(path), 1.0)])
    names = set(linear_layers(plain))
    assert_changed(plain, before, {pair.module: pair.delta for pair in pairs if pair.module in names})
    gone = [pair for pair in pairs if pair.module not in names]
    (remark,) = fitted.remarks
    assert remark.startswith(
        f"i2v.safetensors: {2 * (len(pairs) - len(gone))} of {2 * len(pairs)} tensors are applied to "
        f"transformer; {2 * len(gone)} are left out, because this base has no image branch"
    )
    assert "img" in remark


def test_a_t2v_adapter_on_an_i2v_base_leaves_the_image_branch_alone(tmp_path):
    torch.manual_seed(0)
    image = tiny.tiny_transformer("inpaint", image_dim=24, added_kv_proj_dim=24)
    text = tiny.tiny_transformer("t2v")
    pairs = random_pairs(text)
    first_layer = {"diffusion_model.patch_embedding.diff": torch.ones(24, 16, 1, 2, 2)}
    path = comfyui(tmp_path / "t2v.safetensors", pairs, **first_layer)
    before = effective_weights(image)
    (fitted,) = adapters_of(image).put([Wanted(open_adapter(path), 1.0)])
    assert_changed(image, before, {pair.module: pair.delta for pair in pairs})
    (remark,) = fitted.remarks
    assert (
        "1 are left out, because this base has 36 input channels: 'diffusion_model.patch_embedding.diff'"
        in remark
    )


def test_an_adapter_of_another_size_names_the_tensor_and_both_shapes(tmp_path):
    small, large = (
        tiny.tiny_transformer("t2v"),
        tiny.tiny_transformer("t2v", num_attention_heads=3, num_layers=3),
    )
    path = comfyui(tmp_path / "a.safetensors", random_pairs(large, ["attn1.to_q"]))
    with pytest.raises(AdapterError, match=r"blocks.0.self_attn.q.lora_down.weight' .* is \[\d, 36\]") as it:
        adapters_of(small).put([Wanted(open_adapter(path), 1.0)])
    assert "this base needs [" in str(it.value) and ", 24]" in str(it.value)
    deep = comfyui(
        tmp_path / "b.safetensors", random_pairs(tiny.tiny_transformer("t2v", num_layers=3), ["blocks.2."])
    )
    with pytest.raises(AdapterError, match=r"blocks.2.* which has no place in this base"):
        adapters_of(small).put([Wanted(open_adapter(deep), 1.0)])


def test_a_file_that_fails_half_way_leaves_the_base_as_it_was(tmp_path):
    transformer = tiny.tiny_transformer("t2v")
    stored, pairs = state(transformer), random_pairs(transformer, ["attn1"])
    pairs[-1].up[0, 0] = float("nan")
    bias = {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24)}
    file = open_adapter(comfyui(tmp_path / "a.safetensors", pairs, **bias))
    with pytest.raises(AdapterError, match="not finite"):
        adapters_of(transformer).put([Wanted(file, 1.0)])
    again = state(transformer)
    assert again.keys() == stored.keys() and all(torch.equal(again[key], stored[key]) for key in stored)


def test_a_half_precision_base_comes_back_bit_for_bit_after_many_changes(tmp_path):
    transformer = tiny.tiny_transformer("t2v").to(torch.bfloat16)
    stored = state(transformer)
    bias = {"diffusion_model.blocks.0.norm3.diff": torch.full((24,), 0.3)}
    adapters = adapters_of(transformer)
    drawn = [random_pairs(transformer, ["ffn"], seed=seed) for seed in range(3)]
    for seed, pairs in enumerate(drawn):
        path = comfyui(tmp_path / f"{seed}.safetensors", pairs, **bias)
        adapters.put([Wanted(open_adapter(path), 0.7)])
    adapters.remove()
    assert all(torch.equal(value, stored[key]) for key, value in state(transformer).items())


def test_a_file_of_the_library_gives_what_the_library_gives(folders, tmp_path):
    """Where diffusers reads a dialect, it is the other opinion."""
    base, other = load_base(folders["i2v"]), load_base(folders["i2v"])
    pairs = random_pairs(base.transformer, ["blocks."])
    path = comfyui(tmp_path / "a.safetensors", pairs)
    adapters_of(base.transformer).put([Wanted(open_adapter(path), 0.7)])
    tensors = WanPipeline.lora_state_dict(str(path))
    other.transformer.load_lora_adapter(tensors, prefix="transformer", adapter_name="theirs")
    other.transformer.set_adapters("theirs", 0.7)
    theirs = effective_weights(other.transformer)
    for key, value in effective_weights(base.transformer).items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-4, atol=2e-6)


def test_an_adapter_tuned_on_another_base_is_refused_for_either_transformer(folders, tmp_path):
    base = load_base(folders["wan22"])
    add_lora(base.transformer_2, rank=2)
    path = save_adapter(tmp_path, base.transformer_2)
    remove_lora(base.transformer_2)
    adapters = adapters_of(base.transformer, base.transformer_2)
    with pytest.raises(AdapterError, match="was tuned on base"):
        adapters.put([Wanted(open_adapter(path), 1.0, "high")])
    assert len(adapters.put([Wanted(open_adapter(path), 1.0, "low")])) == 1


def test_an_adapter_of_another_maker_can_be_trained_further_and_saved(folders, tmp_path):
    base = load_base(folders["inpaint"])
    pairs = random_pairs(base.transformer, ["attn1", "ffn"])
    load_adapter(base.transformer, comfyui(tmp_path / "a.safetensors", pairs))
    before = effective_weights(base.transformer)
    path = save_adapter(tmp_path / "ours", base.transformer)
    assert path.name == FILE_NAME
    again = load_base(folders["inpaint"])
    load_adapter(again.transformer, path)
    for key, value in effective_weights(again.transformer).items():
        torch.testing.assert_close(value, before[key], rtol=1e-5, atol=1e-6)
    stock = load_base(folders["inpaint"])
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=None,
        transformer=stock.transformer,
    )
    pipeline.load_lora_weights(str(tmp_path / "ours"))
    for key, value in effective_weights(stock.transformer).items():
        torch.testing.assert_close(value, before[key], rtol=1e-5, atol=1e-6)


def test_differences_cannot_be_trained_further(folders, tmp_path):
    base = load_base(folders["inpaint"])
    path = write(tmp_path / "a.safetensors", {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24)})
    with pytest.raises(AdapterError, match="only LoRA of linear layers can be trained further"):
        load_adapter(base.transformer, path)
    with pytest.raises(ValueError, match="no adapter"):
        set_weights(base.transformer, {})


def test_merged_adapters_are_the_sum_rounded_once_and_come_off_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    transformer = tiny.tiny_transformer("inpaint").to(torch.bfloat16)
    stored = state(transformer)
    first = random_pairs(transformer, ["attn1", "ffn"], seed=1)
    second = random_pairs(transformer, ["attn1.to_q", "attn2"], seed=2)
    bias = {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(24)}
    files = [
        open_adapter(comfyui(tmp_path / "first.safetensors", first, **bias)),
        open_adapter(comfyui(tmp_path / "second.safetensors", second)),
    ]
    adapters = AppliedAdapters({"transformer": transformer}, merge=True)
    for _ in range(3):  # nothing is left of the adapters before
        adapters.put([Wanted(files[1], 2.0)])
        adapters.put([Wanted(files[0], 0.5), Wanted(files[1], -1.5)])
        sums = {pair.module: 0.5 * pair.delta for pair in first}
        for pair in second:
            sums[pair.module] = sums.get(pair.module, 0.0) - 1.5 * pair.delta
        merged = state(transformer)
        assert merged.keys() == stored.keys(), "no layer of peft is left"
        for key, value in stored.items():
            total = value.float() + sums.get(key.removesuffix(".weight"), torch.zeros(()))
            if key == "blocks.0.attn1.to_q.bias":
                total = total + 0.5
            # one rounding of bfloat16, and a last bit of the float32 sum
            torch.testing.assert_close(merged[key].float(), total, rtol=2**-8, atol=1e-6)
        adapters.remove()
        again = state(transformer)
        assert all(torch.equal(again[key], stored[key]) for key in stored)


def test_merged_adapters_predict_what_layers_of_peft_do(tmp_path):
    torch.manual_seed(0)
    transformer = tiny.tiny_transformer("inpaint").double()
    pairs = random_pairs(transformer, ["attn1", "attn2", "ffn"], seed=3)
    file = open_adapter(comfyui(tmp_path / "a.safetensors", pairs))
    given = (torch.randn(1, 36, 2, 4, 4).double(), torch.tensor([300.0]).double())
    text = torch.randn(1, 16, transformer.config.text_dim).double()
    found = {}
    for merge in (False, True):
        adapters = AppliedAdapters({"transformer": transformer}, merge=merge)
        adapters.put([Wanted(file, 0.7)])
        with torch.no_grad():
            found[merge] = transformer(*given, text).sample
        adapters.remove()
    with torch.no_grad():
        bare = transformer(*given, text).sample
    difference = float((found[True] - found[False]).norm())
    assert difference < 1e-5 * float((found[False] - bare).norm())
