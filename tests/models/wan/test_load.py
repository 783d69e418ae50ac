import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from support import tiny_base as tiny

from recapture.models.wan.checkpoint import CheckpointError
from recapture.models.wan.load import load_base
from recapture.models.wan.original_keys import config_from_shapes

LAYOUTS = {"t2v": "t2v", "inpaint": "inpaint", "i2v": "inpaint", "vace": "vace", "wan22": "inpaint"}
FUN_1_3B = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "in_channels": 36}
IMAGE_1_3B = {"image_dim": 1280, "added_kv_proj_dim": 1536}
FULL_SIZE = {
    "T2V-1.3B": FUN_1_3B | {"in_channels": 16},
    "Fun-1.3B-InP": FUN_1_3B | IMAGE_1_3B,
    "T2V-14B": {},
    "I2V-14B": {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
    "Wan2.2-Fun-A14B-InP": {"in_channels": 36},
    "TI2V-5B": {
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "num_layers": 30,
        "in_channels": 48,
        "out_channels": 48,
    },
    "VACE-1.3B": FUN_1_3B | {"in_channels": 16, "vace_layers": list(range(0, 30, 2))},
    "without a norm before text": {"num_layers": 2, "cross_attn_norm": False},
    "VACE-14B": {"vace_layers": list(range(0, 40, 5))},
}


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "base")


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_directory_loads_as_the_library_loads_it(folders, bases, bases_bf16, name, dtype):
    base = (bases if dtype == torch.float32 else bases_bf16)[name]
    assert base.layout == LAYOUTS[name]
    cls = WanVACETransformer3DModel if name == "vace" else WanTransformer3DModel
    for part in ("transformer", "transformer_2")[: 1 + (name == "wan22")]:
        stock = cls.from_pretrained(folders[name] / part, torch_dtype=dtype)
        ours = getattr(base, part)
        for (key, expected), (found_key, found) in zip(
            [*stock.named_parameters(), *stock.named_buffers()],
            [*ours.named_parameters(), *ours.named_buffers()],
        ):
            assert key == found_key and found.dtype == expected.dtype, key
            assert torch.equal(found, expected), key
    vae = AutoencoderKLWan.from_pretrained(folders[name] / "vae")
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), base.vae.parameters()))
    assert not base.transformer.training and not base.vae.training and not base.text_encoder.training
    assert not any(p.requires_grad for p in base.transformer.parameters())


def test_norms_and_time_embedding_stay_in_float32_under_bfloat16(bases_bf16):
    kept, cast = set(), set()
    for name, parameter in bases_bf16["i2v"].transformer.named_parameters():
        (kept if parameter.dtype == torch.float32 else cast).add(name)
    for name in (
        "scale_shift_table",
        "blocks.0.scale_shift_table",
        "blocks.1.norm2.weight",
        "condition_embedder.time_embedder.linear_1.weight",
    ):
        assert name in kept
    for name in (
        "patch_embedding.weight",
        "blocks.0.attn1.to_q.weight",
        "condition_embedder.time_proj.weight",
    ):
        assert name in cast
    assert all(p.dtype == torch.float32 for p in bases_bf16["i2v"].vae.parameters())


def drop(name):
    return lambda tensors: tensors.pop(name)


def reshape(name):
    return lambda tensors: tensors.update({name: tensors[name][..., :-1].contiguous()})


def spoil(name):
    return lambda tensors: tensors[name].view(-1)[-1:].fill_(float("nan"))


def add(name):
    return lambda tensors: tensors.update({name: torch.zeros(2)})


BLOCK = "blocks.1.attn1.to_q.weight"
ENCODER = "encoder.block.1.layer.0.SelfAttention.k.weight"


@pytest.mark.parametrize(
    ("part", "tensor", "change", "says"),
    [
        ("transformer", BLOCK, drop, "missing"),
        ("transformer", BLOCK, reshape, "shape"),
        ("transformer", BLOCK, spoil, "not finite"),
        ("transformer", "ref_conv.weight", add, "no place"),
        ("vae", "encoder.conv_in.weight", drop, "missing"),
        ("vae", "decoder.conv_out.bias", spoil, "not finite"),
        ("text_encoder", ENCODER, drop, "missing"),
        ("text_encoder", ENCODER, reshape, "shape"),
        ("text_encoder", ENCODER, spoil, "not finite"),
    ],
)
def test_a_damaged_tensor_is_named(folders, tmp_path, part, tensor, change, says):
    folder = copy(folders["inpaint"], tmp_path)
    tiny.edit_weights(folder / part, change(tensor))
    with pytest.raises(CheckpointError, match=says) as error:
        load_base(folder)
    assert tensor in str(error.value) and part in str(error.value)
    assert "\n" not in str(error.value)


def test_many_faults_are_one_error_with_their_count(folders, tmp_path):
    folder = copy(folders["inpaint"], tmp_path)
    tiny.edit_weights(
        folder / "transformer", lambda t: [t.pop(k) for k in list(t) if k.startswith("blocks.0")]
    )
    with pytest.raises(CheckpointError, match=r"'blocks\.0\..*and \d\d more"):
        load_base(folder)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_file_cut_short_is_named(folders, tmp_path, part):
    folder = copy(folders["inpaint"], tmp_path)
    (path,) = (folder / part).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=part):
        load_base(folder)


def test_pickles_are_refused(folders, tmp_path):
    folder = copy(folders["inpaint"], tmp_path)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin is a pickle"):
        load_base(folder)


def test_shards_load_like_one_file(folders, tmp_path, bases):
    folder = copy(folders["inpaint"], tmp_path)
    model = WanTransformer3DModel.from_pretrained(folder / "transformer")
    shutil.rmtree(folder / "transformer")
    model.save_pretrained(folder / "transformer", max_shard_size="40KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    sharded = load_base(folder).transformer.state_dict()
    assert all(
        torch.equal(value, sharded[key]) for key, value in bases["inpaint"].transformer.state_dict().items()
    )


@pytest.mark.parametrize(
    ("part", "setting", "value", "says"),
    [
        ("transformer", "in_channels", 48, "patch_embedding.weight"),
        ("transformer", "_class_name", "WanAnimateTransformer3DModel", "WanAnimateTransformer3DModel"),
        ("vae", "scale_factor_spatial", 16, "scale factors 16"),
        ("vae", "latents_mean", [0.0], "latents_mean"),
        ("text_encoder", "model_type", "t5", "'t5'"),
        ("transformer", "num_layers", "two", "makes no model"),
    ],
)
def test_a_configuration_of_another_model_is_refused(folders, tmp_path, part, setting, value, says):
    folder = copy(folders["inpaint"], tmp_path)
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    with pytest.raises(CheckpointError, match=says):
        load_base(folder)


def test_a_layout_that_is_none_is_refused_by_its_tensor(tmp_path):
    folder = tiny.write_tiny_base(tmp_path / "camera", "inpaint", in_channels=40)
    with pytest.raises(CheckpointError, match=r"patch_embedding\.weight' takes 40"):
        load_base(folder)


def test_a_tokenizer_of_another_text_encoder_is_refused(folders, tmp_path):
    folder = copy(folders["inpaint"], tmp_path)
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {f"word{n}": n for n in range(len(content["model"]["vocab"]), 100)}
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"100 tokens.*'shared\.weight' has 21"):
        load_base(folder)


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight"])
def test_word_embeddings_are_found_under_either_name(folders, bases, tmp_path, kept):
    folder = copy(folders["inpaint"], tmp_path)

    def rename(tensors):
        words = [
            tensors.pop(key) for key in ("shared.weight", "encoder.embed_tokens.weight") if key in tensors
        ]
        tensors[kept] = words[0]

    tiny.edit_weights(folder / "text_encoder", rename)
    found = load_base(folder).text_encoder.encoder.embed_tokens.weight
    assert torch.equal(found, bases["inpaint"].text_encoder.shared.weight)


def test_two_transformers_need_a_boundary_and_a_boundary_two_transformers(folders, tmp_path):
    folder = copy(folders["wan22"], tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": None}))
    with pytest.raises(CheckpointError, match="boundary_ratio"):
        load_base(folder)
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(folder / "transformer_2")
    with pytest.raises(CheckpointError, match="transformer_2"):
        load_base(folder)


def test_what_is_missing_is_named(folders, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        load_base(tmp_path / "nowhere")
    folder = copy(folders["inpaint"], tmp_path)
    shutil.rmtree(folder / "vae")
    with pytest.raises(CheckpointError, match="vae"):
        load_base(folder)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("kind", ["inpaint", "i2v", "vace"])
def test_a_single_file_of_original_keys_is_the_same_model(folders, tmp_path, kind, prefix):
    image = {"image_dim": 24, "added_kv_proj_dim": 128} if kind == "i2v" else {}
    layout = "vace" if kind == "vace" else "inpaint"
    torch.manual_seed(5)
    model = tiny.tiny_transformer(layout, **tiny.ONE_HEAD, **image)
    path = tiny.write_single_file(tmp_path / "wan.safetensors", model, prefix)
    base = load_base(path, parts=folders[kind])
    assert base.layout == layout
    loaded = base.transformer.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    for key in ("num_attention_heads", "attention_head_dim", "in_channels", "image_dim", "added_kv_proj_dim"):
        assert getattr(base.transformer.config, key) == getattr(model.config, key)


def test_a_damaged_single_file_names_the_tensor(folders, tmp_path):
    path = tiny.write_single_file(
        tmp_path / "w.safetensors", tiny.tiny_transformer("inpaint", **tiny.ONE_HEAD)
    )
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors["blocks.0.self_attn.o.bias"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"'blocks\.0\.attn1\.to_out\.0\.bias' is missing"):
        load_base(path, parts=folders["inpaint"])
    with pytest.raises(CheckpointError, match="parts"):
        load_base(path)
    save_file({"lora_A.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"patch_embedding\.weight"):
        load_base(path, parts=folders["inpaint"])


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_configuration_of_published_models_follows_from_their_shapes(name):
    cls = WanVACETransformer3DModel if "vace_layers" in FULL_SIZE[name] else WanTransformer3DModel
    with torch.device("meta"):
        model = cls(**FULL_SIZE[name])
    derived = config_from_shapes({key: tuple(value.shape) for key, value in model.state_dict().items()})
    expected = {key: value for key, value in model.config.items() if not key.startswith("_")}
    derived["patch_size"] = tuple(derived["patch_size"])
    assert derived == expected
