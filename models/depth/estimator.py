"""Depth of single frames by any transformers depth-estimation model in a local directory."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recapture.conf.heartbeat import beating
from recapture.models.depth.alignment import Kind

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
METRIC_MODELS = ("zoedepth", "depth_pro", "glpn")
INVERSE_MODELS = ("dpt",)


class DepthEstimator:
    """An `AutoModelForDepthEstimation` directory (config.json and safetensors), applied frame by frame.

    model_dir: a local directory; nothing is downloaded, no code of it is run, pickles are refused. kind:
    what it predicts, 'inverse' (affine-invariant inverse depth) or 'metric' (depth); None reads it from the
    config (`depth_estimation_type` of Depth Anything) or knows it by the model type (DPT inverse; ZoeDepth,
    Depth Pro, GLPN metric), and refuses where neither says it.
    """

    consistent = False

    def __init__(
        self, model_dir: str, device: str = "cpu", *, kind: Kind | None = None, batch: int = 8
    ) -> None:
        from transformers import AutoModelForDepthEstimation  # seconds of import that only this class needs

        folder = Path(model_dir)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"depth: {model_dir!r} is neither a transformers model directory (no config.json) nor a"
                " diffusers one (no model_index.json); set depth.model to one, or depth.source to 'given'"
            )
        model = AutoModelForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        self._model = model.to(device).eval()
        self._device, self._batch = device, batch
        self.kind: Kind = kind or _kind_of(model.config, model_dir)
        self._multiple = _patch_size(model.config)
        preprocessing = _read_json(folder / "preprocessor_config.json")
        self._side = _working_side(preprocessing, model.config)
        self._square = not preprocessing.get("keep_aspect_ratio", not _needs_squares(model.config))
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(preprocessing.get("image_mean", IMAGENET_MEAN), device=device).view(shape)
        self._std = torch.tensor(preprocessing.get("image_std", IMAGENET_STD), device=device).view(shape)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to resize to: short side near the model's own, sides multiples of its patch.

        Models that say `keep_aspect_ratio: false`, and DPT on a plain ViT, get squares.
        """
        if self._square:
            return self._side, self._side
        factor = self._side / min(height, width)
        multiple = self._multiple
        return tuple(max(multiple, round(side * factor / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]

    def predict(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Return `estimate` of each chunk [t, 3, H, W] of a clip."""
        return map(self.estimate, chunks)

    @torch.inference_mode()
    def estimate(self, video: Tensor) -> Tensor:
        """Return the raw prediction [T, H, W] in units of `kind`, to be aligned with `align_depth`.

        video: [T, 3, H, W] in [-1, 1]. Frames are resized (bicubic, antialiased) to `input_size`,
        normalised as the directory's preprocessor_config.json says (ImageNet by default), and the
        prediction is resized back (bilinear). The resize may change the aspect ratio by up to half a patch,
        undone on the way back.
        """
        height, width = video.shape[2:]
        size = self.input_size(height, width)
        predictions = []
        for frames in beating(video.split(self._batch)):
            unit = (frames.to(self._device, torch.float32) + 1) / 2
            resized = interpolate(unit, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
            depth = self._model(pixel_values=(resized - self._mean) / self._std).predicted_depth
            full = interpolate(depth[:, None].float(), (height, width), mode="bilinear", align_corners=False)
            predictions.append(full[:, 0].to(video.device))
        return torch.cat(predictions)


def _kind_of(config: Any, model_dir: str) -> Kind:
    stated = getattr(config, "depth_estimation_type", None)
    if stated == "metric" or config.model_type in METRIC_MODELS:
        return "metric"
    if stated == "relative" or config.model_type in INVERSE_MODELS:
        return "inverse"
    raise ValueError(
        f"depth: the model in {model_dir!r} (type {config.model_type!r}) does not say what it predicts;"
        " set depth.prediction to 'inverse' or 'metric'"
    )


def _needs_squares(config: Any) -> bool:
    return config.model_type == "dpt" and getattr(config, "backbone_config", None) is None


def _patch_size(config: Any) -> int:
    for part in (config, getattr(config, "backbone_config", None)):
        size = getattr(part, "patch_size", None)
        if isinstance(size, int):
            return size
    return 32  # convolutional backbones halve the frame five times


def _working_side(preprocessing: dict[str, Any], config: Any) -> int:
    size = preprocessing.get("size")
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(min(size["height"], size["width"]))
    for part in (getattr(config, "backbone_config", None), config):
        side = getattr(part, "image_size", None)
        if isinstance(side, int):
            return side
    return 384


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
