"""What is pointed at in one frame of a clip, and how frames are handed to what finds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Prompt:
    """Box, points or words, in pixels of the frames that a selector is given; pixel 0 covers 0 to 1."""

    frame: int = 0
    box: tuple[float, float, float, float] | None = None  # x, y, width, height
    points: tuple[Point, ...] = ()  # x, y of what is meant
    others: tuple[Point, ...] = ()  # x, y of what is not meant
    words: str | None = None


class Frames(Protocol):
    """A clip's frames, read one at a time."""

    def __len__(self) -> int: ...

    def rgb(self, number: int) -> np.ndarray:
        """Return a frame [H,W,3] uint8."""
        ...

    def depth(self, number: int) -> np.ndarray | None:
        """Return its z-depth [H,W], 0 or not finite where unknown; None if there is none."""
        ...


class Selector(Protocol):
    """What finds the thing that a prompt means in every frame."""

    def select(self, frames: Frames, prompt: Prompt) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (frame, mask [H,W] bool) of every frame once, in any order."""
        ...


class NotFound(ValueError):
    """A prompt means nothing that can be found; the message says what, without naming the clip."""
