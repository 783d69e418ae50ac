"""How each family of depth models is fed and read: what its published image processor does, on tensors.

The processors of transformers work on single pictures on the CPU, and some need torchvision; these functions
take batches on any device. tests/models/depth/test_families.py compares the values with the originals.

| family             | resize                                          | output                              |
|--------------------|-------------------------------------------------|-------------------------------------|
| Depth Anything, DPT | antialiased, factor nearer to 1, multiples     | bicubic                             |
| DPT on DINOv2      | none; zeros around the frame to multiples of 14 | zeros cut off, bicubic              |
| ZoeDepth           | reflected border, then corners aligned          | bicubic, border cut off             |
| GLPN               | down to multiples of 32                         | bicubic                             |
| Depth Pro          | to 1536x1536 after normalising                  | 1 / (inverse depth * width / focal) |

Two differences, on purpose. The zeros around a frame are cut off again, where transformers stretches them
over the frame and so moves its depth by up to 7 pixels. And Depth Pro takes the clip's own focal length if it
is known, as its authors' `infer` does, in place of the field of view that it predicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
_FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by Pillow's numbers


class ProcessorError(ValueError):
    """A preprocessor_config.json asks for something that is not done here."""


@dataclass(frozen=True)
class Processor:
    """A DPT image processor, which Depth Anything and DPT use; the base of the others.

    Fields are those of preprocessor_config.json. Frames come in [T,3,H,W] with values 0 to 255.
    """

    size: tuple[int, int] = (384, 384)  # height, width
    resample: int = 3
    keep_aspect_ratio: bool = False
    ensure_multiple_of: float = 1
    size_divisor: int | None = None
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True
    do_pad: bool = False
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = HALF
    image_std: tuple[float, ...] = HALF

    metres: ClassVar[bool] = False  # whether `read` gives metres whatever the model's configuration says

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what the model sees of a frame."""
        rows, columns = self._resized_size(height, width)
        above, below, left, right = self._zeros(rows, columns)
        return rows + above + below, columns + left + right

    def feed(self, frames: Tensor) -> Tensor:
        """Return the model's pixel_values of frames [T,3,H,W]."""
        frames = self._resized(frames.round(), antialias=True).round().clamp(0, 255)
        above, below, left, right = self._zeros(*frames.shape[2:])
        return pad(self._standardised(self._rescaled(frames)), (left, right, above, below))

    def read(self, output: Any, height: int, width: int, focal: Tensor | None) -> Tensor:
        """Return the prediction [T,height,width]; focal: [T] focal lengths as shares of the width."""
        depth = output.predicted_depth.float()[:, None]
        rows, columns = self._resized_size(height, width)
        above, below, left, right = zeros = self._zeros(rows, columns)
        if any(zeros):
            depth = _bicubic(depth, (rows + above + below, columns + left + right))
            depth = depth[:, :, above : above + rows, left : left + columns]
        return _bicubic(depth, (height, width))[:, 0]

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if not self.do_resize:
            return height, width
        factors = self.size[0] / height, self.size[1] / width
        if self.keep_aspect_ratio:
            factors = (min(factors, key=lambda factor: abs(1 - factor)),) * 2
        multiple = self.ensure_multiple_of
        steps = (max(1, round(f * side / multiple)) for f, side in zip(factors, (height, width)))
        rows, columns = (max(1, int(count * multiple)) for count in steps)
        return rows, columns

    def _zeros(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return how many zeros to add above, below, left and right."""
        if not (self.do_pad and self.size_divisor):
            return 0, 0, 0, 0
        rows, columns = -height % self.size_divisor, -width % self.size_divisor
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2

    def _resized(self, frames: Tensor, *, antialias: bool) -> Tensor:
        size = self._resized_size(*frames.shape[2:])
        if size == tuple(frames.shape[2:]):
            return frames
        how = _FILTERS[self.resample]
        if how == "nearest-exact":
            return interpolate(frames, size, mode=how)
        return interpolate(frames, size, mode=how, antialias=antialias, align_corners=False)

    def _rescaled(self, frames: Tensor) -> Tensor:
        return frames * self.rescale_factor if self.do_rescale else frames

    def _standardised(self, frames: Tensor) -> Tensor:
        if not self.do_normalize:
            return frames
        mean, std = (frames.new_tensor(value).view(-1, 1, 1) for value in (self.image_mean, self.image_std))
        return (frames - mean) / std


@dataclass(frozen=True)
class GlpnProcessor(Processor):
    """GLPN: sides rounded down to multiples of 32, values 0 to 1, not normalised."""

    resample: int = 2
    size_divisor: int | None = 32
    do_normalize: bool = False

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        divisor = self.size_divisor or 32
        rows, columns = (max(divisor, side // divisor * divisor) for side in (height, width))
        return (rows, columns) if self.do_resize else (height, width)


@dataclass(frozen=True)
class ZoeProcessor(Processor):
    """ZoeDepth: a reflected border against artefacts at the edges, then a resize with aligned corners.

    Predictions of the mirrored frame are not averaged in, as in transformers' own pipeline.
    """

    size: tuple[int, int] = (384, 512)
    resample: int = 2
    keep_aspect_ratio: bool = True
    ensure_multiple_of: float = 1 / 32
    do_pad: bool = True

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = self._border(height, width)
        return self._resized_size(height + 2 * rows, width + 2 * columns)

    def feed(self, frames: Tensor) -> Tensor:
        unit = self._rescaled(frames.round())
        for dim, border in zip((2, 3), self._border(*frames.shape[2:])):
            reflected = np.pad(np.arange(unit.shape[dim]), border, mode="reflect")
            unit = unit.index_select(dim, torch.from_numpy(reflected).to(unit.device))
        size = self._resized_size(*unit.shape[2:])
        return self._standardised(interpolate(unit, size, mode=_FILTERS[self.resample], align_corners=True))

    def read(self, output: Any, height: int, width: int, focal: Tensor | None) -> Tensor:
        rows, columns = self._border(height, width)
        depth = output.predicted_depth.float()[:, None]
        depth = _bicubic(depth, (height + 2 * rows, width + 2 * columns))
        return depth[:, 0, rows : rows + height, columns : columns + width]

    def _border(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows above and below, and the columns left and right."""
        rows, columns = (int(math.sqrt(side / 2) * 3) if self.do_pad else 0 for side in (height, width))
        return rows, columns


@dataclass(frozen=True)
class DepthProProcessor(Processor):
    """Depth Pro: squares, whatever the frame's aspect; the model's inverse depth becomes metres."""

    size: tuple[int, int] = (1536, 1536)
    resample: int = 2
    metres: ClassVar[bool] = True

    def feed(self, frames: Tensor) -> Tensor:
        return self._resized(self._standardised(self._rescaled(frames.round())), antialias=False)

    def read(self, output: Any, height: int, width: int, focal: Tensor | None) -> Tensor:
        inverse = output.predicted_depth.float()
        if focal is None and output.field_of_view is not None:
            focal = 0.5 / torch.tan(0.5 * torch.deg2rad(output.field_of_view.float().flatten()))
        if focal is not None:
            inverse = inverse / focal.to(inverse)[:, None, None]
        how = _FILTERS[self.resample]
        corners = {} if how == "nearest-exact" else {"align_corners": False}
        inverse = interpolate(inverse[:, None], (height, width), mode=how, **corners)
        return 1 / inverse[:, 0].clamp(1e-4, 1e4)


PROCESSORS: dict[str, type[Processor]] = {
    "DPT": Processor,
    "GLPN": GlpnProcessor,
    "ZoeDepth": ZoeProcessor,
    "DepthPro": DepthProProcessor,
}
FAMILIES = {  # by model type: the processor that it has where its directory names none
    "depth_anything": "DPT",
    "dpt": "DPT",
    "glpn": "GLPN",
    "zoedepth": "ZoeDepth",
    "depth_pro": "DepthPro",
}


def open_processor(stated: Mapping[str, Any], model: Any) -> Processor:
    """Return the processor that preprocessor_config.json states, completed by its class's own values.

    model: the model's configuration. Without the file, Depth Anything is fed as its authors do at the size of
    its backbone, and others by their class's values. Raises ProcessorError.
    """
    name = str(stated.get("image_processor_type") or stated.get("feature_extractor_type") or "")
    family = name
    for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        family = family.removesuffix(ending)
    family = family or FAMILIES.get(model.model_type, "")
    if family not in PROCESSORS:
        raise ProcessorError(
            f"its image processor is {name or 'not stated'}, known are "
            f"{', '.join(f'{known}ImageProcessor' for known in PROCESSORS)}"
        )
    values = _without_file(model) if not stated else {}
    for field in PROCESSORS[family].__dataclass_fields__:
        given = stated.get(field)
        if given is not None:
            values[field] = _size(given) if field == "size" else given
    for field in ("image_mean", "image_std"):
        if isinstance(values.get(field), (int, float)):
            values[field] = (values[field],) * 3
    processor = PROCESSORS[family](**values)
    if processor.resample not in _FILTERS:
        raise ProcessorError(f"its resample is {processor.resample}; known are {sorted(_FILTERS)}")
    return processor


def _without_file(model: Any) -> dict[str, Any]:
    backbone = getattr(model, "backbone_config", None)
    side = getattr(backbone, "image_size", None) or getattr(model, "image_size", None)
    values: dict[str, Any] = {"size": (side, side)} if isinstance(side, int) and _sized(model) else {}
    if model.model_type == "depth_anything":
        values |= {"keep_aspect_ratio": True, "ensure_multiple_of": model.patch_size}
        values |= {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
    return values


def _sized(model: Any) -> bool:
    return model.model_type in ("depth_anything", "dpt")


def _size(given: Any) -> tuple[int, int]:
    if isinstance(given, Mapping) and {"height", "width"} <= given.keys():
        return int(given["height"]), int(given["width"])
    if isinstance(given, int):
        return given, given
    raise ProcessorError(f"its size is {given}; a height and a width are known")


def _bicubic(depth: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(depth, size, mode="bicubic", align_corners=False)
