"""Clips for the feature network: procedural scenes, and photographs that a camera moves over."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from recapture.datasets.scenes.photographs import photographs
from recapture.models.pretraining.features import FeatureBatch
from recapture.models.training.seeds import generator, uniform
from recapture.tasks.pretrain.data import SceneMixture

FRAMES = 8  # of a batch's clips
_POOL_FRAMES = 12
_POOL_SIZE = 144, 176  # of the clips that batches are cut from, at a side of 128
_AT_ONCE = 48  # clips rendered at once
_PHOTOGRAPHED = 4  # every fourth clip of a batch


class FeatureClips:
    """Batches cut from a pool of rendered clips, made again every `epoch` steps; a quarter is photographs."""

    def __init__(
        self, stream: SceneMixture, words: Sequence[str], seed: int, clips: int, epoch: int, side: int
    ) -> None:
        self._stream, self._seed, self._clips, self._epoch, self._side = stream, seed, clips, epoch, side
        self._height, self._width = (math.ceil(length * side / 128) for length in _POOL_SIZE)
        self._words = caption_table(stream.captions, words).to(stream.device)
        self._pictures = photographs().to(stream.device)
        self._made = -1
        self._video = self._depth = self._scene = torch.empty(0)

    def __call__(self, step: int, count: int) -> FeatureBatch:
        if step // self._epoch != self._made:
            self._made = step // self._epoch
            self._render(self._made)
        random = generator(self._seed + 29, step, self._stream.device)
        number = count // _PHOTOGRAPHED
        scenes, pictures = self._of_scenes(count - number, random), self._of_pictures(number, random)
        return FeatureBatch(*(torch.cat([one, other]) for one, other in zip(scenes, pictures)))

    def _render(self, epoch: int) -> None:
        video, depth, scene = [], [], []
        for start in range(0, self._clips, _AT_ONCE):
            seed = (self._seed * 1013 + epoch) * 1_000_003 + start
            count = min(_AT_ONCE, self._clips - start)
            drawn = self._stream.draw(seed, count, _POOL_FRAMES, self._height, self._width)
            video.append(((drawn.video + 1) * 127.5).round().clamp(0, 255).byte())
            depth.append(drawn.depth.half())
            scene.append(drawn.scene_index.to(drawn.video.device))
        self._video, self._depth, self._scene = torch.cat(video), torch.cat(depth), torch.cat(scene)

    def _of_scenes(self, count: int, random: torch.Generator) -> FeatureBatch:
        device, side = self._video.device, self._side
        _, frames, _, height, width = self._video.shape

        def drawn(room: int) -> Tensor:
            return torch.randint(room + 1, (count, 1), generator=random, device=device)

        clip = torch.randint(len(self._video), (count,), generator=random, device=device)
        along = torch.arange(side, device=device)
        t = drawn(frames - FRAMES) + torch.arange(FRAMES, device=device)
        y, x = drawn(height - side) + along, drawn(width - side) + along
        video = self._cut(clip, t, y, x)
        other = self._cut(clip, drawn(frames - 1), drawn(height - side) + along, drawn(width - side) + along)
        depth = self._depth[clip[:, None, None], t[:, :1, None], y[:, :, None], x[:, None, :]].float()
        known = torch.ones(count, dtype=torch.bool, device=device)
        return FeatureBatch(video, other[:, 0], self._words[self._scene[clip]], depth, known)

    def _cut(self, clip: Tensor, t: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return windows [B, T, 3, S, S] of clips."""
        cut = self._video[
            clip[:, None, None, None], t[:, :, None, None], :, y[:, None, :, None], x[:, None, None, :]
        ]
        return cut.permute(0, 1, 4, 2, 3).float() / 127.5 - 1

    def _of_pictures(self, count: int, random: torch.Generator) -> FeatureBatch:
        device, side = self._pictures.device, self._side
        index = torch.randint(len(self._pictures), (count,), generator=random, device=device)
        picture = self._pictures[index].float() / 127.5 - 1
        start, end, other = (_window(count, random) for _ in range(3))
        end = torch.lerp(start, end, uniform(0, 0.4, (count, 1, 1), random))
        share = torch.linspace(0, 1, FRAMES, device=device)[None, :, None, None]
        path = torch.lerp(start[:, None], end[:, None], share)  # [B, T, 3, 3]
        frames = _looked_at(picture, torch.cat([path, other[:, None]], 1), side)
        nothing = torch.zeros((count, self._words.shape[1]), device=device)
        depth = torch.ones((count, side, side), device=device)
        known = torch.zeros(count, dtype=torch.bool, device=device)
        return FeatureBatch(frames[:, :FRAMES], frames[:, FRAMES], nothing, depth, known)


def caption_table(captions: Sequence[str], words: Sequence[str]) -> Tensor:
    """Return which of the words each caption holds, float [captions, words]."""
    place = {word: index for index, word in enumerate(words)}
    table = torch.zeros((len(captions), len(words)))
    for row, caption in enumerate(captions):
        found = [place[word] for word in re.findall(r"\w+", caption.lower()) if word in place]
        table[row, found] = 1
    return table


def _window(count: int, random: torch.Generator) -> Tensor:
    """Return homographies [B, 3, 3] from [-1, 1]^2 to a window of a picture: turned, nearer, tilted."""
    turn, size = uniform(-0.3, 0.3, (count,), random), uniform(0.3, 0.75, (count,), random)
    matrix = torch.zeros((count, 3, 3), device=random.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = size * turn.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -size * turn.sin(), size * turn.sin()
    matrix[:, :2, 2] = uniform(-1, 1, (count, 2), random) * (1 - size)[:, None]
    matrix[:, 2, :2] = uniform(-0.25, 0.25, (count, 2), random)
    matrix[:, 2, 2] = 1
    return matrix


def _looked_at(picture: Tensor, windows: Tensor, side: int) -> Tensor:
    """Return frames [B, T, 3, S, S] of pictures [B, 3, P, P] through windows [B, T, 3, 3]."""
    batch, frames = windows.shape[:2]
    at = (torch.arange(2 * side, device=picture.device) + 0.5) / side - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1)  # twice as fine, then averaged
    seen = torch.einsum("btij,hwj->bthwi", windows, points)
    grid = seen[..., :2] / seen[..., 2:]
    shown = picture[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)
    fine = grid_sample(shown, grid.flatten(0, 1), padding_mode="reflection", align_corners=False)
    return torch.nn.functional.avg_pool2d(fine, 2).unflatten(0, (batch, frames))
