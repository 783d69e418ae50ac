"""The transformers parts of a base: text encoder with tokenizer, image encoder with processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recapture.models.wan.checkpoint import Translate, compare, empty_model, fill_model, read_config
from recapture.models.wan.encoder_keys import clip_config, clip_translation, umt5_config, umt5_translation
from recapture.models.wan.layouts import Part
from recapture.models.wan.spiece import tokenizer_in
from recapture.models.wan.tensor_files import CheckpointError, SafetensorFiles, Tensors

OTHER_TOWERS = ("decoder.", "lm_head.", "text_model.", "text_projection.", "logit_scale")


def load_text_encoder(
    part: Part, tokenizer: Path, text_dim: int, dtype: torch.dtype | None, device: str | torch.device = "cpu"
) -> tuple[Any, Any]:
    """Load (UMT5 encoder, tokenizer); dtype None: as stored. Raises CheckpointError for what does not fit."""
    tensors = part.tensors()
    model, translate = empty_text_encoder(part, tensors)
    if model.config.d_model != text_dim:
        raise CheckpointError(
            f"base: {part.where}: tensor 'condition_embedder.text_embedder.linear_1.weight' of the"
            f" transformer takes embeddings of {text_dim}, the text encoder makes {model.config.d_model}"
        )
    found = load_tokenizer(tokenizer)
    if len(found) > model.config.vocab_size:
        raise CheckpointError(
            f"base: {tokenizer}: the tokenizer has {len(found)} tokens, the text encoder's tensor"
            f" 'shared.weight' has {model.config.vocab_size} rows"
        )
    return _filled(model, tensors, translate, dtype, device), found


def load_image_encoder(
    part: Part, processor: Path | None, dtype: torch.dtype | None, device: str | torch.device = "cpu"
) -> tuple[Any, Any]:
    """Load (CLIP vision model, image processor); processor None: the whole frame as the model's square."""
    from transformers import CLIPImageProcessor

    tensors = part.tensors()
    model, translate = empty_image_encoder(part, tensors)
    if processor is None:
        found = CLIPImageProcessor(**whole_frame(model.config.image_size))
    else:
        try:
            found = CLIPImageProcessor.from_pretrained(processor, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"base: {processor} cannot be loaded ({error})") from None
    return _filled(model, tensors, translate, dtype, device), found


def whole_frame(side: int) -> dict[str, Any]:
    """Return the settings of an image processor that shrinks whole frames to a square, as Wan's own code."""
    square = {"height": side, "width": side}
    return {"size": square, "do_center_crop": False, "crop_size": square}


def empty_text_encoder(part: Part, tensors: Tensors) -> tuple[Any, Translate]:
    """Return a UMT5 encoder without weights, whose shapes are those stored, and their translation."""
    from transformers import UMT5Config, UMT5EncoderModel

    translate = umt5_translation(tensors)
    if part.config is None:
        config = umt5_config(tensors, translate)
    else:
        config = _config_of(part, "umt5")
    model = empty_model(lambda: UMT5EncoderModel(UMT5Config.from_dict(config)), part.where)
    return model, translate


def empty_image_encoder(part: Part, tensors: Tensors) -> tuple[Any, Translate]:
    """Return a CLIP vision model without weights, whose shapes are those stored, and their translation."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    translate = clip_translation(tensors)
    config = clip_config(tensors, translate) if part.config is None else _config_of(part, "clip_vision_model")
    return empty_model(lambda: CLIPVisionModel(CLIPVisionConfig.from_dict(config)), part.where), translate


def load_tokenizer(path: Path) -> Any:
    """Load a tokenizer from its folder, or from the text encoder's file that contains it."""
    from transformers import AutoTokenizer

    if path.is_file():
        return tokenizer_in(SafetensorFiles([path]).raw("spiece_model"), path)
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"base: {path} cannot be loaded as a tokenizer ({error})") from None


def check_shapes(model: Any, tensors: Tensors, translate: Translate) -> None:
    """Compare stored shapes with an empty encoder's, by headers alone. Raises CheckpointError."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    compare(expected, tensors, translate, OTHER_TOWERS)


def _filled(
    model: Any, tensors: Tensors, translate: Translate, dtype: torch.dtype | None, device: str | torch.device
) -> Any:
    wanted = None if dtype is None else (lambda name: dtype)
    return fill_model(
        model, tensors, translate=translate, dtype_of=wanted, ignored=OTHER_TOWERS, device=device
    )


def _config_of(part: Part, model_type: str) -> dict[str, Any]:
    assert part.config is not None
    config = read_config(part.config.parent)
    if config.get("model_type") != model_type:
        raise CheckpointError(
            f"base: {part.config.parent} holds a {config.get('model_type')!r}, not a {model_type!r}"
        )
    return config
