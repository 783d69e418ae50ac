"""Processors of captioners: text and pictures in, a model's tensors out.

The published processors of Qwen-VL and SmolVLM want a video processor besides, which needs torchvision; the
clip's frames are given as pictures, so that part is left out. SmolVLM's prompt for pictures is Idefics3's.
"""

from __future__ import annotations

from typing import Any

from transformers.models.auto.processing_auto import AutoProcessor
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.processing_utils import ProcessorMixin


class _OfPictures:
    """Sets up a Qwen-VL processor without its video processor."""

    def _begin(self, image_processor: Any, tokenizer: Any, chat_template: str | None) -> None:
        for name, token in (
            ("image_token", "<|image_pad|>"),
            ("video_token", "<|video_pad|>"),
            ("vision_start_token", "<|vision_start|>"),
            ("vision_end_token", "<|vision_end|>"),
        ):
            setattr(self, name, token)
            setattr(self, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class Qwen2Pictures(_OfPictures, Qwen2VLProcessor):
    """Qwen2-VL's processor for pictures alone."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self._begin(image_processor, tokenizer, chat_template)


class Qwen25Pictures(_OfPictures, Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor for pictures alone."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self._begin(image_processor, tokenizer, chat_template)


class Qwen3Pictures(_OfPictures, Qwen3VLProcessor):
    """Qwen3-VL's processor for pictures alone."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self._begin(image_processor, tokenizer, chat_template)


_PROCESSORS: dict[str, Any] = {
    "qwen2_vl": Qwen2Pictures,
    "qwen2_5_vl": Qwen25Pictures,
    "qwen3_vl": Qwen3Pictures,
    "qwen3_vl_moe": Qwen3Pictures,
    "smolvlm": Idefics3Processor,
}


def open_processor(model_dir: str, model_type: str) -> Any:
    """Return the processor of a captioner's directory; raises what transformers raises if there is none."""
    opener = _PROCESSORS.get(model_type, AutoProcessor)
    return opener.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
