"""What a box, points or words mean in every frame, by SAM 2, SAM 3 or EdgeTAM of transformers in a directory.

The published processors need torchvision; what they do to frames and coordinates is done here on tensors
(tests/models/selection/test_sam.py says what that is). Frames are read when a model asks for them, so memory
does not grow with the clip, except by the memories that the models keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recapture.conf.heartbeat import beating
from recapture.models.selection.prompt import Frames, NotFound, Prompt
from recapture.models.selection.recognise import BY_POINTS, BY_WORDS, KNOWN, read_config

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORDS = 32  # tokens of a prompt in words
OBJECT = 1  # the id of the one thing that points and box mean


class SamSelector:
    """A video segmentation model of transformers: points and boxes, or words.

    model_dir: a local directory; nothing is downloaded, no code of it is run, pickles are refused. Raises
    ValueError for what cannot be opened.
    """

    def __init__(self, model_dir: str, device: str = "cpu", *, dtype: torch.dtype = torch.float32) -> None:
        self._dir, self._device, self._dtype = model_dir, device, dtype
        self._type = str(read_config(model_dir)["model_type"])
        self._feed = _Feed(model_dir)
        self._opened: dict[str, Any] = {}

    def select(self, frames: Frames, prompt: Prompt) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (frame, mask [H,W] bool) of every frame once; raise NotFound if words mean nothing in it."""
        height, width = frames.rgb(prompt.frame).shape[:2]
        if prompt.words is not None:
            yield from self._by_words(frames, prompt, height, width)
        else:
            yield from self._by_points(frames, prompt, height, width)

    def _by_points(
        self, frames: Frames, prompt: Prompt, height: int, width: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        model = self._model(BY_POINTS[self._type])
        size = self._feed.size
        seen: set[int] = set()
        for reverse in (False, True):
            session = _session(model)(**self._session_settings(height, width))
            session.processed_frames = _OnDemand(frames, self._feed, self._device, self._dtype)
            index = session.obj_id_to_idx(OBJECT)
            scale = torch.tensor([size[1] / width, size[0] / height])
            session.add_point_inputs(index, prompt.frame, _points(prompt, scale))
            session.obj_with_new_inputs = [OBJECT]
            numbers = range(prompt.frame, len(frames)) if not reverse else range(prompt.frame, -1, -1)
            for number in beating(numbers):
                with torch.inference_mode():
                    found = model(session, frame_idx=number, reverse=reverse)
                if number not in seen:
                    seen.add(number)
                    yield number, _union(found.pred_masks, height, width)
            if prompt.frame == 0:
                return

    def _by_words(
        self, frames: Frames, prompt: Prompt, height: int, width: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        model = self._model(BY_WORDS[self._type])
        session = _session(model)(**self._session_settings(height, width))
        session.processed_frames = _OnDemand(frames, self._feed, self._device, self._dtype)
        assert prompt.words is not None
        number = session.add_prompt(prompt.words)
        words = self._tokenizer()(
            prompt.words, return_tensors="pt", padding="max_length", max_length=WORDS, truncation=True
        )
        session.prompt_input_ids[number] = words.input_ids.to(self._device)
        session.prompt_attention_masks[number] = words.attention_mask.to(self._device)
        anything = False
        for out in beating(model.propagate_in_video_iterator(session)):
            hidden = set(out.suppressed_obj_ids or ()) | set(session.hotstart_removed_obj_ids)
            masks = [mask for one, mask in out.obj_id_to_mask.items() if one not in hidden]
            mask = np.zeros((height, width), dtype=bool)
            if masks:
                mask = _union(torch.cat(masks)[:, None], height, width)
            anything |= bool(mask.any())
            yield int(out.frame_idx), mask
        if not anything:
            raise NotFound(f"{prompt.words!r} is found in no frame")

    def _session_settings(self, height: int, width: int) -> dict[str, Any]:
        device = self._device
        where = {"inference_device": device, "inference_state_device": device, "video_storage_device": "cpu"}
        return {"video_height": height, "video_width": width, "dtype": self._dtype, **where}

    def _model(self, name: str) -> Any:
        """Return the model of a class, opened once."""
        if name not in self._opened:
            self._opened[name] = _open(self._dir, name, self._dtype).to(self._device)
        return self._opened[name]

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        if "tokenizer" not in self._opened:
            self._opened["tokenizer"] = AutoTokenizer.from_pretrained(
                self._dir, local_files_only=True, trust_remote_code=False
            )
        return self._opened["tokenizer"]


class _Feed:
    """What the published processor does to a frame: resized to a square, then normalised."""

    def __init__(self, model_dir: str) -> None:
        stated: dict[str, Any] = {}
        for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
            file = Path(model_dir, name)
            stated |= json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        stated = stated.get("video_processor") or stated.get("image_processor") or stated
        size = stated.get("size") or {}
        if not {"height", "width"} <= size.keys():
            raise ValueError(
                f"masks: no preprocessor_config.json of {model_dir!r} states a size with height and width; "
                "fetch the model again"
            )
        self.size = int(size["height"]), int(size["width"])
        mean, std = stated.get("image_mean", IMAGENET[0]), stated.get("image_std", IMAGENET[1])
        self._mean, self._std = (torch.tensor(value).view(3, 1, 1) for value in (mean, std))

    def __call__(self, rgb: np.ndarray) -> Tensor:
        """Return pixel values [3,h,w] of a frame [H,W,3] uint8."""
        frame = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float()
        resized = interpolate(frame, self.size, mode="bilinear", antialias=True, align_corners=False)[0]
        return (resized.round().clamp(0, 255) / 255 - self._mean) / self._std


class _OnDemand:
    """The frames of a session, read when they are asked for."""

    def __init__(self, frames: Frames, feed: _Feed, device: str, dtype: torch.dtype) -> None:
        self._frames, self._feed, self._device, self._dtype = frames, feed, device, dtype

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Tensor:
        return self._feed(self._frames.rgb(number)).to(self._device, self._dtype)


def _points(prompt: Prompt, scale: Tensor) -> dict[str, Tensor]:
    """Return the points of a prompt [1,1,N,2] in pixels of the model, and their labels [1,1,N].

    Labels: 1 is meant, 0 is not, 2 and 3 are the corners of a box, which come first.
    """
    places: list[tuple[float, float]] = []
    labels: list[int] = []
    if prompt.box is not None:
        x, y, width, height = prompt.box
        places, labels = [(x, y), (x + width, y + height)], [2, 3]
    places += [*prompt.points, *prompt.others]
    labels += [1] * len(prompt.points) + [0] * len(prompt.others)
    coordinates = torch.tensor(places, dtype=torch.float32) * scale
    return {
        "point_coords": coordinates[None, None],
        "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
    }


def _union(masks: Tensor, height: int, width: int) -> np.ndarray:
    """Return which pixels any of the logits [N,1,h,w] claims, [height,width] bool."""
    resized = interpolate(masks.float(), (height, width), mode="bilinear", align_corners=False)
    return np.asarray((resized[:, 0] > 0).any(0).cpu().numpy())


def _session(model: Any) -> Any:
    """Return the class of the sessions of a model."""
    import importlib

    module = importlib.import_module(type(model).__module__)
    return getattr(module, type(model).__name__.removesuffix("Model") + "InferenceSession")


def _open(model_dir: str, name: str, dtype: torch.dtype) -> Any:
    import transformers
    from safetensors import SafetensorError

    if name.startswith("Sam3"):
        _without_torchvision()
    try:
        model, report = getattr(transformers, name).from_pretrained(
            model_dir,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"masks: {model_dir!r} cannot be opened ({reason}); give mask.select.model a whole directory "
            f"of {KNOWN}"
        ) from error
    if lacking := sorted(report["missing_keys"]):
        raise ValueError(
            f"masks: the weights of {model_dir!r} lack {len(lacking)} tensors, {lacking[0]!r} first; fetch "
            "the model again"
        )
    return model.eval()


def _without_torchvision() -> None:
    """Make SAM 3's detector usable for words, which need nothing of torchvision, and keep it off the network.

    transformers hides the class where torchvision is missing, because boxes would need `roi_align`. And it
    would fetch compiled code from a hub to suppress doubles among the masks; their union is the same without.
    """
    import importlib

    from transformers import AutoModel
    from transformers.models.sam3.configuration_sam3 import Sam3Config, Sam3VisionConfig, Sam3ViTConfig

    models = importlib.import_module("transformers.models.sam3.modeling_sam3")
    AutoModel.register(Sam3Config, models.Sam3Model, exist_ok=True)
    AutoModel.register(Sam3VisionConfig, models.Sam3VisionModel, exist_ok=True)
    AutoModel.register(Sam3ViTConfig, models.Sam3ViTModel, exist_ok=True)
    video = importlib.import_module("transformers.models.sam3_video.modeling_sam3_video")
    setattr(video, "cv_utils_kernel", False)  # noqa: B010
