"""What a published protocol consists of, and the videos that one compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

Pair = tuple[np.ndarray, np.ndarray | None]  # a true frame uint8 [H, W, 3], its scored pixels bool [H, W]


@dataclass(frozen=True)
class Metric:
    """A column of the paper's table, and its definition."""

    name: str
    higher_is_better: bool
    digits: int
    definition: str


@dataclass(frozen=True)
class Published:
    """A row of a published table: the method, its values by metric, and where they are printed."""

    method: str
    values: dict[str, float]
    source: str


@dataclass(frozen=True)
class Truth:
    """A true video of the split: its name, the scene whose frames are averaged together, and its frames."""

    name: str
    scene: str
    frames: Callable[[], Iterator[Pair]] = field(repr=False)


@dataclass(frozen=True)
class Protocol:
    """A published protocol: split, frames and size that are compared, metrics, and the published rows."""

    name: str
    title: str
    paper: str
    scenes: tuple[str, ...]  # of the published split
    metrics: tuple[Metric, ...]
    published: tuple[Published, ...]
    truths: Callable[[str, str], list[Truth]]  # (folder of truth, scene) -> its videos; ClipError if unusable
    needs: str  # what `--truth` names
    samples: Callable[[str, str], list[str]]  # (folder of results, name of a truth) -> its videos
    frames: int | None = None  # per video; None: as the truth has
    size: tuple[int, int] | None = None  # height, width; None: as the truth has
