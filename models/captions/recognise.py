"""Which captioner a directory holds; one sentence that names the way out if it is none that can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KNOWN = "BLIP, BLIP-2, Florence-2, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, SmolVLM, Idefics2 or Idefics3"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_NATIVE = {  # model type, as directories with code of their own state it -> the same in transformers' layout
    "florence2": "florence-community/Florence-2-base, whose code is a part of transformers",
    "internvl_chat": "the InternVL directories whose names end in -hf",
    "minicpmv": "a directory of MiniCPM-V 4.6 or later in transformers layout",
}


def read_config(model_dir: str) -> dict[str, Any]:
    """Return config.json of a directory that may be a captioner; runs and loads nothing.

    Raises ValueError for what is no transformers model, has code of its own or has pickles alone.
    """
    folder = Path(model_dir)
    file = folder / "config.json"
    if not file.is_file():
        missing = "has no config.json" if folder.is_dir() else "is not a directory"
        raise ValueError(f"captions: {model_dir!r} {missing}; set caption.model to a directory of {KNOWN}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"captions: {file} is no JSON ({error}); fetch the model again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise ValueError(f"captions: {file} names no model_type; set caption.model to one of {KNOWN}")
    if "auto_map" in config:
        native = _NATIVE.get(kind, f"one of {KNOWN} in transformers layout")
        raise ValueError(
            f"captions: {model_dir!r} ({kind}) is laid out for code of its own (auto_map in config.json), "
            f"which is never run; use {native}"
        )
    if kind not in supported_types():
        raise ValueError(
            f"captions: {model_dir!r} has the model type {kind!r}, which does not answer a picture with "
            f"text; set caption.model to one of {KNOWN}"
        )
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"captions: {model_dir!r} holds no safetensors; pickles (.bin) are not read: fetch the model's "
            "safetensors, or convert it once with from_pretrained and save_pretrained of transformers"
        )
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ValueError(
            f"captions: {model_dir!r} holds no tokenizer ({', '.join(_TOKENIZERS)}); fetch all of it"
        )
    return config


def supported_types() -> frozenset[str]:
    """Return the model types that transformers opens as image-text-to-text models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return frozenset(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
