"""The project's own network for judging pictures and clips: what a distance is measured in.

A small convolutional network that `recapture pretrain` trains on the project's scenes and photographs. It is
neither Inception nor I3D nor AlexNet: numbers in its features compare results of this project with each other
and with nothing published.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, layer_norm, normalize, relu, softplus

WIDTHS = (24, 48, 64, 96, 112)  # channels at 1/2, 1/4, ... 1/32 of the picture
JUDGED_SIDE, SHORTEST_SIDE = 192, 32  # pictures whose shorter side is beyond are resized to it
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_KIND = "recapture.FeatureNet"
_CHANGE = 4.0  # of a position between frames, which is small beside what stands there


class Seen(NamedTuple):
    """What the network sees in N pictures."""

    scales: list[Tensor]  # [N, C, h, w] at 1/2, 1/4, ... 1/32, of unit length along C
    frame: Tensor  # [N, d] of each picture, for Fréchet distances: mean 0 and variance 1 along d
    view: Tensor  # [N, d] of unit length: what is shown, rather than from where


class FeatureNet(nn.Module):
    """Features of pictures at five scales, of whole pictures, and of clips."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, features: int = 64, clip_width: int = 32) -> None:
        super().__init__()
        self.settings = {"widths": list(widths), "features": features, "clip_width": clip_width}
        self.stem = nn.Conv2d(3, widths[0], 5, 2, 2)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.same = nn.ModuleList(nn.Conv2d(b, b, 3, 1, 1) for b in widths[1:])
        self.weights = nn.ParameterList(nn.Parameter(torch.full((width,), -2.3)) for width in widths)
        pooled = 2 * sum(widths)
        self.to_frame, self.to_view = nn.Linear(pooled, features), nn.Linear(pooled, features)
        self.narrow = nn.Conv2d(widths[2], clip_width, 1)
        self.over_time = nn.ModuleList(
            [
                nn.Conv3d(clip_width * 2, clip_width * 3 // 2, 3, (1, 2, 2), 1),
                nn.Conv3d(clip_width * 3 // 2, clip_width * 2, 3, (1, 2, 2), 1),
            ]
        )
        self.to_clip = nn.Linear(clip_width * 6 + features, features)

    def forward(self, pictures: Tensor) -> Seen:
        """Look at pictures [N, 3, H, W] in [-1, 1], sides of at least SHORTEST_SIDE."""
        x = self.stem(pictures)
        scales, pooled = [x], _pooled(x)
        for down, same in zip(self.down, self.same):
            x = down(_active(x))
            x = x + same(_active(x))
            scales.append(x)
            pooled = torch.cat([pooled, _pooled(x)], 1)
        width = (self.settings["features"],)
        frame = layer_norm(self.to_frame(pooled).float(), width)  # type: ignore[arg-type]
        view = normalize(self.to_view(pooled).float(), dim=1)
        return Seen([_unit(scale.float()) for scale in scales], frame, view)

    def clip_features(self, scale: Tensor, frame: Tensor) -> Tensor:
        """Return features [B, d] of clips, mean 0 and variance 1 along d.

        scale: Seen.scales[2] of their frames, [B, T, C, h, w]; frame: Seen.frame of them, [B, T, d].
        """
        batch, length = scale.shape[:2]
        still = self.narrow(scale.flatten(0, 1)).unflatten(0, (batch, length)).transpose(1, 2)
        change = torch.diff(still, dim=2, prepend=still[:, :, :1])
        x = self.over_time[0](torch.cat([still, _CHANGE * change], 1))
        x = relu(self.over_time[1](_active(x))).float()
        level = x.mean((3, 4))
        pooled = torch.cat([level.mean(2), _spread(level), _spread(x.flatten(2)), frame.float().mean(1)], 1)
        return layer_norm(self.to_clip(pooled).float(), (self.to_clip.out_features,))

    def distance(self, one: Seen, other: Seen) -> Tensor:
        """Return the perceptual distances [N] of pairs of pictures, 0 for equal ones.

        As in LPIPS (Zhang et al. 2018): the mean over positions of the weighted squared differences of
        features of unit length, summed over scales.
        """
        total = one.frame.new_zeros(len(one.frame))
        for a, b, raw in zip(one.scales, other.scales, self.weights):
            total = total + ((a - b).square() * softplus(raw.float())[:, None, None]).sum(1).mean((1, 2))
        return total


def judged(pictures: Tensor) -> Tensor:
    """Return pictures [N, 3, H, W] at the size at which they are judged: the shorter side in the bounds."""
    height, width = pictures.shape[-2:]
    side = min(max(min(height, width), SHORTEST_SIDE), JUDGED_SIDE)
    factor = side / min(height, width)
    if factor == 1:
        return pictures
    size = round(height * factor), round(width * factor)
    return interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)


def save_feature_net(net: FeatureNet, folder: Path) -> None:
    """Write config.json and model.safetensors (float16) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": _KIND, **net.settings}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    weights = {name: value.half().contiguous().cpu() for name, value in net.state_dict().items()}
    save_file(weights, folder / WEIGHTS)


def load_feature_net(folder: Path, device: torch.device | str = "cpu") -> FeatureNet:
    """Return the network of a folder, frozen, in float32.

    Raises ValueError naming the folder if it does not hold such a network.
    """
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"feature network: {str(folder)!r} lacks {' and '.join(missing)}")
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.pop("kind", None) != _KIND:
        raise ValueError(f"feature network: {folder / CONFIG} does not describe a {_KIND}")
    try:
        net = FeatureNet(**{**config, "widths": tuple(config["widths"])})
        net.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(" ".join(str(error).split("\n")[:2]).split())
        raise ValueError(f"feature network: the files in {str(folder)!r} do not fit: {reason}") from error
    for layer in (net.stem, *net.down, *net.same):
        layer.to(memory_format=torch.channels_last)  # a third faster on CPUs
    return net.to(device).requires_grad_(False).eval()


def _active(x: Tensor) -> Tensor:
    """Return channels at unit mean square per position, rectified."""
    return relu(x * (x.square().mean(1, keepdim=True) + 1e-3).rsqrt())


def _unit(x: Tensor) -> Tensor:
    """Return channels of unit length per position."""
    return x * (x.square().sum(1, keepdim=True) + 1e-8).rsqrt()


def _pooled(x: Tensor) -> Tensor:
    """Return mean and deviation of channels over positions, [N, 2 C]."""
    spread, level = torch.var_mean(x.float(), (2, 3), correction=0)
    return torch.cat([level, (spread + 1e-4).sqrt()], 1)


def _spread(x: Tensor) -> Tensor:
    """Return the deviation along the last axis, with a gradient where it is 0."""
    return (x.var(-1, unbiased=False) + 1e-4).sqrt()
