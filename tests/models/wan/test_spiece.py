"""The tokenizer that ComfyUI keeps within a text encoder's file."""

import pytest
import torch
from safetensors.torch import load_file
from support import original_layout as original
from support import tiny_base as tiny
from transformers.convert_slow_tokenizer import import_protobuf

from recapture.models.wan.load import load_base
from recapture.models.wan.sources import Named
from recapture.models.wan.tensor_files import CheckpointError

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁the", "▁red", "▁box", "▁b", "ox", "s"]


def spiece():
    """A SentencePiece model of a few words, as bytes [N]."""
    model = import_protobuf().ModelProto()
    for number, piece in enumerate(PIECES):
        kind = {0: 3, 1: 3, 2: 2}.get(number, 1)  # control, unknown, normal
        model.pieces.add(piece=piece, score=0.0 if number < 3 else -float(number), type=kind)
    model.trainer_spec.model_type = 1
    model.trainer_spec.unk_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = 2, 1, 0
    return torch.frombuffer(bytearray(model.SerializeToString()), dtype=torch.uint8)


@pytest.fixture()
def named(tmp_path, folders):
    text = {k: v for k, v in original.umt5().state_dict().items() if "embed_tokens" not in k}
    return Named(
        base=folders["inpaint"] / "transformer",
        vae=folders["inpaint"] / "vae",
        text_encoder=original.write(
            tmp_path / "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
            original.scaled(original.copied(text)) | {"spiece_model": spiece()},
        ),
    )


def test_the_tokenizer_within_a_text_encoder_cuts_words_as_its_pieces_say(named):
    tokenizer = load_base(named).tokenizer
    assert tokenizer("the red box").input_ids == [4, 5, 6, 1]
    assert tokenizer("the boxs zebra").input_ids[:3] == [4, 6, 9] and 2 in tokenizer("zebra").input_ids
    assert tokenizer("red", padding="max_length", max_length=4).input_ids == [5, 1, 0, 0]
    assert tokenizer.model_max_length == 512


def test_a_tokenizer_that_is_named_takes_precedence(named, tmp_path):
    tiny.tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    found = load_base(
        Named(named.base, vae=named.vae, text_encoder=named.text_encoder, tokenizer=tmp_path / "tokenizer")
    )
    assert found.tokenizer("the red box").input_ids == tiny.tiny_tokenizer()("the red box").input_ids


def test_a_tokenizer_that_is_none_is_refused_with_the_way_out(named):
    state = load_file(named.text_encoder) | {"spiece_model": torch.full((40,), 255, dtype=torch.uint8)}
    original.write(named.text_encoder, state)
    with pytest.raises(
        CheckpointError, match=r"'spiece_model' cannot be read as a tokenizer.*fill\.tokenizer"
    ):
        load_base(named)
