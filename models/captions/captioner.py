"""Captions of clips by a transformers model in a local directory that answers pictures with text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from recapture.models.captions.recognise import KNOWN, read_config

# Model types that are shown several frames of a clip at once; any other sees the middle one.
SEVERAL = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "idefics2", "idefics3"})
PROMPTS = {"florence2": "<DETAILED_CAPTION>", "blip": "", "blip-2": ""}
PROMPT = (
    "These are frames of one video in their order. Describe in one sentence what it shows: the bodies, their "
    "colours, what they do, and the place. Do not mention frames or the camera's make."
)


class Captioner:
    """A captioner of transformers: config.json, safetensors, tokenizer and image processor in one directory.

    model_dir: a local directory; nothing is downloaded, no code of it is run, pickles are refused. The answer
    is the most probable one, token by token. Raises ValueError for what cannot be opened.
    """

    def __init__(
        self, model_dir: str, device: str = "cpu", *, dtype: torch.dtype = torch.float32, tokens: int = 96
    ) -> None:
        self._type = str(read_config(model_dir)["model_type"])
        self._device, self._tokens, self._dtype = device, tokens, dtype
        self._model = _model(model_dir, dtype).to(device)
        self._processor = _processor(model_dir, self._type)

    @property
    def several(self) -> bool:
        """Return whether it is shown several frames of a clip; otherwise one."""
        return self._type in SEVERAL

    @torch.inference_mode()
    def describe(self, frames: Sequence[np.ndarray], prompt: str | None = None) -> str:
        """Return what the model says of frames [H,W,3] uint8, as it says it; None: the family's prompt."""
        pictures = [Image.fromarray(frame) for frame in frames]
        asked = PROMPTS.get(self._type, PROMPT) if prompt is None else prompt
        inputs = self._inputs(pictures, asked).to(self._device, self._dtype)
        begun = inputs.get("input_ids")
        made = self._model.generate(**inputs, max_new_tokens=self._tokens, do_sample=False, num_beams=1)[0]
        if begun is not None and torch.equal(made[: begun.shape[1]], begun[0]):
            made = made[begun.shape[1] :]
        said: str = self._processor.tokenizer.decode(made, skip_special_tokens=True)
        return said.strip().removeprefix(asked).strip() if asked else said.strip()

    def _inputs(self, pictures: Sequence[Image.Image], prompt: str) -> Any:
        processor = self._processor
        if getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None):
            shown: list[dict[str, str]] = [{"type": "image"} for _ in pictures]
            turn = {"role": "user", "content": [*shown, {"type": "text", "text": prompt}]}
            text = processor.apply_chat_template([turn], add_generation_prompt=True)
            return processor(text=[text], images=[list(pictures)], return_tensors="pt")
        given = {"text": prompt} if prompt else {}
        return processor(images=pictures[0], return_tensors="pt", **given)


def _model(model_dir: str, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            model_dir,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise ValueError(_unopened(model_dir, error)) from error
    if lacking := sorted(report["missing_keys"]):
        raise ValueError(
            f"captions: the weights of {model_dir!r} lack {len(lacking)} tensors, {lacking[0]!r} first; "
            "fetch the model again"
        )
    return model.eval()


def _processor(model_dir: str, model_type: str) -> Any:
    from recapture.models.captions.processors import open_processor  # seconds of import

    try:
        return open_processor(model_dir, model_type)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise ValueError(_unopened(model_dir, error)) from error


def _unopened(model_dir: str, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"captions: {model_dir!r} cannot be opened ({reason}); give caption.model a whole directory of "
        f"{KNOWN}: weights as safetensors, tokenizer and preprocessor_config.json"
    )
