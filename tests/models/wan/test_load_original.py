"""Bases as their authors publish them: folders in Wan's original layout, ComfyUI's files, scaled float8."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import original_layout as original
from support import tiny_base as tiny

from recapture.models.wan.load import load_base, load_sources
from recapture.models.wan.sources import Named, find_sources
from recapture.models.wan.tensor_files import CheckpointError


def same(found, expected):
    """Compare the parameters of two models, bit for bit."""
    found, expected = dict(found.named_parameters()), dict(expected.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def transformer(seed=5, **changes):
    torch.manual_seed(seed)
    return tiny.tiny_transformer("inpaint", **changes)


@pytest.fixture(scope="module")
def fun(tmp_path_factory):
    return original.write_fun_folder(tmp_path_factory.mktemp("published") / "Wan2.1-Fun-V1.1-1.3B-InP")


@pytest.fixture(scope="module")
def fun22(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "Wan2.2-Fun-A14B-InP"
    return original.write_fun_folder(folder, noise_levels=True, image=False)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A diffusers directory with a transformer that nobody asks for."""
    folder = tiny.write_tiny_base(tmp_path_factory.mktemp("parts") / "i2v", "inpaint", image=True, seed=9)
    original.clip_vision().save_pretrained(folder / "image_encoder")
    return folder


IMAGE = {"image_dim": 80, "added_kv_proj_dim": 24}


def test_a_folder_in_original_layout_is_the_base_although_the_parts_have_a_transformer(fun, parts):
    base = load_base(fun, parts=parts)
    same(base.transformer, transformer(**IMAGE))
    assert base.layout == "inpaint" and base.transformer.config.num_attention_heads == 2
    same(base.vae, load_base(parts).vae)


def test_a_diffusers_directory_is_the_base_although_the_parts_have_a_transformer(folders, bases, parts):
    base = load_base(folders["inpaint"], parts=parts)
    same(base.transformer, bases["inpaint"].transformer)
    same(base.vae, load_base(parts).vae)


def test_a_folder_of_garbage_is_never_replaced_by_the_parts(fun, parts, tmp_path):
    folder = shutil.copytree(fun, tmp_path / "fun")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"fun/diffusion_pytorch_model\.safetensors is no safetensors"):
        load_base(folder, parts=parts)


def test_the_original_layout_alone_names_its_pickles_and_the_way_out(fun):
    with pytest.raises(CheckpointError) as error:
        load_base(fun)
    for name in ("Wan2.1_VAE.pth", f"{original.T5}.pth", f"{original.CLIP}.pth"):
        assert name in str(error.value)
    assert "recapture models convert" in str(error.value) and "fill.base_parts" in str(error.value)


def test_every_part_of_the_original_layout_is_the_model_that_was_published(fun):
    base = load_sources(find_sources(Named.of(fun), pickles=True), dtype=None, vae_dtype=None)
    same(base.vae, original.wan_vae())
    same(base.text_encoder, original.umt5())
    same(base.image_encoder, original.clip_vision())
    assert base.tokenizer("the red box").input_ids == tiny.tiny_tokenizer()("the red box").input_ids


def test_clip_gets_its_query_key_and_value_from_the_thirds_of_one_tensor(fun):
    state = torch.load(fun / f"{original.CLIP}.pth", weights_only=True)
    encoder = load_sources(
        find_sources(Named.of(fun), pickles=True), dtype=None, vae_dtype=None
    ).image_encoder
    attention = encoder.encoder.layers[1].self_attn
    for number, part in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
        rows = slice(80 * number, 80 * (number + 1))
        assert torch.equal(part.weight, state["visual.transformer.1.attn.to_qkv.weight"][rows])
        assert torch.equal(part.bias, state["visual.transformer.1.attn.to_qkv.bias"][rows])
    assert torch.equal(encoder.embeddings.class_embedding, state["visual.cls_embedding"][0, 0])


def test_the_gate_of_wans_t5_is_the_activated_half(fun):
    state = torch.load(fun / f"{original.T5}.pth", weights_only=True)
    encoder = load_sources(find_sources(Named.of(fun), pickles=True), dtype=None, vae_dtype=None).text_encoder
    feed = encoder.encoder.block[1].layer[1].DenseReluDense
    assert torch.equal(feed.wi_0.weight, state["blocks.1.ffn.gate.0.weight"])
    assert torch.equal(feed.wi_1.weight, state["blocks.1.ffn.fc1.weight"])
    bias = encoder.encoder.block[1].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(bias, state["blocks.1.pos_embedding.embedding.weight"])


def test_wan22_folders_load_both_noise_levels_with_the_published_boundary(fun22, parts):
    base = load_base(fun22, parts=parts)
    same(base.transformer, transformer(5))
    same(base.transformer_2, transformer(6))
    assert base.boundary_ratio == 0.9 and base.image_encoder is None


def test_wan22_vace_folders_take_the_boundary_of_text_to_video(parts, tmp_path):
    folder = original.write_fun_folder(tmp_path / "vace", noise_levels=True, image=False, layout="vace")
    config = json.dumps(original.ORIGINAL_CONFIG | {"vace_layers": [0]})
    for level in ("high_noise_model", "low_noise_model"):
        (folder / level / "config.json").write_text(config)
    base = load_base(folder, parts=parts)
    assert base.layout == "vace" and base.boundary_ratio == 0.875


def test_half_a_wan22_folder_is_refused(fun22, parts, tmp_path):
    folder = shutil.copytree(fun22, tmp_path / "half")
    shutil.rmtree(folder / "low_noise_model")
    with pytest.raises(CheckpointError, match="has no low_noise_model"):
        load_base(folder, parts=parts)


def test_two_files_are_two_transformers(fun22, parts):
    files = [
        fun22 / level / "diffusion_pytorch_model.safetensors"
        for level in ("high_noise_model", "low_noise_model")
    ]
    shapes = [load_file(path)["head.head.weight"] for path in files]
    base = load_base(Named.of(fun22 / "high_noise_model", base_2=fun22 / "low_noise_model", parts=parts))
    assert torch.equal(base.transformer.proj_out.weight, shapes[0])
    assert torch.equal(base.transformer_2.proj_out.weight, shapes[1])
    assert base.boundary_ratio == 0.9
    with pytest.raises(CheckpointError, match="two transformers already"):
        load_base(Named.of(fun22, base_2=fun22 / "low_noise_model", parts=parts))


def comfy(tmp_path, change=lambda state: state):
    """The published files of ComfyUI: a transformer, a VAE, a text encoder with its tokenizer, CLIP."""
    model = transformer(**tiny.ONE_HEAD, image_dim=80, added_kv_proj_dim=128)
    path = tiny.write_single_file(tmp_path / "t.safetensors", model, "model.diffusion_model.")
    state = change(load_file(path))
    clip = {f"vision_model.{key}": value for key, value in original.clip_vision().state_dict().items()}
    clip |= {
        "visual_projection.weight": torch.zeros(8, 80),
        "vision_model.embeddings.position_ids": torch.arange(5),
    }
    text = {key: value for key, value in original.umt5().state_dict().items() if "embed_tokens" not in key}
    named = Named(
        base=original.write(tmp_path / "wan2.1_fun_inp_1.3B.safetensors", state),
        vae=original.write(tmp_path / "wan_2.1_vae.safetensors", original.vae_names(original.wan_vae())),
        text_encoder=original.write(tmp_path / "umt5_xxl.safetensors", change(original.copied(text))),
        image_encoder=original.write(tmp_path / "clip_vision_h.safetensors", original.copied(clip)),
        tokenizer=tmp_path / "tokenizer",
    )
    tiny.tiny_tokenizer(512).save_pretrained(tmp_path / "tokenizer")
    return named, model


def test_comfyui_files_make_a_base_without_any_folder(tmp_path):
    named, model = comfy(tmp_path)
    base = load_base(named)
    same(base.transformer, model)
    same(base.vae, original.wan_vae())
    same(base.text_encoder, original.umt5())
    same(base.image_encoder, original.clip_vision())
    assert base.vae.config.latents_mean[0] == -0.7571  # of the published VAE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_stored_precisions_come_back_as_their_values(tmp_path, dtype):
    def cast(state):
        return {key: value.to(dtype) if value.ndim > 1 else value for key, value in state.items()}

    named, model = comfy(tmp_path, cast)
    base = load_base(named)
    for found, expected in ((base.transformer, model), (base.text_encoder, original.umt5())):
        for (name, value), wanted in zip(found.named_parameters(), expected.parameters(), strict=True):
            rounded = wanted.to(dtype).float() if wanted.ndim > 1 else wanted
            assert torch.equal(value, rounded), name


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_scaled_float8_is_multiplied_by_its_scale(tmp_path, name, per_row, kind):
    """Without the scale every matrix would be too large by about a thousand, and the video white."""
    named, model = comfy(tmp_path, lambda state: original.scaled(state, kind, name, per_row))
    base = load_base(named)
    stored = load_file(named.base)
    key = "model.diffusion_model.blocks.1.self_attn.q."
    scale = stored[key + name].float().reshape(-1, 1)
    assert torch.equal(base.transformer.blocks[1].attn1.to_q.weight, stored[key + "weight"].float() * scale)
    step = 2.0 ** (-3 if kind == torch.float8_e4m3fn else -2)  # the largest relative distance of two values
    for found, expected in ((base.transformer, model), (base.text_encoder, original.umt5())):
        for (where, value), wanted in zip(found.named_parameters(), expected.parameters(), strict=True):
            assert torch.allclose(value, wanted, rtol=step, atol=float(wanted.abs().max()) * 1e-3), where


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("model.diffusion_model.blocks.0.ffn.0.scale_weight"), "without its scale"),
        (lambda state: state.pop("model.diffusion_model.blocks.0.ffn.0.weight"), "which is missing"),
        (lambda state: state.update({"blocks.0.ffn.0.weight_scale_inv": torch.ones(1, 1)}), "is not read"),
        (
            lambda state: state.update({"model.diffusion_model.blocks.0.ffn.0.scale_weight": torch.ones(3)}),
            "does not fit",
        ),
    ],
)
def test_scaled_float8_without_what_belongs_to_it_is_refused(tmp_path, change, says):
    named, _ = comfy(tmp_path, original.scaled)
    state = load_file(named.base)
    change(state)
    save_file(state, named.base)
    with pytest.raises(CheckpointError, match=says):
        load_base(named)


def test_weights_quantised_to_integers_are_refused(tmp_path):
    named, _ = comfy(tmp_path)
    state = load_file(named.base)
    key = "model.diffusion_model.blocks.0.ffn.0.weight"
    save_file(state | {key: torch.zeros(state[key].shape, dtype=torch.int8)}, named.base)
    with pytest.raises(
        CheckpointError, match=r"blocks\.0\.ffn\.0\.weight' holds I8 numbers, which are not read"
    ):
        load_base(named)


def test_the_other_vaes_of_the_family_are_refused_by_name(tmp_path):
    named, _ = comfy(tmp_path)
    state = load_file(named.vae) | {"decoder.upsamples.0.upsamples.0.residual.0.gamma": torch.zeros(2)}
    save_file(state, named.vae)
    with pytest.raises(CheckpointError, match=r"VAE of Wan2\.2 5B.*Wan2\.2-TI2V-5B-Diffusers"):
        load_base(named)
    save_file({"decoder.1.weight": torch.zeros(2)}, named.vae)
    with pytest.raises(CheckpointError, match="no VAE of Wan"):
        load_base(named)


def test_a_part_that_no_setting_names_is_asked_for(tmp_path):
    named, _ = comfy(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"without VAE and text encoder .*fill\.vae or fill\.text_encoder"
    ):
        load_base(Named(base=named.base, image_encoder=named.image_encoder))
    with pytest.raises(CheckpointError, match=r"without image encoder .*fill\.image_encoder"):
        load_base(
            Named(named.base, vae=named.vae, text_encoder=named.text_encoder, tokenizer=named.tokenizer)
        )
    with pytest.raises(CheckpointError, match=r"without tokenizer .*fill\.tokenizer"):
        load_base(
            Named(
                named.base, vae=named.vae, text_encoder=named.text_encoder, image_encoder=named.image_encoder
            )
        )


def test_a_pickle_named_for_a_part_is_refused(fun, tmp_path):
    named, _ = comfy(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"fill\.vae: .*Wan2\.1_VAE\.pth is no \.safetensors file; convert the folder"
    ):
        load_base(Named(named.base, vae=fun / "Wan2.1_VAE.pth"))
