"""A directory of Wan2.1-Fun-InP's shape with random weights, as `fill.base` reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKLWan
from transformers import UMT5Config, UMT5EncoderModel

from bench.real_size import wan_transformer

EMBEDDED = Path(__file__).parents[2] / "weights/base"
Size = Literal["1.3B", "14B", "tiny"]


def write_base(folder: Path, size: Size, device: str = "cpu") -> None:
    """Write the directory, unless it is there; the text encoder has two layers of UMT5-XXL's width.

    Of the embedded base it has the tokenizer and the scheduler. It appears under its name when it is whole.
    """
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(EMBEDDED / name, part / name)
    shutil.copy(EMBEDDED / "model_index.json", part)
    _lengthen_prompts(part / "tokenizer/tokenizer_config.json")
    torch.manual_seed(0)
    with torch.device(device):
        transformer = wan_transformer(size)
        vae = AutoencoderKLWan() if size != "tiny" else AutoencoderKLWan(base_dim=8, num_res_blocks=1)
        encoder = UMT5EncoderModel(_encoder_config())
    for model, name in ((transformer, "transformer"), (vae, "vae"), (encoder, "text_encoder")):
        model.to(torch.bfloat16).save_pretrained(part / name)
    part.rename(folder)


def _encoder_config() -> UMT5Config:
    embedded = json.loads((EMBEDDED / "text_encoder/config.json").read_text())
    return UMT5Config(
        vocab_size=embedded["vocab_size"], d_model=4096, d_kv=64, d_ff=1024, num_layers=2, num_heads=8
    )


def _lengthen_prompts(path: Path) -> None:
    config = json.loads(path.read_text())
    config["model_max_length"] = 512
    path.write_text(json.dumps(config))
