"""`recapture models check` and `convert`: what files are, what is missing, and which settings use them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import original_layout as original
from support import tiny_base as tiny

import recapture.models.wan.tensor_files as tensor_files
from recapture.conf.load import load_config
from recapture.models.wan.load import load_base


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny.write_tiny_base(tmp_path_factory.mktemp("models") / "base", "inpaint")


@pytest.fixture(scope="module")
def fun(tmp_path_factory):
    return original.write_fun_folder(tmp_path_factory.mktemp("models") / "Wan2.1-Fun-V1.1-1.3B-InP")


def settings_of(out):
    """The settings of the line `use: recapture run …`, loaded as a run would load them."""
    (line,) = [line for line in out.splitlines() if line.startswith("use: ")]
    words = line.removeprefix("use: recapture run ").split()
    profile, words = (words[1], words[2:]) if words[0] == "--profile" else (None, words)
    return load_config(profile, arguments=words)


def test_a_base_is_usable_by_the_line_that_is_printed(recapture_command, pipeline):
    done = recapture_command("models", "check", str(pipeline))
    assert done.code == 0, done.out
    assert (
        "a base, one transformer of size 24 wide, inpainting (Fun-InP or I2V); diffusers directory"
        in done.out
    )
    config = settings_of(done.out)
    assert config.fill.base == str(pipeline) and config.fill.steps == 50
    numbers = sum(value.numel() for value in load_base(pipeline).transformer.state_dict().values())
    assert f"transformer: {numbers / 1e6:,.1f} million numbers" in done.out
    assert f"{2 * numbers / 1e6:.1f} MB in bfloat16" in done.out


def test_nothing_but_headers_is_read(recapture_command, pipeline, monkeypatch):
    def read(self, key):
        raise AssertionError(f"{key} was read")

    monkeypatch.setattr(tensor_files.SafetensorFiles, "raw", read)
    assert recapture_command("models", "check", str(pipeline)).code == 0


def test_the_original_layout_is_sent_to_conversion_and_is_a_base_afterwards(recapture_command, fun, tmp_path):
    done = recapture_command("models", "check", str(fun))
    assert done.code == 1 and "use: " not in done.out
    assert "Wan's original layout" in done.out and "with image branch" in done.out
    assert f"recapture models convert {fun} NEW_FOLDER" in done.out
    target = tmp_path / "converted"
    done = recapture_command("models", "convert", str(fun), str(target))
    assert done.code == 0 and f"{target} is ready" in done.out
    assert recapture_command("models", "check", str(target)).code == 0
    assert load_base(target).layout == "inpaint"
    done = recapture_command("models", "convert", str(fun), str(target))
    assert done.code == 2 and "exists already; name a new folder" in done.err


def test_files_of_one_base_are_one_command_line(recapture_command, tmp_path):
    model = tiny.tiny_transformer("inpaint", **tiny.ONE_HEAD)
    tiny.write_single_file(tmp_path / "wan.safetensors", model)
    original.write(tmp_path / "vae.safetensors", original.vae_names(original.wan_vae()))
    original.write(tmp_path / "umt5.safetensors", original.t5_names(original.umt5()))
    clip = original.clip_names(original.clip_vision())
    original.write(tmp_path / "clip.safetensors", clip)
    names = ("wan", "vae", "umt5", "clip")
    done = recapture_command("models", "check", *(str(tmp_path / f"{name}.safetensors") for name in names))
    assert done.code == 0, done.out
    fill = settings_of(done.out).fill
    found = [fill.base, fill.vae, fill.text_encoder, fill.image_encoder]
    assert found == [str(tmp_path / f"{name}.safetensors") for name in names]
    assert "it needs VAE, text encoder and tokenizer" in done.out
    assert "its tokenizer: name its folder in fill.tokenizer" in done.out


def test_two_transformers_are_the_two_of_wan22(recapture_command, tmp_path):
    for level in ("high", "low"):
        tiny.write_single_file(
            tmp_path / f"{level}.safetensors", tiny.tiny_transformer("t2v", **tiny.ONE_HEAD)
        )
    done = recapture_command(
        "models", "check", str(tmp_path / "high.safetensors"), str(tmp_path / "low.safetensors")
    )
    fill = settings_of(done.out).fill
    assert (fill.base, fill.base_2) == (str(tmp_path / "high.safetensors"), str(tmp_path / "low.safetensors"))
    assert fill.method == "inverse"  # a text-to-video base has no mask


def test_an_adapter_says_its_keys_rank_modules_and_base(recapture_command, tmp_path):
    key = "lora_unet__blocks_{}_self_attn_{}."
    state = {}
    for block in (0, 1):
        for one in "qk":
            name = key.format(block, one)
            state |= {name + "lora_down.weight": torch.zeros(8, 1536), name + "alpha": torch.tensor(4.0)}
            state[name + "lora_up.weight"] = torch.zeros(1536, 8)
    save_file(state, tmp_path / "reward.safetensors")
    done = recapture_command("models", "check", str(tmp_path / "reward.safetensors"))
    assert done.code == 0, done.out
    for words in ("a LoRA adapter", "lora_unet__blocks_0_self_attn_", "rank 8; 4 low-rank", "size 1.3B"):
        assert words in done.out
    assert "modules: attn1.to_k, attn1.to_q" in done.out
    assert settings_of(done.out).fill.adapter == str(tmp_path / "reward.safetensors")


def test_a_depth_model_is_named_with_its_setting(recapture_command):
    from recapture.tasks.engine.model_revision import WEIGHTS

    done = recapture_command("models", "check", str(WEIGHTS / "depth"))
    assert done.code == 0 and "a depth model of kind" in done.out
    assert settings_of(done.out).depth.model == str(WEIGHTS / "depth")


@pytest.mark.parametrize("change", ["missing", "shape", "pointer", "cut", "gone", "empty"])
def test_what_cannot_be_used_is_one_sentence_and_exit_code_1(recapture_command, pipeline, tmp_path, change):
    folder = shutil.copytree(pipeline, tmp_path / "base")
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    key = "blocks.0.attn1.to_q.weight"
    if change in ("missing", "shape"):
        state = load_file(path)
        value = state.pop(key)
        save_file(state if change == "missing" else state | {key: value[:1].contiguous()}, path)
        says = f"tensor '{key}' {'is missing' if change == 'missing' else 'has shape'}"
    elif change == "pointer":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        says = "is a Git LFS pointer"
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-9])
        says = "is cut short"
    elif change == "empty":
        folder = tmp_path / "nothing"
        folder.mkdir()
        says = "holds no Wan transformer"
    else:
        folder, says = tmp_path / "nowhere", "does not exist"
    done = recapture_command("models", "check", str(folder))
    assert done.code == 1 and says in done.out and "use: " not in done.out
    assert "Traceback" not in done.out + done.err


def test_one_bad_path_does_not_hide_the_others(recapture_command, pipeline, tmp_path):
    done = recapture_command("models", "check", str(tmp_path / "nowhere"), str(pipeline))
    assert done.code == 1 and "does not exist" in done.out
    assert settings_of(done.out).fill.base == str(pipeline)


def test_the_first_example_of_the_readme_holds_for_the_files_as_they_are_published(
    recapture_command, tmp_path
):
    """Its commands, with /models elsewhere, on a tiny twin of what the download brings."""
    text = (Path(__file__).parents[3] / "README.md").read_text().replace("\\\n", " ")
    (block,) = [part for part in text.split("```") if "models convert" in part]
    downloads = [line.split() for line in block.splitlines() if " download " in line]
    assert [words[2] for words in downloads] == [
        "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP",
        "depth-anything/Depth-Anything-V2-Large-hf",
    ]
    base, depth = (words[-1] for words in downloads)
    (convert,) = [line.split()[1:] for line in block.splitlines() if "models convert" in line]
    (run,) = [line.split() for line in block.splitlines() if "recapture run" in line]
    assert convert[:3] == ["models", "convert", base]
    assert run[run.index("--fill.base") + 1] == convert[3] and run[run.index("--depth.model") + 1] == depth
    assert run[run.index("--profile") + 1] == "wan"
    original.write_fun_folder(tmp_path / Path(base).name)
    moved = [word.replace("/models", str(tmp_path)) for word in convert]
    assert recapture_command(*moved).code == 0
    done = recapture_command("models", "check", moved[-1])
    assert done.code == 0 and f"use: recapture run --profile wan --fill.base {moved[-1]}" in done.out


def test_a_transformer_folder_alone_is_told_what_it_needs(recapture_command, fun, tmp_path):
    folder = tmp_path / "alone"
    folder.mkdir()
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(fun / name, folder / name)
    done = recapture_command("models", "check", str(folder))
    assert done.code == 0 and "image encoder beside it" in done.out
    assert json.loads((folder / "config.json").read_text())["num_heads"] == 2
