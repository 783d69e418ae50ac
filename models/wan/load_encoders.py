"""The transformers parts of a base: text encoder with tokenizer, image encoder with processor."""

from pathlib import Path
from typing import Any

import torch

from recapture.models.wan.checkpoint import CheckpointError, read_config


def load_text_encoder(
    folder: Path, text_dim: int, dtype: torch.dtype, device: str | torch.device
) -> tuple[Any, Any]:
    """Load (UMT5 encoder, tokenizer) of a pipeline directory; (None, None) where it has neither."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    if not (folder / "text_encoder").is_dir() and not (folder / "tokenizer").is_dir():
        return None, None
    encoder = _load(UMT5EncoderModel, folder / "text_encoder", "umt5", dtype).to(device)
    if encoder.config.d_model != text_dim:
        raise CheckpointError(
            f"base: {folder}: tensor 'condition_embedder.text_embedder.linear_1.weight' takes embeddings of"
            f" {text_dim}, the text encoder makes {encoder.config.d_model}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder / "tokenizer", local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"base: {folder / 'tokenizer'} cannot be loaded ({error})") from None
    if len(tokenizer) > encoder.config.vocab_size:
        raise CheckpointError(
            f"base: {folder}: the tokenizer has {len(tokenizer)} tokens, the text encoder's tensor"
            f" 'shared.weight' has {encoder.config.vocab_size} rows"
        )
    return encoder, tokenizer


def load_image_encoder(folder: Path, dtype: torch.dtype, device: str | torch.device) -> tuple[Any, Any]:
    """Load (CLIP vision model, image processor) of a pipeline directory; (None, None) without one."""
    from transformers import CLIPImageProcessor, CLIPVisionModel

    if not (folder / "image_encoder").is_dir():
        return None, None
    encoder = _load(CLIPVisionModel, folder / "image_encoder", "clip_vision_model", dtype).to(device)
    try:
        processor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"base: {folder / 'image_processor'} cannot be loaded ({error})") from None
    return encoder, processor


def _load(model_class: Any, folder: Path, model_type: str, dtype: torch.dtype) -> Any:
    """Load a transformers model from a local directory; every tensor must be there, fit and be finite."""
    from safetensors import SafetensorError

    found = read_config(folder).get("model_type")
    if found != model_type:
        raise CheckpointError(f"base: {folder} holds a {found!r}, not a {model_type!r}")
    try:
        model, report = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"base: {folder} cannot be loaded ({error})") from None
    faults = [f"tensor {key!r} is missing" for key in sorted(report["missing_keys"])]
    faults += [f"tensor {str(key)!r} does not fit the configuration" for key in report["mismatched_keys"]]
    faults += [
        f"tensor {name!r} has values that are not finite"
        for name, value in model.named_parameters()
        if not torch.isfinite(value).all()
    ]
    if faults:
        more = f" (and {len(faults) - 1} more such tensors)" if len(faults) > 1 else ""
        raise CheckpointError(f"base: {folder}: {faults[0]}{more}")
    return model.eval().requires_grad_(False)
