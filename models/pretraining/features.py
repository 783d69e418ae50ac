"""Training of the feature network: to see what eyes see.

It learns from scenes and photographs, all tasks at once: how badly a picture is degraded beside the original
(distance), and without it; what is wrong with the motion of a clip; the words of the scene's caption; depth;
and which two views show the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    relu,
    smooth_l1_loss,
    softplus,
)

from recapture.models.metrics.feature_net import FeatureNet, Seen
from recapture.models.training.degradations import OF_MOTION, OF_PICTURES, SEVERITY, degrade
from recapture.models.training.seeds import generator, uniform

CLEAN_SHARE = 0.2  # of the clips whose motion is left as it is
_STILL = 0.015  # mean difference of frames below which motion cannot be judged
_NEEDS_MOTION = ("freeze", "shuffle", "ghost")
_TEMPERATURE = 0.1


class FeatureBatch(NamedTuple):
    """B clips, and another view of each."""

    video: Tensor  # [B, T, 3, S, S] in [-1, 1]
    other: Tensor  # [B, 3, S, S] the same scene at another place in time and picture
    words: Tensor  # [B, V] float, 1 for words of the caption
    depth: Tensor  # [B, s, s] of the first frame, in scene units
    labelled: Tensor  # [B] bool, whether words and depth are known


Batches = Callable[[int, int], FeatureBatch]  # step, count


class FeatureTask(nn.Module):
    """The network and what its features are asked for while it is trained."""

    def __init__(self, net: FeatureNet, words: int) -> None:
        super().__init__()
        width = net.to_frame.out_features
        self.net = net
        self.picture_kind = nn.Linear(width, len(OF_PICTURES) + 1)
        self.picture_dose = nn.Linear(width, len(OF_PICTURES) + 1)
        self.motion_kind = nn.Linear(width, len(OF_MOTION) + 1)
        self.motion_dose = nn.Linear(width, len(OF_MOTION) + 1)
        self.words = nn.Linear(2 * width, words)
        self.depth = nn.Conv2d(net.settings["widths"][2], 1, 1)  # type: ignore[index]


def build_feature_task(seed: int, words: int, device: torch.device | str, **changes: Any) -> FeatureTask:
    """Build the network and its tasks with initial weights."""
    torch.manual_seed(seed)
    return FeatureTask(FeatureNet(**changes), words).to(device)


class FeatureLearner:
    """Learns all tasks on batches of clips."""

    companion = None

    def __init__(self, module: FeatureTask, batches: Batches, seed: int, batch: int) -> None:
        self.module = module
        self._batches, self._seed, self._batch = batches, seed, batch
        self._device = module.depth.weight.device
        self._cast = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")
        severity = [SEVERITY[name] for name in OF_PICTURES]
        self._severity = torch.tensor([*severity, 0.0], device=self._device)

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        trunk = name.startswith("net.") and not name.startswith(("net.stem", "net.to_"))
        return trunk and parameter.ndim >= 4

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        random = generator(self._seed + 1, step, self._device)
        batch = self._batches(step, self._batch)
        parts = self._of_pictures(batch, step, random) | self._of_motion(batch, step, random)
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}

    def _of_pictures(self, batch: FeatureBatch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of tasks on single pictures."""
        count, device = len(batch.video), self._device
        kind = torch.randint(len(OF_PICTURES), (count,), generator=torch.Generator().manual_seed(2 * step))
        first, second = uniform(0.05, 1, (2, count), random)
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        clean = batch.video[:, 0]
        before = random.get_state()
        degraded = []
        for dose in (low, high):  # by the same chances
            random.set_state(before)
            degraded.append(degrade(batch.video[:, :1], kind, dose, random, OF_PICTURES)[:, 0])
        with self._cast:
            seen = self.module.net(torch.cat([clean, *degraded, batch.other]))
            guess = self.module.depth(seen.scales[2][:count] * 8)[:, 0]
        original, mild, severe, other = _split(seen, 4)
        kind = kind.to(device)
        near, far = self.module.net.distance(original, mild), self.module.net.distance(original, severe)
        severity = self._severity[kind]
        apart = smooth_l1_loss(near, severity * low, beta=0.1) + smooth_l1_loss(
            far, severity * high, beta=0.1
        )
        return {
            "distance": 8 * apart,
            "rank": softplus((near - far) * 20 + 4 * severity * (high - low)).mean(),
            "view": _view_loss(original.view, other.view, mild.view, severe.view, severity, low, high),
            **self._blind(torch.cat([original.frame, mild.frame, severe.frame]), kind, low, high),
            "words": self._of_words(original, batch),
            "depth": _depth_loss(guess.float(), batch),
        }

    def _blind(self, frame: Tensor, kind: Tensor, low: Tensor, high: Tensor) -> dict[str, Tensor]:
        """Return the losses of naming degradations without the original."""
        nothing = torch.full_like(kind, len(OF_PICTURES))
        kinds, doses = torch.cat([nothing, kind, kind]), torch.cat([torch.zeros_like(low), low, high])
        sure = torch.cat([torch.ones_like(low), low, high])
        heads = self.module
        active = relu(frame)
        named = cross_entropy(heads.picture_kind(active), kinds, reduction="none")
        guessed = heads.picture_dose(active).gather(1, kinds[:, None])[:, 0]
        return {
            "picture_kind": 0.5 * (named * sure).mean(),
            "picture_dose": 4 * smooth_l1_loss(guessed, doses, beta=0.2),
        }

    def _of_words(self, original: Seen, batch: FeatureBatch) -> Tensor:
        both = torch.cat([relu(original.frame), original.view * 8], 1)
        logits = self.module.words(both)
        each = binary_cross_entropy_with_logits(logits, batch.words, reduction="none").mean(1)
        return (each * batch.labelled).sum() / batch.labelled.sum().clamp_min(1)

    def _of_motion(self, batch: FeatureBatch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of naming what is wrong with the motion of clips."""
        count, frames = batch.video.shape[:2]
        host = torch.Generator().manual_seed(2 * step + 1)
        kind = torch.randint(len(OF_MOTION), (count,), generator=host)
        kind[torch.rand(count, generator=host) < CLEAN_SHARE] = len(OF_MOTION)
        dose = uniform(0.15, 1, (count,), random)
        shown = degrade(batch.video, kind, dose, random, OF_MOTION)
        kind = kind.to(self._device)
        moving = batch.video.diff(dim=1).abs().mean((1, 2, 3, 4)) > _STILL
        for index, name in enumerate(OF_MOTION):
            if name in _NEEDS_MOTION:
                kind = torch.where((kind == index) & ~moving, len(OF_MOTION), kind)
        dose = torch.where(kind == len(OF_MOTION), 0.0, dose)
        with self._cast:
            seen = self.module.net(shown.flatten(0, 1))
            scale, frame = (x.unflatten(0, (count, frames)) for x in (seen.scales[2], seen.frame))
            clip = self.module.net.clip_features(scale, frame)
        active = relu(clip.float())
        guessed = self.module.motion_dose(active).gather(1, kind[:, None])[:, 0]
        return {
            "motion_kind": cross_entropy(self.module.motion_kind(active), kind),
            "motion_dose": 4 * smooth_l1_loss(guessed, dose, beta=0.2),
        }


def _split(seen: Seen, parts: int) -> list[Seen]:
    scales = zip(*(scale.chunk(parts) for scale in seen.scales))
    rest = zip(seen.frame.chunk(parts), seen.view.chunk(parts))
    return [Seen(list(scale), frame, view) for scale, (frame, view) in zip(scales, rest)]


def _view_loss(
    original: Tensor, other: Tensor, mild: Tensor, severe: Tensor, severity: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return the loss of telling another view of the same from views of others, and from what is degraded."""
    logits = original @ other.T / _TEMPERATURE
    same = torch.arange(len(logits), device=logits.device)
    contrast = (cross_entropy(logits, same) + cross_entropy(logits.T, same)) / 2
    good, fair, poor = ((other * view).sum(1) for view in (original, mild, severe))
    order = softplus((fair - good) * 10 + 3 * severity * low)
    order = order + softplus((poor - fair) * 10 + 3 * severity * (high - low))
    return 0.5 * contrast + order.mean()


def _depth_loss(guess: Tensor, batch: FeatureBatch) -> Tensor:
    """Return the loss of the log-depth of each picture up to one offset."""
    depth = interpolate(batch.depth[:, None], guess.shape[-2:], mode="nearest-exact")[:, 0]
    usable = torch.isfinite(depth) & (depth > 0) & batch.labelled[:, None, None]
    difference = torch.where(usable, guess - depth.where(usable, torch.ones_like(depth)).log(), 0.0)
    offset = difference.sum((1, 2), keepdim=True) / usable.sum((1, 2), keepdim=True).clamp_min(1)
    return 0.3 * ((difference - offset).abs() * usable).sum() / usable.sum().clamp_min(1)
