"""Frames of an artifact for ranges that move forward: what two of them share is read once."""

from __future__ import annotations

import numpy as np

from recapture.datasets.store.artifact import Artifact


class RollingFrames:
    """A reader of ranges of frames that keeps the last range in memory.

    Ranges may begin anywhere; one that begins before the last, or after its end, is read as a whole.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._start = self._stop = 0  # the frames that are held
        self._held: dict[str, np.ndarray] = {}

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Return name -> frames start to stop-1, of all arrays; they must not be changed."""
        if not self._start <= start < self._stop:
            self._held, self._stop = {}, start
        held = {name: array[start - self._start :] for name, array in self._held.items()}
        if self._stop < stop:
            read = self._artifact.frames().read(self._stop, stop)
            held = {name: np.concatenate([held[name], read[name]]) for name in read} if held else read
            self._stop = stop
        self._start, self._held = start, held
        return {name: array[: stop - start] for name, array in held.items()}
