"""Files that a download has left behind, and the names that folders come with."""

import json
import shutil

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file
from support import tiny_base as tiny

from recapture.models.wan.load import load_base
from recapture.models.wan.tensor_files import CheckpointError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 3128837472\n"
STEM = "diffusion_pytorch_model"


@pytest.fixture()
def base(folders, tmp_path):
    return shutil.copytree(folders["inpaint"], tmp_path / "base")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LFS, "is a Git LFS pointer and not the file itself; run `git lfs pull`"),
        (b"<!DOCTYPE html><html><head><title>401", "is a web page that was saved in place of the file"),
        (b"", "is empty; download it again"),
        (b"GGUF" + bytes(60), "is a GGUF file"),
        (b"PK\x03\x04" + bytes(60), "is a pickle, which is never opened"),
        (bytes(64), "is no safetensors file"),
    ],
)
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_what_is_no_weight_file_is_named_for_what_it_is(base, part, content, says):
    (path,) = (base / part).glob("*.safetensors")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{part}/{path.stem}\.safetensors {says}") as error:
        load_base(base)
    assert "\n" not in str(error.value)


def test_a_file_cut_short_says_how_much_is_there(base):
    path = base / "vae" / f"{STEM}.safetensors"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"is cut short \({whole - 100:,} of {whole:,} bytes\)"):
        load_base(base)


@pytest.mark.parametrize("name", ["model_index.json", "transformer/config.json"])
def test_a_pointer_in_place_of_a_configuration_is_named(base, name):
    (base / name).write_bytes(LFS)
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer"):
        load_base(base)


def test_an_unfinished_download_is_named(base):
    cache = base / ".cache/huggingface/download/transformer"
    cache.mkdir(parents=True)
    (base / "transformer" / f"{STEM}.safetensors").rename(cache / "abc.incomplete")
    (base / "transformer/.cache").mkdir()
    (base / "transformer/.cache/x.incomplete").write_bytes(b"")
    with pytest.raises(CheckpointError, match="download is unfinished"):
        load_base(base)


def test_snapshots_of_the_hugging_face_cache_load_through_their_links(base, bases, tmp_path):
    root = tmp_path / "models--org--name"
    snapshot, blobs = root / "snapshots" / "0123abc", root / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in sorted(base.rglob("*")) if path.is_file()):
        link = snapshot / path.relative_to(base)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        link.symlink_to(blobs / str(number))
    found = load_base(snapshot).transformer.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in bases["inpaint"].transformer.state_dict().items())
    with pytest.raises(CheckpointError, match=r"Hugging Face cache; name .*snapshots/0123abc"):
        load_base(root)
    link = snapshot / "transformer" / f"{STEM}.safetensors"
    link.resolve().unlink()
    with pytest.raises(CheckpointError, match=r"is a link to .*blobs/\d+, which does not exist"):
        load_base(snapshot)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_under_the_name_of_their_only_variant_are_found(base, bases, part):
    (path,) = (base / part).glob("*.safetensors")
    path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    found = getattr(load_base(base), part).state_dict()
    assert all(torch.equal(v, found[k]) for k, v in getattr(bases["inpaint"], part).state_dict().items())
    shutil.copy(
        path.with_name(f"{path.stem}.fp16.safetensors"), path.with_name(f"{path.stem}.bf16.safetensors")
    )
    with pytest.raises(CheckpointError, match=r"several variants \(bf16, fp16\)"):
        load_base(base)


@pytest.mark.parametrize(("variant", "index"), [(None, True), (None, False), ("fp16", True)])
def test_shards_load_with_variant_and_without_index(base, bases, variant, index):
    model = WanTransformer3DModel.from_pretrained(base / "transformer")
    shutil.rmtree(base / "transformer")
    model.save_pretrained(base / "transformer", max_shard_size="40KB", variant=variant)
    if not index:
        (base / "transformer" / f"{STEM}.safetensors.index.json").unlink()
    found = load_base(base).transformer.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in bases["inpaint"].transformer.state_dict().items())
    shards = sorted((base / "transformer").glob("*.safetensors"))
    shards[-1].unlink()
    with pytest.raises(
        CheckpointError, match=rf"lacks 1 of {len(shards)} shards, the first is {shards[-1].name}"
    ):
        load_base(base)


def test_an_image_branch_that_has_no_weights_is_left_out_with_a_note(base, bases, caplog):
    """As in an early mirror of Wan2.2 TI2V-5B."""
    path = base / "transformer/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_dim": 1280, "added_kv_proj_dim": 24}))
    found = load_base(base)
    assert found.transformer.config.image_dim is None and found.image_encoder is None
    assert "image_dim 1280 has no tensors and is left out" in caplog.text
    assert all(
        torch.equal(v, found.transformer.state_dict()[k])
        for k, v in bases["inpaint"].transformer.state_dict().items()
    )


def test_half_an_image_branch_is_named(folders, tmp_path):
    folder = shutil.copytree(folders["i2v"], tmp_path / "base")
    key = "condition_embedder.image_embedder.norm1.weight"
    tiny.edit_weights(folder / "transformer", lambda tensors: tensors.pop(key))
    with pytest.raises(CheckpointError, match=f"'{key}' is missing"):
        load_base(folder)


def test_an_image_branch_without_image_encoder_is_refused_and_not_fed_zeros(folders, tmp_path):
    folder = shutil.copytree(folders["i2v"], tmp_path / "base")
    shutil.rmtree(folder / "image_encoder")
    with pytest.raises(CheckpointError, match=r"without image encoder .*fill\.image_encoder"):
        load_base(folder)


def test_an_image_encoder_without_its_processor_is_named(folders, tmp_path):
    folder = shutil.copytree(folders["i2v"], tmp_path / "base")
    shutil.rmtree(folder / "image_processor")
    with pytest.raises(CheckpointError, match="image_processor is missing; finish the download"):
        load_base(folder)


def test_a_folder_of_several_models_asks_for_one_of_them(tmp_path):
    folder = tmp_path / "diffusion_models"
    folder.mkdir()
    tiny.write_single_file(folder / "wan2.1_t2v.safetensors", tiny.tiny_transformer("t2v", **tiny.ONE_HEAD))
    with pytest.raises(CheckpointError, match=r"holds wan2\.1_t2v\.safetensors: name a file"):
        load_base(folder)


def test_the_words_of_umt5_alone_are_enough(base, bases):
    def alone(tensors):
        tensors.pop("encoder.embed_tokens.weight", None)

    path = tiny.edit_weights(base / "text_encoder", alone)
    assert "shared.weight" in load_file(path)
    assert torch.equal(
        load_base(base).text_encoder.encoder.embed_tokens.weight, bases["inpaint"].text_encoder.shared.weight
    )
