"""Checkpoints of trainings, stored beside the artifacts until a training's own artifact exists.

Layout: {root}/checkpoints/{stage}/{key}/state.safetensors and curve.json. Each file is complete or absent;
the curve is written first and may contain more steps than the state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from recapture.datasets.store.storage import check_plain, open_filesystem, put_file, remove_tree

STATE, CURVE = "state.safetensors", "curve.json"
Point = tuple[int, dict[str, float]]


class Checkpoint:
    """The checkpoint of one training."""

    def __init__(self, root: str, stage: str, key: str) -> None:
        check_plain("stage", stage)
        check_plain("key", key)
        self._filesystem, base = open_filesystem(root)
        self.folder = f"{base}/checkpoints/{stage}/{key}"

    def save(self, state: bytes, curve: list[Point]) -> None:
        """Replace the saved state. Raises StoreFailed if the store refuses; the old state is then kept."""
        self.put(CURVE, json.dumps(curve).encode())
        self.put(STATE, state)

    def load(self) -> tuple[bytes, list[Point]] | None:
        """Return state and curve, or None if nothing was saved."""
        self._filesystem.invalidate_cache()
        if not self._filesystem.exists(f"{self.folder}/{STATE}"):
            return None
        state = bytes(self._filesystem.cat_file(f"{self.folder}/{STATE}"))
        curve = json.loads(self._filesystem.cat_file(f"{self.folder}/{CURVE}"))
        return state, [(step, values) for step, values in curve]

    def put(self, name: str, content: bytes) -> str:
        """Write a file into the folder and return its path."""
        path = f"{self.folder}/{name}"
        put_file(self._filesystem, path, content)
        return path

    def forget(self) -> None:
        """Remove the checkpoint and all files beside it."""
        remove_tree(self._filesystem, self.folder)


def curve_until(curve: list[Point], step: int) -> list[Point]:
    """Return the points of a curve up to a step, that of the saved state."""
    return [point for point in curve if point[0] <= step]


def columns(curve: list[Point]) -> Mapping[str, list[tuple[int, float]]]:
    """Return each quantity of a curve by itself: name -> steps and values."""
    names = dict.fromkeys(name for _, values in curve for name in values)
    return {name: [(step, values[name]) for step, values in curve if name in values] for name in names}
