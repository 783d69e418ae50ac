"""The frames of a clip at its own size, one by one in any order, with a few of them in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip

BLOCK = 16  # frames: of 1080p, 100 MB


class ClipFrames:
    """Gives frames of a clip. Decoding goes on where it was; a step back by more than BLOCK begins anew."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self._source = clip, open_clip(clip)
        self._coming: Iterator[np.ndarray] = iter(())
        self._next = 0  # the number of the frame that comes next
        self._kept: dict[int, np.ndarray] = {}

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the frames uint8 [t, H, W, 3] of these numbers [t], in the order given."""
        return np.stack([self._frame(int(number)) for number in numbers])

    def _frame(self, number: int) -> np.ndarray:
        if number not in self._kept:
            first = number - number % BLOCK
            if first != self._next or not first:
                self._coming, self._next = self._source.frames(first), first
            self._kept = {}
            for frame in self._coming:
                self._kept[self._next] = frame
                self._next += 1
                if len(self._kept) == BLOCK:
                    break
            if number not in self._kept:
                raise ValueError(
                    f"clip {self._clip.id!r}: frame {number} cannot be read at full size; the file is "
                    "damaged or has changed: repair it, or scan the dataset again"
                )
        return self._kept[number]
