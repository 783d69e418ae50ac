"""Original layouts written once as diffusers directories: the library opens them, with the same weights."""

import hashlib
import json
import pickle
import zipfile

import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline
from safetensors.torch import load_file
from support import original_layout as original

from recapture.models.wan.convert import convert_base
from recapture.models.wan.load import load_base
from recapture.models.wan.tensor_files import CheckpointError


def converted(folder, target):
    for _ in convert_base(folder, target):
        pass
    return target


def digest(model):
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.float().numpy().tobytes())
    return found.hexdigest()


def test_a_fun_folder_becomes_a_pipeline_that_diffusers_opens(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun")
    target = converted(folder, tmp_path / "out" / "fun")
    pipeline = DiffusionPipeline.from_pretrained(target)
    assert isinstance(pipeline, WanImageToVideoPipeline)
    base = load_base(target)
    for name in ("transformer", "vae", "text_encoder", "image_encoder"):
        assert digest(getattr(pipeline, name)) == digest(getattr(base, name)), name
    assert digest(base.vae) == digest(original.wan_vae())
    assert digest(base.text_encoder) == digest(original.umt5())
    assert digest(base.image_encoder) == digest(original.clip_vision())
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert torch.equal(base.transformer.blocks[1].attn2.to_q.weight, state["blocks.1.cross_attn.q.weight"])
    assert pipeline.tokenizer("red box").input_ids == base.tokenizer("red box").input_ids
    assert (
        base.image_processor.size == {"height": 28, "width": 28} and not base.image_processor.do_center_crop
    )
    assert not list(target.rglob("*.pth")) and not list(target.parent.glob("*.partial"))


def test_wan22_becomes_a_pipeline_of_two_transformers_with_its_boundary(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun", noise_levels=True, image=False)
    target = converted(folder, tmp_path / "out")
    pipeline = DiffusionPipeline.from_pretrained(target)
    assert pipeline.config.boundary_ratio == 0.9 and pipeline.image_encoder is None
    base = load_base(target)
    for level, model in (("high_noise_model", base.transformer), ("low_noise_model", base.transformer_2)):
        state = load_file(folder / level / "diffusion_pytorch_model.safetensors")
        assert torch.equal(model.proj_out.weight, state["head.head.weight"])


def test_stored_precision_is_kept(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun", image=False)
    state = {key: value.bfloat16() for key, value in original.t5_names(original.umt5()).items()}
    torch.save(state, folder / f"{original.T5}.pth")
    target = converted(folder, tmp_path / "out")
    found = load_file(target / "text_encoder" / "model.safetensors")
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    vae = load_file(target / "vae" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in vae.values()} == {torch.float32}


class Bomb:
    def __reduce__(self):
        return (print, ("opened",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    folder = original.write_fun_folder(tmp_path / "fun", image=False)
    path = folder / "Wan2.1_VAE.pth"
    torch.save({"conv1.weight": Bomb()}, path)
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth holds more than tensors"):
        converted(folder, tmp_path / "out")
    path.write_bytes(pickle.dumps({"conv1.weight": Bomb()}))
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth holds more than tensors"):
        converted(folder, tmp_path / "out")
    assert "opened" not in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_a_pickle_cut_short_is_one_sentence(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun", image=False)
    path = folder / f"{original.T5}.pth"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=rf"{original.T5}\.pth .*damaged") as error:
        converted(folder, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_missing_part_is_named_before_anything_is_written(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun", image=False)
    (folder / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(CheckpointError, match="without VAE"):
        converted(folder, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_a_target_that_exists_is_never_touched(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun", image=False)
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        converted(folder, tmp_path / "out")
    target = converted(folder, tmp_path / "new")
    with pytest.raises(CheckpointError, match="diffusers directory already"):
        converted(target, tmp_path / "again")
    assert json.loads((target / "model_index.json").read_text())["_class_name"] == "WanImageToVideoPipeline"


def test_the_tiny_files_are_zips_as_the_published_ones(tmp_path):
    folder = original.write_fun_folder(tmp_path / "fun")
    assert all(zipfile.is_zipfile(path) for path in folder.glob("*.pth"))
