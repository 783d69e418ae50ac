"""Degradations of clips with a dose: what a judge of pictures must notice, and put in order.

All take clips [B, T, 3, H, W] in [-1, 1] and a dose per clip in [0, 1]; 0 changes nothing. Lengths in pixels
are those at a shorter side of 128 and grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, interpolate, pad

from recapture.models.training.seeds import uniform

Degradation = Callable[[Tensor, Tensor, torch.Generator], Tensor]
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def blur(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Blur by a Gaussian of up to 4 pixels."""
    return blurred(video, 4.0 * dose)


def noise(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Add Gaussian noise of up to 0.4 in units of [-1, 1]."""
    drawn = torch.randn(video.shape, generator=random, device=random.device)
    return (video + 0.4 * _each(dose) * drawn).clamp(-1, 1)


def colour(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Turn hues by up to 120 degrees, and add a cast."""
    batch = len(video)
    sign = torch.where(uniform(0, 1, (batch,), random) < 0.5, -1.0, 1.0)
    turn = sign * dose * math.radians(120)
    there = torch.tensor(_TO_YIQ)
    to_yiq, back = there.to(video.device), torch.linalg.inv(there).to(video.device)
    middle = torch.zeros((batch, 3, 3), device=video.device)
    middle[:, 0, 0] = 1
    middle[:, 1, 1] = middle[:, 2, 2] = turn.cos()
    middle[:, 1, 2], middle[:, 2, 1] = -turn.sin(), turn.sin()
    matrix = back @ middle @ to_yiq
    towards = uniform(0, 2 * math.pi, (batch,), random)
    cast = torch.stack([torch.zeros_like(dose), towards.cos(), towards.sin()], 1) * 0.25 * dose[:, None]
    offset = cast @ back.T
    turned = torch.einsum("bij,btjhw->btihw", matrix, video) + offset[:, None, :, None, None]
    return turned.clamp(-1, 1)


def block(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Replace blocks of 8 x 8 pixels by their mean, up to wholly."""
    size = max(2, round(8 * _scale(video)))
    flat = video.flatten(0, 1)
    height, width = flat.shape[-2:]
    padded = pad(flat, (0, -width % size, 0, -height % size), mode="replicate")
    means = interpolate(avg_pool2d(padded, size), scale_factor=float(size), mode="nearest")
    return torch.lerp(video, means[..., :height, :width].reshape(video.shape), _each(dose))


def warp(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Bend the picture, the same in all frames, by up to about 8 pixels."""
    field = _bend(len(video), video.shape[-2:], random)[:, None].expand(-1, video.shape[1], -1, -1, -1)
    return _moved(video, field * _each(dose) * 8 * _scale(video))


def double(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Lay the picture, moved by 6 to 12 pixels, over itself, up to half of each."""
    batch = len(video)
    towards, away = uniform(0, 2 * math.pi, (batch,), random), uniform(6, 12, (batch,), random)
    shift = torch.stack([towards.cos(), towards.sin()], 1) * away[:, None] * _scale(video)
    field = shift[:, None, :, None, None].expand(-1, video.shape[1], -1, *video.shape[-2:])
    return torch.lerp(video, _moved(video, field), 0.5 * _each(dose))


def smear(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Blur regions beyond recognition, up to about half of the picture: a poorly filled hole."""
    area = _bend(len(video), video.shape[-2:], random, cells=5)[:, :1, None]  # [B, 1, 1, H, W]
    bound = torch.quantile(area.flatten(1), 0.5 * dose.clamp(0, 1), dim=1).diagonal()
    hidden = ((bound[:, None, None, None, None] - area) * 20).sigmoid() * (_each(dose) > 0)
    return torch.lerp(video, blurred(video, torch.full_like(dose, 6.0)), hidden)


def gain(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Change contrast by up to a third: to eyes the mildest of all."""
    sign = torch.where(uniform(0, 1, (len(video),), random) < 0.5, -1.0, 1.0)
    return (video * (1 + 0.33 * _each(sign * dose))).clamp(-1, 1)


def freeze(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Hold every frame for longer, up to all of the clip."""
    frames = video.shape[1]
    hold = 1 + (dose * (frames - 1)).round()
    at = torch.arange(frames, device=video.device)
    return _picked(video, ((at / hold[:, None]).floor() * hold[:, None]).long())


def shuffle(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Change the order of frames, up to any order."""
    batch, frames = video.shape[:2]
    drawn = uniform(-0.5, 0.5, (batch, frames), random) * frames * 1.5
    return _picked(video, (torch.arange(frames, device=video.device) + dose[:, None] * drawn).argsort(1))


def flicker(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Make every frame brighter or darker by chance, by up to 0.4 in units of [-1, 1]."""
    drawn = uniform(-0.4, 0.4, (*video.shape[:2], 1, 1, 1), random)
    return (video + drawn * _each(dose)).clamp(-1, 1)


def jitter(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Move every frame by chance, by up to 6 pixels."""
    drawn = uniform(-6, 6, (*video.shape[:2], 2, 1, 1), random) * _scale(video)
    return _moved(video, (drawn * _each(dose)).expand(-1, -1, -1, *video.shape[-2:]))


def ghost(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Let earlier frames show through: a trail whose share grows to 0.8."""
    share, shown = 0.8 * dose[:, None, None, None], [video[:, 0]]
    for frame in range(1, video.shape[1]):
        shown.append(torch.lerp(video[:, frame], shown[-1], share))
    return torch.stack(shown, 1)


def wobble(video: Tensor, dose: Tensor, random: torch.Generator) -> Tensor:
    """Bend every frame differently, by up to about 5 pixels."""
    field = _bend(video.shape[0] * video.shape[1], video.shape[-2:], random)
    return _moved(video, field.unflatten(0, video.shape[:2]) * _each(dose) * 5 * _scale(video))


OF_PICTURES: dict[str, Degradation] = {
    one.__name__: one for one in (blur, noise, colour, block, warp, double, smear, gain)
}
OF_MOTION: dict[str, Degradation] = {
    one.__name__: one for one in (freeze, shuffle, flicker, jitter, ghost, wobble)
}
# How bad a dose of 1 looks, relative to the worst. By eye, on scenes and photographs.
SEVERITY = {"blur": 1.0, "noise": 1.0, "colour": 0.8, "block": 1.0, "warp": 0.7, "double": 0.8, "smear": 0.8}
SEVERITY["gain"] = 0.2


def degrade(
    video: Tensor,  # [B, T, 3, H, W] in [-1, 1]
    kind: Tensor,  # [B] int64 on the CPU, into `kinds`; len(kinds) changes nothing
    dose: Tensor,  # [B]
    random: torch.Generator,
    kinds: dict[str, Degradation],
) -> Tensor:
    """Return every clip degraded in its own way."""
    result = video.clone()
    for index, function in enumerate(kinds.values()):
        rows = (kind == index).nonzero()[:, 0].to(video.device)
        if len(rows):
            result[rows] = function(video[rows], dose[rows], random)
    return result


def blurred(video: Tensor, sigma: Tensor) -> Tensor:
    """Return clips [B, T, 3, H, W] blurred by Gaussians of sigma [B] pixels at a side of 128."""
    sigma = (sigma * _scale(video)).clamp_min(1e-3)
    radius = min(min(video.shape[-2:]) - 1, max(1, math.ceil(3 * 6 * _scale(video))))
    at = torch.arange(-radius, radius + 1, device=video.device)
    kernel = (-0.5 * (at / sigma[:, None]).square()).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None, None]
    flat = video.flatten(1, 2).transpose(0, 1)  # [T * 3, B, H, W]
    flat = conv2d(pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel, groups=len(video))
    kernel = kernel.transpose(2, 3)
    flat = conv2d(pad(flat, (0, 0, radius, radius), mode="replicate"), kernel, groups=len(video))
    return flat.transpose(0, 1).unflatten(1, video.shape[1:3])


def _each(dose: Tensor) -> Tensor:
    return dose.reshape(-1, 1, 1, 1, 1)


def _scale(video: Tensor) -> float:
    return float(min(video.shape[-2:])) / 128


def _picked(video: Tensor, index: Tensor) -> Tensor:
    """Return the frames index [B, T] of each clip."""
    return video[torch.arange(len(video), device=video.device)[:, None], index]


def _bend(count: int, size: tuple[int, ...], random: torch.Generator, cells: int = 6) -> Tensor:
    """Return smooth random fields [count, 2, H, W] with deviation 0.5 or so."""
    coarse = torch.randn((count, 2, cells, cells), generator=random, device=random.device)
    return 0.7 * interpolate(coarse, tuple(size), mode="bicubic", align_corners=True)


def _moved(video: Tensor, field: Tensor) -> Tensor:
    """Look each pixel up `field` [B, T, 2, H, W] pixels to the right and below."""
    height, width = video.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=video.device), torch.arange(width, device=video.device), indexing="ij"
    )
    flat = field.flatten(0, 1)
    grid = torch.stack([2 * (x + flat[:, 0] + 0.5) / width - 1, 2 * (y + flat[:, 1] + 0.5) / height - 1], -1)
    moved = grid_sample(video.flatten(0, 1), grid, padding_mode="reflection", align_corners=False)
    return moved.reshape(video.shape)
