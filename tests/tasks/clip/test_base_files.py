"""The hash of a base: every file that is loaded, nothing else."""

import shutil

import pytest
from support import original_layout as original
from support import tiny_base as tiny

from recapture.conf.errors import UserError
from recapture.conf.fill import FillConfig
from recapture.tasks.clip.base_files import base_revision, base_sources


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "i2v", "inpaint", image=True)


@pytest.fixture()
def base(shipped, tmp_path):
    return shutil.copytree(shipped, tmp_path / "base")


def revision(base, **others):
    return base_revision(FillConfig(base=str(base), **{name: str(path) for name, path in others.items()}))


def touch(path):
    path.write_bytes(path.read_bytes() + b" ")


LOADED = (
    *("transformer/diffusion_pytorch_model.safetensors", "transformer/config.json", "vae/config.json"),
    *(
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
    ),
    *("image_encoder/model.safetensors", "image_processor/preprocessor_config.json"),
)


@pytest.mark.parametrize("file", LOADED)
def test_every_file_that_is_loaded_changes_the_key(base, file):
    before = revision(base)
    touch(base / file) if file.endswith("json") else other_weights(base / file)
    assert revision(base) != before


def other_weights(path):
    tiny.edit_weights(path.parent, lambda tensors: next(iter(tensors.values())).add_(1))


def test_what_is_not_loaded_changes_no_key(base):
    before = revision(base)
    touch(base / "scheduler/scheduler_config.json")
    (base / "README.md").write_text("a card")
    (base / ".cache/huggingface").mkdir(parents=True)
    (base / ".cache/huggingface/x.lock").write_text("")
    shutil.copy(base / "vae/config.json", base / "vae/config.json.orig")
    assert revision(base) == before


def test_a_base_has_one_key_wherever_its_files_are(base, tmp_path):
    moved = shutil.copytree(base, tmp_path / "elsewhere" / "other name")
    shutil.rmtree(moved / "vae")
    elsewhere = revision(moved, vae=base / "vae")
    assert elsewhere == revision(base)


def test_the_transformer_of_the_parts_is_in_no_key(base, tmp_path):
    fun = original.write_fun_folder(tmp_path / "fun", image=False)
    before = revision(fun, base_parts=base)
    other_weights(base / "transformer/diffusion_pytorch_model.safetensors")
    other_weights(base / "image_encoder/model.safetensors")  # of a transformer without image branch
    assert revision(fun, base_parts=base) == before
    other_weights(fun / "diffusion_pytorch_model.safetensors")
    assert revision(fun, base_parts=base) != before


def test_a_base_that_cannot_be_loaded_is_one_sentence_before_anything_is_made(tmp_path):
    fun = original.write_fun_folder(tmp_path / "fun")
    with pytest.raises(
        UserError, match=r"^fill\.base: .*fun is in Wan's original layout.*recapture models convert"
    ):
        base_sources(FillConfig(base=str(fun)))
