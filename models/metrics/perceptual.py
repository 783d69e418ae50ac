"""LPIPS from user-supplied weights: the AlexNet or VGG-16 stack and the published linear heads."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, normalize, relu

# layer index in torchvision's `features`, its stride and padding; "pool" and "tap" in between
Step = tuple[int, int, int] | str
_ALEX: list[Step] = [
    (0, 4, 2),
    "tap",
    "pool3",
    (3, 1, 2),
    "tap",
    "pool3",
    (6, 1, 1),
    "tap",
    (8, 1, 1),
    "tap",
    (10, 1, 1),
    "tap",
]
_VGG_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_SHIFT = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
_SCALE = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
_FILES = (
    "backbone.safetensors (torchvision's features.N.weight/bias) and heads.safetensors (linN.model.1.weight)"
)


class Lpips:
    """LPIPS (Zhang et al. 2018, v0.1): sum over layers of mean_hw of w_l . (unit(f_l(x)) - unit(f_l(y)))^2.

    model_dir: a directory with `backbone.safetensors` (the keys of torchvision's AlexNet or VGG-16 state
    dict; which of the two follows from the shape of features.0.weight) and `heads.safetensors` (the keys of
    the lpips package's weights/v0.1 file). No code and no pickle is loaded.
    """

    def __init__(self, model_dir: str, device: str = "cpu") -> None:
        folder = Path(model_dir)
        files = [folder / "backbone.safetensors", folder / "heads.safetensors"]
        if not all(file.is_file() for file in files):
            raise ValueError(f"metric lpips: {model_dir!r} must hold {_FILES}")
        self._weights = {**load_file(files[0], device=device), **load_file(files[1], device=device)}
        first = self._weights.get("features.0.weight")
        shape = tuple(first.shape) if first is not None else None
        if shape is not None and shape[1:] == (3, 11, 11):
            self.network, self._plan = "alex", list(_ALEX)
        elif shape is not None and shape[1:] == (3, 3, 3):
            self.network, self._plan = "vgg", _vgg_plan()
        else:
            raise ValueError(
                f"metric lpips: features.0.weight in {model_dir!r} is {shape}, of neither AlexNet nor VGG-16"
            )
        wanted = [
            f"features.{layer[0]}.{part}"
            for layer in self._plan
            if isinstance(layer, tuple)
            for part in ("weight", "bias")
        ]
        missing = [
            name
            for name in [*wanted, *(f"lin{n}.model.1.weight" for n in range(5))]
            if name not in self._weights
        ]
        if missing:
            raise ValueError(
                f"metric lpips: {model_dir!r} lacks {', '.join(missing[:4])}; it must hold {_FILES}"
            )
        self._device = device

    @torch.inference_mode()
    def __call__(self, result: Tensor, truth: Tensor) -> Tensor:
        """Return the distance of each frame pair [T] of [T, 3, H, W] in [-1, 1], sides of at least 64."""
        distance = torch.zeros(len(result), device=self._device)
        for n, (a, b) in enumerate(zip(self._features(result), self._features(truth))):
            difference = (normalize(a, dim=1, eps=1e-10) - normalize(b, dim=1, eps=1e-10)) ** 2
            distance += conv2d(difference, self._weights[f"lin{n}.model.1.weight"]).mean((1, 2, 3))
        return distance.cpu()

    @torch.inference_mode()
    def maps(self, result: Tensor, truth: Tensor) -> Tensor:
        """Return the distance of each pixel [T, H, W]: spatial=True of the lpips package."""
        size = result.shape[2:]
        distance = torch.zeros(len(result), 1, *size, device=self._device)
        for n, (a, b) in enumerate(zip(self._features(result), self._features(truth))):
            difference = (normalize(a, dim=1, eps=1e-10) - normalize(b, dim=1, eps=1e-10)) ** 2
            layer = conv2d(difference, self._weights[f"lin{n}.model.1.weight"])
            distance += interpolate(layer, size, mode="bilinear", align_corners=False)
        return distance[:, 0].cpu()

    def _features(self, video: Tensor) -> list[Tensor]:
        x = (video.to(self._device, torch.float32) - _SHIFT.to(self._device)) / _SCALE.to(self._device)
        taps = []
        for step in self._plan:
            if step == "tap":
                taps.append(x)
            elif isinstance(step, str):
                x = max_pool2d(x, int(step[-1]), 2)
            else:
                layer, stride, padding = step
                weight, bias = (
                    self._weights[f"features.{layer}.weight"],
                    self._weights[f"features.{layer}.bias"],
                )
                x = relu(conv2d(x, weight, bias, stride, padding))
        return taps


def _vgg_plan() -> list[Step]:
    plan: list[Step] = []
    for block in _VGG_BLOCKS:
        plan += [*((layer, 1, 1) for layer in block), "tap", "pool2"]
    return plan[:-1]
