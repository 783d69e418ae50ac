"""Depth of single frames by a transformers depth-estimation model in a local directory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.models.depth.alignment import Kind
from recapture.models.depth.foreign import KNOWN, read_config
from recapture.models.depth.processing import FAMILIES, Processor, ProcessorError, open_processor

METRIC_TYPES = ("zoedepth", "depth_pro", "glpn")
_TRIAL = 64  # side in pixels of the frame that shows whether missing weights matter


class DepthEstimator:
    """A depth-estimation directory of transformers (config.json and safetensors), applied frame by frame.

    model_dir: a local directory; nothing is downloaded, no code of it is run, pickles are refused. kind: what
    it predicts, 'inverse' (affine-invariant inverse depth) or 'metric' (depth in metres); None: see
    `stated_kind`. Frames are fed and predictions read as the family's published processor does: see
    `processing`. Raises ValueError for a model that is not known, or whose weights are not complete.
    """

    consistent = False

    def __init__(
        self, model_dir: str, device: str = "cpu", *, kind: Kind | None = None, batch: int = 8
    ) -> None:
        self.kind: Kind = kind or stated_kind(model_dir)
        self._device, self._batch = device, batch
        self._model, lacking = _load(model_dir, device)
        self._processor = _processor(model_dir, self._model.config)
        # A prediction in metres that the caller wants to be taken for inverse depth.
        self._invert = self._processor.metres and self.kind == "inverse"
        if lacking and not torch.isfinite(self.estimate(torch.zeros(1, 3, _TRIAL, _TRIAL))).all():
            raise ValueError(
                f"depth: the weights of {model_dir!r} lack {len(lacking)} tensors, {lacking[0]!r} first;"
                " fetch the model again"
            )

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what the model sees of a frame."""
        return self._processor.input_size(height, width)

    def predict(self, chunks: Iterable[Tensor], focal: Tensor | None = None) -> Iterator[Tensor]:
        """Return `estimate` of each chunk [t, 3, H, W] of a clip; focal: [T] of the whole clip."""
        start = 0
        for chunk in chunks:
            yield self.estimate(chunk, None if focal is None else focal[start : start + len(chunk)])
            start += len(chunk)

    @torch.inference_mode()
    def estimate(self, video: Tensor, focal: Tensor | None = None) -> Tensor:
        """Return the prediction [T, H, W] in units of `kind`, to be aligned with `align_depth`.

        video: [T, 3, H, W] in [-1, 1]. focal: [T] focal lengths as shares of the width, where the clip's lens
        is known; None: those that the model predicts, if it does.
        """
        height, width = video.shape[2:]
        lens = [None] * len(video) if focal is None else list(focal.split(self._batch))
        predictions = []
        for frames, known in beating(zip(video.split(self._batch), lens)):
            pixels = self._processor.feed((frames.to(self._device, torch.float32) + 1) * 127.5)
            depth = self._processor.read(self._model(pixel_values=pixels), height, width, known)
            predictions.append((1 / depth if self._invert else depth).to(video.device))
        return torch.cat(predictions)


def stated_kind(model_dir: str) -> Kind:
    """Return what a directory's model predicts, without loading it.

    Depth Anything states it (`depth_estimation_type`). ZoeDepth, Depth Pro and GLPN predict metres, and so
    does DPT on DINOv2 (published for NYU and KITTI only); other DPT models predict inverse depth. Raises
    ValueError for any other type, and for what is no depth model.
    """
    config = read_config(model_dir)
    kind = config["model_type"]
    backbone = (config.get("backbone_config") or {}).get("model_type")
    if kind == "depth_anything":
        return "metric" if config.get("depth_estimation_type", "relative") == "metric" else "inverse"
    if kind in METRIC_TYPES or (kind == "dpt" and str(backbone).startswith("dinov2")):
        return "metric"
    if kind in FAMILIES:
        return "inverse"
    raise ValueError(
        f"depth: {model_dir!r} has the model type {kind!r}, of which it is not known what it predicts; set"
        f" depth.prediction to 'inverse' or 'metric', or depth.model to one of {KNOWN}"
    )


def _load(model_dir: str, device: str) -> tuple[Any, list[str]]:
    """Return the model and the names of tensors that its files lack, which are NaN.

    Published DPT files lack tensors of a layer that is never used, so a gap is an error only if it shows.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForDepthEstimation  # seconds of import that only this function needs

    read_config(model_dir)
    try:
        model, report = AutoModelForDepthEstimation.from_pretrained(
            model_dir,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"depth: {model_dir!r} cannot be loaded ({reason}); give depth.model a whole directory with"
            f" safetensors, of {KNOWN}"
        ) from error
    lacking = sorted(report["missing_keys"])
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name in lacking:
        if name in tensors and tensors[name].is_floating_point():
            tensors[name].data.fill_(float("nan"))
    return model.to(device).eval(), lacking


def _processor(model_dir: str, config: Any) -> Processor:
    folder = Path(model_dir)
    stated = _read_json(folder / "preprocessor_config.json")
    stated = stated or _read_json(folder / "processor_config.json").get("image_processor", {})
    try:
        return open_processor(stated, config)
    except (ProcessorError, TypeError) as error:
        raise ValueError(
            f"depth: the preprocessor_config.json of {model_dir!r} cannot be followed: {error}; set"
            f" depth.model to one of {KNOWN}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
