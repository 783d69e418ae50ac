"""Training of the embedded depth model: metric depth of single frames of the procedural scenes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from recapture.models.pretraining.captured import Batch
from recapture.models.training.seeds import generator, uniform

SIDE = 128
MAX_DEPTH = 24  # scene units
FARTHEST = 0.98 * MAX_DEPTH  # what is said of all that is farther: sky, hills
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Frames = Callable[
    [int, int], tuple[Tensor, Tensor]
]  # step, count -> [B, 3, S, S] in [-1, 1], depth [B, S, S]


def build_depth_model(
    seed: int, device: torch.device | str, **changes: Any
) -> DepthAnythingForDepthEstimation:
    """Build a tiny Depth Anything on a tiny DINOv2 that predicts depth in scene units."""
    torch.manual_seed(seed)
    backbone = Dinov2Config(
        **{
            "image_size": SIDE,
            "patch_size": 8,
            "hidden_size": 128,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "mlp_ratio": 3,
            "out_features": ["stage2", "stage4", "stage5", "stage6"],
            "reshape_hidden_states": False,
            "apply_layernorm": True,
            **changes,
        }
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=backbone.patch_size,
        reassemble_hidden_size=backbone.hidden_size,
        reassemble_factors=[2, 1, 0.5, 0.25] if backbone.patch_size == 8 else [4, 2, 1, 0.5],
        neck_hidden_sizes=[24, 32, 48, 64],
        fusion_hidden_size=32,
        head_hidden_size=16,
        depth_estimation_type="metric",
        max_depth=MAX_DEPTH,
    )
    return DepthAnythingForDepthEstimation(config).to(device)


class DepthLearner:
    """Learns log-depth and its gradients on frames in random colours."""

    def __init__(self, model: DepthAnythingForDepthEstimation, frames: Frames, seed: int, batch: int) -> None:
        self.module = model
        self.companion = None
        self._frames, self._seed, self._batch = frames, seed, batch
        self._device = next(model.parameters()).device
        self._cast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")
        self._mean = torch.tensor(MEAN, device=self._device).view(1, 3, 1, 1)
        self._deviation = torch.tensor(DEVIATION, device=self._device).view(1, 3, 1, 1)

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        return (
            (parameter.ndim == 2 or parameter.ndim == 4) and "embeddings" not in name and len(parameter) > 3
        )

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.forward(self.draw(step))

    def draw(self, step: int) -> Batch:
        """Return pictures [B, 3, S, S] in [-1, 1] and depth [B, S, S] of a step."""
        random = generator(self._seed, step, self._device)
        picture, depth = self._frames(step, self._batch)
        flip = uniform(0, 1, (len(picture), 1, 1), random) < 0.5
        depth = torch.where(flip, depth.flip(-1), depth)
        picture = torch.where(flip[:, None], picture.flip(-1), picture)
        return {"picture": _recolour(picture, random), "depth": depth}

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of what `draw` returned."""
        picture, depth = batch["picture"], batch["depth"]
        with self._cast:
            guess = self.module(((picture + 1) / 2 - self._mean) / self._deviation).predicted_depth
        usable = torch.isfinite(depth) & (depth > 0)
        depth = depth.clamp_max(FARTHEST)
        difference = torch.where(
            usable,
            guess.float().clamp_min(1e-3).log() - depth.where(usable, torch.ones_like(depth)).log(),
            0.0,
        )
        size = difference.abs().mean()
        gradients = difference.new_zeros(())
        for scale in (1, 2, 4):
            coarse = avg_pool2d(difference[:, None], scale) if scale > 1 else difference[:, None]
            gradients = gradients + coarse.diff(dim=-1).abs().mean() + coarse.diff(dim=-2).abs().mean()
        offset = difference.mean((1, 2), keepdim=True)
        invariant = (difference - offset).abs().mean()
        return size + invariant + gradients, {"log_depth": size.detach(), "aligned": invariant.detach()}


def _recolour(picture: Tensor, random: torch.Generator) -> Tensor:
    shape = (len(picture), 1, 1, 1)
    gain, offset = uniform(0.6, 1.3, shape, random), uniform(-0.2, 0.2, shape, random)
    grey = picture.mean(1, keepdim=True)
    saturation = uniform(0.3, 1.3, shape, random)
    changed = (grey + (picture - grey) * saturation) * gain + offset
    noise = torch.randn(picture.shape, generator=random, device=random.device)
    return (changed + noise * uniform(0, 0.06, shape, random)).clamp(-1, 1)


@torch.no_grad()
def predict_depth(model: DepthAnythingForDepthEstimation, video: Tensor) -> Tensor:
    """Predict depth [T, S, S] in scene units of a clip [T, 3, S, S] in [-1, 1]."""
    mean = torch.tensor(MEAN, device=video.device).view(1, 3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=video.device).view(1, 3, 1, 1)
    depth: Tensor = model(((video + 1) / 2 - mean) / deviation).predicted_depth
    return depth.float().clamp_min(1e-3)


def depth_quality(model: DepthAnythingForDepthEstimation, video: Tensor, depth: Tensor) -> dict[str, float]:
    """Return AbsRel after one scale per clip (median ratio), and flicker, against depth [T, S, S].

    Flicker is the mean over pixels of |log of the ratio prediction/truth| changing between frames: 0 for a
    prediction that is wrong in the same way in every frame. What is farther than FARTHEST does not count.
    """
    guess = predict_depth(model, video)
    usable = torch.isfinite(depth) & (depth > 0) & (depth < FARTHEST)
    ratio = (depth / guess)[usable].median()
    error = ((guess * ratio - depth).abs() / depth)[usable].mean()
    logs = torch.where(usable, (guess / depth).log(), torch.zeros_like(depth))
    both = usable[1:] & usable[:-1]
    flicker = logs.diff(dim=0).abs()[both].mean() if len(video) > 1 else logs.new_zeros(())
    return {"abs_rel": float(error), "flicker": float(flicker)}
