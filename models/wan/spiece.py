"""The SentencePiece model that ComfyUI keeps within its UMT5 files, as a transformers tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from recapture.models.wan.tensor_files import CheckpointError

TOKENS = 512  # of a prompt, as in the configuration that Wan publishes


def tokenizer_in(stored: Tensor, where: Path) -> Any:
    """Return the tokenizer of a SentencePiece model given as bytes, uint8 [N].

    Raises CheckpointError if it is none, or without the package `protobuf` to read it.
    """
    from transformers import T5Tokenizer

    try:
        from transformers.convert_slow_tokenizer import import_protobuf

        model = import_protobuf().ModelProto()
        model.ParseFromString(stored.numpy().tobytes())
    except Exception as error:  # protobuf's errors have no common class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"base: {where}: tensor 'spiece_model' cannot be read as a tokenizer ({reason}); name the folder"
            " of a tokenizer in fill.tokenizer"
        ) from None
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    special = {name: pieces[getattr(model.trainer_spec, f"{name}_id")][0] for name in ("unk", "eos", "pad")}
    return T5Tokenizer(
        vocab=pieces,
        _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap or None,
        extra_ids=0,
        model_max_length=TOKENS,
        unk_token=special["unk"],
        eos_token=special["eos"],
        pad_token=special["pad"],
    )
