"""Adapters against the base alone, against merged weights, and against the stock pipelines' loader."""

import json
import pickle

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import tiny_base as tiny

from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME
from recapture.models.wan.adapter_save import save_adapter
from recapture.models.wan.fingerprint import fingerprint
from recapture.models.wan.load import load_base
from recapture.models.wan.lora import (
    adapter_parameters,
    adapter_weights,
    add_lora,
    load_adapter,
    remove_lora,
    set_scale,
    set_weights,
    train_only,
    with_adapter,
)
from recapture.models.wan.schedulers import make_scheduler


def run(transformer, seed=5):
    random = torch.Generator().manual_seed(seed)
    config = transformer.config
    inputs = torch.randn(2, config.in_channels, 3, 4, 6, generator=random)
    text = torch.randn(2, 512 if config.image_dim else 16, config.text_dim, generator=random)
    image = None if config.image_dim is None else torch.randn(2, 257, config.image_dim, generator=random)
    with torch.no_grad():
        output = transformer(inputs.to(transformer.dtype), torch.tensor([300.0, 800.0]), text, image)
    return output.sample


def tuned(folder, *, rank=4, alpha=None, first_block=0, seed=1):
    """A base with an adapter whose weights are all random."""
    base = load_base(folder)
    add_lora(base.transformer, rank=rank, alpha=alpha, first_block=first_block)
    random = torch.Generator().manual_seed(seed)
    drawn = {k: torch.randn(p.shape, generator=random) * 0.3 for k, p in parameters(base).items()}
    set_weights(base.transformer, drawn)
    return base


def parameters(base):
    return adapter_parameters(base.transformer)


def test_a_new_adapter_and_one_of_scale_zero_equal_the_base_bit_for_bit(folders):
    base = load_base(folders["inpaint"])
    plain = run(base.transformer)
    add_lora(base.transformer, rank=4)
    assert torch.equal(run(base.transformer), plain)
    base = tuned(folders["inpaint"])
    assert (run(base.transformer) - plain).abs().max() > 0.1
    set_scale(base.transformer, 0.0)
    assert torch.equal(run(base.transformer), plain)
    remove_lora(base.transformer)
    assert torch.equal(run(base.transformer), plain)


def test_all_attention_and_feed_forward_layers_are_adapted_and_nothing_else_is_trained(folders):
    base = load_base(folders["i2v"])
    add_lora(base.transformer, rank=4)
    layers = {key.split(".lora_")[0] for key in parameters(base)}
    expected = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"}
    expected |= {f"attn2.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")}
    assert layers == {f"blocks.{n}.{part}" for n in range(2) for part in expected}
    trained = {key for key, p in base.transformer.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in key for key in trained)
    assert len(trained) == len(parameters(base)) == len(train_only(base.transformer))


def test_blocks_below_the_first_one_are_left_alone_and_need_no_gradient(folders):
    base = tuned(folders["t2v"], first_block=1)
    assert {key.split(".")[1] for key in parameters(base)} == {"1"}
    needs = []
    for block in base.transformer.blocks:
        block.register_forward_hook(lambda module, given, output: needs.append(output.requires_grad))
    train_only(base.transformer)
    config = base.transformer.config
    inputs, text = torch.randn(1, config.in_channels, 3, 4, 6), torch.randn(1, 16, config.text_dim)
    base.transformer(inputs, torch.tensor([300.0]), text)
    assert needs == [False, True]
    with pytest.raises(ValueError, match="has 2 blocks"):
        add_lora(load_base(folders["t2v"]).transformer, rank=4, first_block=2)


def test_the_start_is_drawn_from_the_seed_alone(folders):
    starts = []
    for seed, disturbance in ((3, 0), (3, 1), (4, 0)):
        base = load_base(folders["inpaint"])
        torch.manual_seed(disturbance)
        add_lora(base.transformer, rank=4, seed=seed)
        starts.append(adapter_weights(base.transformer)["blocks.1.ffn.net.2.lora_A.weight"])
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    assert 0.8 < float(starts[0].abs().max()) * 32**0.5 <= 1  # fan in 32


def test_scale_and_alpha_multiply_the_change_of_a_layer(folders):
    base = tuned(folders["inpaint"], rank=4, alpha=2)
    layer = base.transformer.blocks[0].attn1.to_q
    x = torch.randn(5, 24)
    a, b = (adapter_weights(base.transformer)[f"blocks.0.attn1.to_q.lora_{n}.weight"] for n in "AB")
    for scale in (1.0, 0.7):
        set_scale(base.transformer, scale)
        expected = layer.base_layer(x) + scale * 2.0 / 4 * x @ a.T @ b.T
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_in_use_gives_its_own_weights_and_scale_back(folders):
    base = tuned(folders["inpaint"])
    before, own = run(base.transformer), adapter_weights(base.transformer)
    other = {key: value * 0.5 for key, value in own.items()}
    with with_adapter(base.transformer, 0.7, other):
        inside = run(base.transformer)
    assert torch.equal(run(base.transformer), before)
    set_weights(base.transformer, other)
    set_scale(base.transformer, 0.7)
    assert torch.equal(run(base.transformer), inside)
    set_weights(base.transformer, own)
    with pytest.raises(KeyError), with_adapter(base.transformer, 0.0, other):
        raise KeyError
    set_scale(base.transformer, 1.0)
    assert torch.equal(run(base.transformer), before)


@pytest.mark.parametrize(("kind", "first_block"), [("t2v", 0), ("i2v", 0), ("t2v", 1)])
def test_the_stock_pipeline_loads_the_file_and_makes_the_same_video(folders, tmp_path, kind, first_block):
    base = tuned(folders[kind], rank=4, alpha=6, first_block=first_block)
    save_adapter(tmp_path, base.transformer, notes={"round": "2"})
    videos = []
    for ours in (True, False):
        base = load_base(folders[kind])
        pipeline = stock(base, kind)
        if ours:
            notes = load_adapter(base.transformer, tmp_path, scale=0.7)
            assert notes["round"] == "2"
        else:
            pipeline.load_lora_weights(str(tmp_path), adapter_name="mine")
            pipeline.set_adapters("mine", 0.7)
        videos.append(film(pipeline, base, kind))
    assert torch.allclose(videos[0], videos[1], rtol=0, atol=1e-5)
    plain = film(stock(load_base(folders[kind]), kind), base, kind)
    assert (videos[0] - plain).abs().max() > 1e-3


def stock(base, kind):
    cls = WanImageToVideoPipeline if kind == "i2v" else WanPipeline
    names = ["tokenizer", "text_encoder", "vae", "transformer"]
    names += ["image_encoder", "image_processor"] if kind == "i2v" else []
    pipeline = cls(scheduler=make_scheduler("unipc", 3.0), **{name: getattr(base, name) for name in names})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def film(pipeline, base, kind):
    given = {"image": Image.new("RGB", (48, 32), (200, 30, 90))} if kind == "i2v" else {}
    return pipeline(
        prompt="a red box",
        negative_prompt="slowly",
        height=32,
        width=48,
        num_frames=5,
        num_inference_steps=3,
        guidance_scale=3.0,
        max_sequence_length=base.text_length,
        generator=torch.Generator().manual_seed(2),
        output_type="pt",
        **given,
    ).frames


def test_a_saved_adapter_comes_back_bit_for_bit_and_replaces_one_of_its_name(folders, tmp_path):
    base = tuned(folders["inpaint"])
    output, weights = run(base.transformer), adapter_weights(base.transformer)
    path = save_adapter(tmp_path, base.transformer)
    add_to = tuned(folders["inpaint"], rank=2, seed=9)
    load_adapter(add_to.transformer, path)
    assert torch.equal(run(add_to.transformer), output)
    again = adapter_weights(add_to.transformer)
    assert again.keys() == weights.keys() and all(torch.equal(again[k], weights[k]) for k in weights)
    assert not any(p.requires_grad for p in add_to.transformer.parameters())


def test_the_fingerprint_knows_the_weights_but_not_the_dtype_or_the_adapter(folders, tmp_path):
    base = load_base(folders["inpaint"])
    mark = fingerprint(base.transformer)
    assert mark == fingerprint(load_base(folders["inpaint"], dtype=torch.bfloat16).transformer)
    assert mark == fingerprint(tuned(folders["inpaint"]).transformer)
    assert mark != fingerprint(load_base(tiny.write_tiny_base(tmp_path, seed=1)).transformer)
    with torch.no_grad():
        base.transformer.blocks[1].ffn.net[2].weight[0, 0] += 1
    assert mark != fingerprint(base.transformer)


def test_an_adapter_of_another_base_is_refused(folders, tmp_path):
    path = save_adapter(tmp_path / "a", tuned(folders["inpaint"]).transformer)
    other = load_base(tiny.write_tiny_base(tmp_path / "base", seed=1)).transformer
    with pytest.raises(AdapterError, match=r"was tuned on base .* load that base"):
        load_adapter(other, path)
    wide = load_base(tiny.write_tiny_base(tmp_path / "wide", ffn_dim=48)).transformer
    unnamed = tmp_path / "unnamed.safetensors"
    save_file(load_file(path), unnamed)
    with pytest.raises(AdapterError, match=r"is \[32, 4\], this base needs \[48, 4\]"):
        load_adapter(wide, unnamed)
    load_adapter(other, unnamed)  # without a fingerprint only the shapes count


def test_files_that_are_no_adapters_are_refused_in_one_sentence(folders, tmp_path):
    transformer = load_base(folders["inpaint"]).transformer
    with pytest.raises(AdapterError, match="is missing"):
        load_adapter(transformer, tmp_path)
    pickled = tmp_path / FILE_NAME
    pickled.write_bytes(pickle.dumps({"blocks": 1}))
    with pytest.raises(AdapterError, match="cannot be read as safetensors"):
        load_adapter(transformer, tmp_path)
    key = "transformer.blocks.0.attn1.to_q.lora_A.weight"
    for tensors, fault in (
        ({"blocks.0.attn1.to_q.weight": torch.zeros(24, 24)}, "no LoRA of a Wan transformer"),
        ({key: torch.zeros(4, 24)}, "no counterpart"),
        ({key: torch.full((4, 24), float("nan")), key.replace("A", "B"): torch.zeros(24, 4)}, "not finite"),
    ):
        save_file(tensors, tmp_path / "x.safetensors")
        with pytest.raises(AdapterError, match=fault):
            load_adapter(transformer, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="no adapter 'default'"):
        set_scale(transformer, 1.0)


def test_the_file_says_what_it_was_made_of(folders, tmp_path):
    base = tuned(folders["inpaint"], rank=4, alpha=8)
    path = save_adapter(tmp_path, base.transformer, notes={"steps": "20"})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float32}  # noqa: SIM118
    assert json.loads(metadata["recapture"]) == {"base": fingerprint(base.transformer), "steps": "20"}
    config = json.loads(metadata["lora_adapter_metadata"])
    assert (config["transformer.r"], config["transformer.lora_alpha"]) == (4, 8)


def test_an_adapter_with_the_original_names_is_read_too(folders, tmp_path):
    base = tuned(folders["inpaint"])
    renamed = {}
    for key, value in adapter_weights(base.transformer).items():
        for ours, theirs in (
            ("attn1", "self_attn"),
            ("attn2", "cross_attn"),
            ("to_out.0", "o"),
            ("to_", ""),
            ("ffn.net.0.proj", "ffn.0"),
            ("ffn.net.2", "ffn.2"),
        ):
            key = key.replace(ours, theirs)
        renamed["diffusion_model." + key] = value
    save_file(renamed, tmp_path / FILE_NAME)
    other = load_base(folders["inpaint"])
    assert load_adapter(other.transformer, tmp_path) == {}
    assert torch.equal(run(other.transformer), run(base.transformer))
