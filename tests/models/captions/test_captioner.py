"""Captioners of every family answer, from directories in the published layout, and see the frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_captioners

from recapture.models.captions.captioner import PROMPT, SEVERAL, Captioner
from recapture.models.captions.recognise import read_config

NOISE = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that saves a family once."""
    root, saved = tmp_path_factory.mktemp("captioners"), {}

    def of(family):
        if family not in saved:
            saved[family] = tiny_captioners.save(root / family, family)
        return saved[family]

    return of


@pytest.mark.parametrize("family", tiny_captioners.FAMILIES)
def test_every_family_answers_with_text_and_the_same_frames_give_the_same_answer(family, folders):
    captioner = Captioner(folders(family), tokens=4)
    assert captioner.several == (family in SEVERAL)
    frames = list(NOISE) if captioner.several else [NOISE[0]]
    said = captioner.describe(frames)
    assert isinstance(said, str) and said == captioner.describe(frames)
    assert "<" not in said.replace("<|", "<")  # no special token is left


@pytest.mark.parametrize("family", tiny_captioners.FAMILIES)
def test_what_the_model_is_given_is_every_frame_and_the_prompt(family, folders, monkeypatch):
    captioner = Captioner(folders(family), tokens=1)
    seen = {}

    def generate(**inputs):
        seen.update(inputs)
        return inputs["input_ids"] if "input_ids" in inputs else torch.zeros(1, 1, dtype=torch.long)

    monkeypatch.setattr(captioner._model, "generate", generate)
    frames = list(NOISE) if captioner.several else [NOISE[0]]
    captioner.describe(frames, "What moves?" if family != "florence2" else None)
    pixels = seen["pixel_values"]
    if family.startswith("qwen"):
        assert len(seen["image_grid_thw"]) == len(frames)
        assert int(seen["image_grid_thw"].prod(1).sum()) == len(pixels)
    else:
        assert pixels.shape[-4 if captioner.several else 0] == len(frames)
    text = captioner._processor.tokenizer.decode(seen["input_ids"][0])
    asked = "Describe in detail what is shown in the image." if family == "florence2" else "What moves?"
    assert asked in text


@pytest.mark.parametrize("family", ["blip", "florence2", "qwen2_5_vl", "smolvlm"])
def test_pictures_are_fed_with_the_stated_mean_and_deviation(family, folders, monkeypatch):
    captioner = Captioner(folders(family), tokens=1)
    seen = {}
    nothing = torch.zeros(1, 1, dtype=torch.long)
    monkeypatch.setattr(captioner._model, "generate", lambda **given: seen.update(given) or nothing)
    grey = np.full((64, 64, 3), 200, dtype=np.uint8)
    captioner.describe([grey], None)
    stated = json.loads(Path(folders(family), "preprocessor_config.json").read_text())
    wanted = {round((200 / 255 - m) / s, 2) for m, s in zip(stated["image_mean"], stated["image_std"])}
    found = {round(float(value), 2) for value in seen["pixel_values"].float().unique()}
    assert wanted <= found


def test_the_prompt_is_taken_off_an_answer_that_repeats_it(folders, monkeypatch):
    captioner = Captioner(folders("blip"), tokens=4)
    tokenizer = captioner._processor.tokenizer
    said = torch.tensor([[tokenizer.bos_token_id, *tokenizer("a film of a cat").input_ids]])
    monkeypatch.setattr(captioner._model, "generate", lambda **_: said)
    assert captioner.describe([NOISE[0]], "a film of") == "a cat"


@pytest.mark.full
def test_the_usual_prompt_is_asked_of_models_that_talk(folders, monkeypatch):
    captioner = Captioner(folders("qwen3_vl"), tokens=1)
    seen = {}
    monkeypatch.setattr(
        captioner._model, "generate", lambda **given: seen.update(given) or given["input_ids"]
    )
    assert captioner.describe([NOISE[0]]) == ""
    assert PROMPT in captioner._processor.tokenizer.decode(seen["input_ids"][0])


def written(folder, config):
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "has no config.json; set caption.model to a directory of BLIP"),
        ("{", "is no JSON"),
        ({}, "names no model_type"),
        ({"model_type": "dpt"}, "the model type 'dpt', which does not answer a picture with text"),
        ({"model_type": "blip"}, "holds no safetensors; pickles"),
        (
            {
                "model_type": "florence2",
                "auto_map": {"AutoConfig": "configuration_florence2.Florence2Config"},
            },
            "code of its own .* never run; use florence-community/Florence-2-base",
        ),
        (
            {"model_type": "internvl_chat", "auto_map": {"AutoModel": "modeling.X"}},
            "code of its own .* whose names end in -hf",
        ),
    ],
)
def test_what_is_no_captioner_is_one_error_that_names_the_way_out(config, message, tmp_path):
    if config is None:
        (tmp_path / "model").mkdir()
        folder = str(tmp_path / "model")
    else:
        folder = written(tmp_path / "model", config)
    with pytest.raises(ValueError, match=message):
        read_config(folder)
    with pytest.raises(ValueError, match=message):
        Captioner(folder)


def test_a_directory_that_lacks_weights_or_its_tokenizer_is_refused_by_name(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "blip"
    tiny_captioners.save(folder, "blip")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("q_proj.weight") or "query.weight" in name)
    save_file({key: value for key, value in tensors.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 tensors"):
        Captioner(str(folder))
    save_file(tensors, file, {"format": "pt"})
    (folder / "preprocessor_config.json").rename(tmp_path / "away")
    with pytest.raises(ValueError, match=r"cannot be opened .*; give caption.model a whole directory"):
        Captioner(str(folder))
    (tmp_path / "away").rename(folder / "preprocessor_config.json")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no tokenizer"):
        Captioner(str(folder))
