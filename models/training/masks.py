"""Draw the holes of a general video inpainter: boxes, ellipses, brushes, thin shapes, borders, frames.

There are none of parallax: the base must not have seen the holes of a camera move, so that tuning on them
has an honest gap to close.
Every function returns visible [B, T, H, W] bool, True where the pixel is known.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.training.seeds import uniform

SHARES: Mapping[str, float] = {
    "boxes": 0.13,
    "ellipses": 0.07,
    "brushes": 0.12,
    "thin": 0.11,
    "objects": 0.25,
    "border": 0.07,
    "first_frame": 0.09,
    "first_frames": 0.05,
    "both_ends": 0.04,
    "some_frames": 0.04,
    "nothing": 0.03,
}
_Size = tuple[int, int, int]


def draw_masks(object_id: Tensor, random: torch.Generator, shares: Mapping[str, float] = SHARES) -> Tensor:
    """Draw one mask per clip of object_id [B, T, H, W] (0 room, 1.. objects), its family by `shares`."""
    batch, frames, height, width = object_id.shape
    size = (frames, height, width)
    weights = torch.tensor(list(shares.values()), device=random.device)
    family = torch.multinomial(weights, batch, replacement=True, generator=random)
    visible = torch.ones_like(object_id, dtype=torch.bool)
    for index, name in enumerate(shares):
        drawn = objects(object_id, random) if name == "objects" else FAMILIES[name](batch, size, random)
        visible = torch.where((family == index)[:, None, None, None], drawn, visible)
    return visible


def boxes(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Hide one to four boxes per clip that drift in a straight line."""
    return _blobs(batch, size, random, "box")


def ellipses(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Hide one to four ellipses per clip that drift in a straight line."""
    return _blobs(batch, size, random, "ellipse")


def brushes(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Hide two strokes per clip: thick wavy lines that drift."""
    y, x, t = _grid(size, random.device)
    hidden = torch.zeros((batch, *size), dtype=torch.bool, device=random.device)
    for _ in range(2):
        turn = uniform(0, 2 * torch.pi, (batch, 1, 1, 1), random)
        along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
        wave = torch.zeros_like(across)
        for _ in range(2):
            phase, rate = uniform(0, 6.3, (batch, 1, 1, 1), random), uniform(1, 6, (batch, 1, 1, 1), random)
            wave = wave + uniform(0.03, 0.15, (batch, 1, 1, 1), random) * torch.sin(rate * along + phase)
        middle = uniform(-0.6, 0.6, (batch, 1, 1, 1), random)
        drift = uniform(-0.5, 0.5, (batch, 1, 1, 1), random) * t
        centre = turn.sin() * -0.5 + turn.cos() * 0.5
        thickness = uniform(0.02, 0.16, (batch, 1, 1, 1), random)
        hidden |= (across - centre - middle - drift - wave).abs() < thickness
    return ~hidden


def border(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Show a rectangle only, still or drifting: outpainting."""
    y, x, t = _grid(size, random.device)
    half_x, half_y = (uniform(0.25, 0.48, (batch, 1, 1, 1), random) for _ in range(2))
    to_x, to_y = (uniform(-0.2, 0.2, (batch, 1, 1, 1), random) for _ in range(2))
    from_x, from_y = (uniform(0.35, 0.65, (batch, 1, 1, 1), random) for _ in range(2))
    return ((x - from_x - to_x * t).abs() < half_x) & ((y - from_y - to_y * t).abs() < half_y)


def first_frame(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Show the first frame only."""
    visible = torch.zeros((batch, *size), dtype=torch.bool, device=random.device)
    visible[:, 0] = True
    return visible


def first_frames(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Show the first two frames to two thirds of the clip only: how things move can be seen."""
    frames = size[0]
    last = uniform(1, max(1.0, frames * 2 / 3), (batch, 1), random).ceil()
    shown = torch.arange(frames, device=random.device) <= last
    return shown[:, :, None, None].expand(batch, *size)


def both_ends(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Show one to three frames at each end only."""
    frames = size[0]
    index = torch.arange(frames, device=random.device)
    head, tail = (uniform(1, 3.999, (batch, 1), random).floor() for _ in range(2))
    shown = (index < head) | (index >= frames - tail)
    return shown[:, :, None, None].expand(batch, *size)


def thin(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Hide strips, dots or crescents, a third of the clips each, a few pixels wide and drifting."""
    kind = torch.randint(3, (batch, 1, 1, 1), generator=random, device=random.device)
    parts = [draw(batch, size, random) for draw in (_strips, _dots, _crescents)]
    return torch.where(kind == 0, parts[0], torch.where(kind == 1, parts[1], parts[2]))


def _strips(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    y, x, t = _grid(size, random.device)
    turn = uniform(0, torch.pi, (batch, 1, 1, 1), random)
    period, share = uniform(0.07, 0.3, (batch, 1, 1, 1), random), uniform(0.1, 0.45, (batch, 1, 1, 1), random)
    drift, phase = uniform(-0.5, 0.5, (batch, 1, 1, 1), random), uniform(0, 1, (batch, 1, 1, 1), random)
    along = (x * turn.cos() + y * turn.sin() - drift * t) / period + phase
    return along - along.floor() >= share


def _dots(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    y, x, t = _grid(size, random.device)
    period, radius = (
        uniform(0.08, 0.25, (batch, 1, 1, 1), random),
        uniform(0.15, 0.45, (batch, 1, 1, 1), random),
    )
    to_x, to_y, seed = (uniform(-0.4, 0.4, (batch, 1, 1, 1), random) for _ in range(3))
    across, down = (x - to_x * t) / period + 50, (y - to_y * t) / period + 50
    column, row = across.floor(), down.floor()

    def chance(salt: float) -> Tensor:
        value = torch.sin(column * 12.9898 + row * 78.233 + (seed + salt) * 37.719) * 43758.5453
        return value - value.floor()

    off_x, off_y = (chance(salt) * (1 - 2 * radius) + radius for salt in (1.0, 2.0))
    inside = (across - column - off_x) ** 2 + (down - row - off_y) ** 2 < radius**2
    return ~(inside & (chance(3.0) < 0.7))


def _crescents(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    y, x, t = _grid(size, random.device)
    hidden = torch.zeros((batch, *size), dtype=torch.bool, device=random.device)
    for _ in range(4):
        half_x, half_y = (uniform(0.08, 0.35, (batch, 1, 1, 1), random) for _ in range(2))
        from_x, from_y = (uniform(0.1, 0.9, (batch, 1, 1, 1), random) for _ in range(2))
        to_x, to_y = (uniform(-0.3, 0.3, (batch, 1, 1, 1), random) for _ in range(2))
        turn, width = (
            uniform(0, 2 * torch.pi, (batch, 1, 1, 1), random),
            uniform(0.02, 0.1, (batch, 1, 1, 1), random),
        )
        across, down = x - from_x - to_x * t, y - from_y - to_y * t
        body = (across / half_x) ** 2 + (down / half_y) ** 2 < 1
        moved = ((across - width * turn.cos()) / half_x) ** 2 + (
            (down - width * turn.sin()) / half_y
        ) ** 2 < 1
        hidden |= body & ~moved
    return ~hidden


def some_frames(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Show each frame, whole, with a probability drawn per clip."""
    share = uniform(0.1, 0.9, (batch, 1), random)
    shown = uniform(0, 1, (batch, size[0]), random) < share
    return shown[:, :, None, None].expand(batch, *size)


def nothing(batch: int, size: _Size, random: torch.Generator) -> Tensor:
    """Hide everything."""
    return torch.zeros((batch, *size), dtype=torch.bool, device=random.device)


def objects(object_id: Tensor, random: torch.Generator) -> Tensor:
    """Hide one whole object of each clip in all frames, with a margin: only the caption can say what it was.

    object_id: [B, T, H, W] int64. A clip without objects in view stays whole.
    """
    batch, frames, height, width = object_id.shape
    count = 16
    present = torch.zeros((batch, count), device=object_id.device)
    labels = object_id.clamp(0, count - 1).flatten(1)
    present.scatter_add_(1, labels, torch.ones_like(labels, dtype=present.dtype))
    large = present > 0.004 * frames * height * width
    score = uniform(0, 1, (batch, count), random) * large
    score[:, 0] = 0
    chosen = score.argmax(1)
    hidden = (object_id == chosen[:, None, None, None]) & (chosen > 0)[:, None, None, None]
    wide = max_pool2d(hidden.flatten(0, 1)[:, None].float(), 5, 1, 2) > 0
    return ~wide[:, 0].unflatten(0, (batch, frames))


FAMILIES = {
    "boxes": boxes,
    "ellipses": ellipses,
    "brushes": brushes,
    "thin": thin,
    "border": border,
    "first_frame": first_frame,
    "first_frames": first_frames,
    "both_ends": both_ends,
    "some_frames": some_frames,
    "nothing": nothing,
}


def _grid(size: _Size, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    frames, height, width = size
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    t = torch.arange(frames, device=device) / max(1, frames - 1)
    return y[None, None, :, None], x[None, None, None, :], t[None, :, None, None]


def _blobs(batch: int, size: _Size, random: torch.Generator, shape: str) -> Tensor:
    y, x, t = _grid(size, random.device)
    hidden = torch.zeros((batch, *size), dtype=torch.bool, device=random.device)
    for number in range(4):
        wanted = uniform(0, 1, (batch, 1, 1, 1), random) < 1 / (number + 1)
        largest = 0.35 if number == 0 else 0.22
        half_x, half_y = (uniform(0.06, largest, (batch, 1, 1, 1), random) for _ in range(2))
        from_x, from_y = (uniform(0, 1, (batch, 1, 1, 1), random) for _ in range(2))
        to_x, to_y = (uniform(-0.4, 0.4, (batch, 1, 1, 1), random) for _ in range(2))
        across, down = (x - from_x - to_x * t) / half_x, (y - from_y - to_y * t) / half_y
        if shape == "box":
            inside = (across.abs() < 1) & (down.abs() < 1)
        else:
            inside = across**2 + down**2 < 1
        hidden |= inside & wanted
    return ~hidden
