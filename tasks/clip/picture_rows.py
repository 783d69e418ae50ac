"""The pictures that belong to each output frame, gathered from a clip's artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.sheets import visibility_picture

CHUNK = 32
GAP = 4


class Rows:
    """The pictures that belong to each output frame, cut to the content, read a chunk at a time."""

    def __init__(self, clip: Clip, inputs: Mapping[str, Artifact], path: Mapping[str, np.ndarray]) -> None:
        self.clip, self.inputs, self.path = clip, inputs, path
        self.height, self.width = inputs["ingest"].meta["content"]

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return len(self.path["source_frame"])

    def beside(self, *kinds: str) -> Iterator[np.ndarray]:
        """Yield, frame by frame, uint8 [h,w,3] with the kinds of picture from left to right."""
        for start in range(0, self.frames, CHUNK):
            chunk = self._read(np.arange(start, min(start + CHUNK, self.frames)), kinds)
            gap = np.full((self.height, GAP, 3), 24, dtype=np.uint8)
            for pictures in zip(*chunk.values(), strict=True):
                parts = [part for picture in pictures for part in (gap, picture)]
                yield np.concatenate(parts[1:], axis=1)

    def at(self, frames: np.ndarray, *kinds: str) -> dict[str, np.ndarray]:
        """Return the kinds of picture at single frames; the truth only where the dataset knows it."""
        single = [self._read(np.array([t]), kinds) for t in frames]
        return {kind: np.concatenate([rows[kind] for rows in single]) for kind in single[0]}

    def _read(self, frames: np.ndarray, kinds: tuple[str, ...]) -> dict[str, np.ndarray]:
        first, last = int(frames[0]), int(frames[-1]) + 1
        shown = self.path["source_frame"][frames]
        rows: dict[str, np.ndarray] = {}
        if "source" in kinds:
            low, high = int(shown.min()), int(shown.max()) + 1
            rows["source"] = self.inputs["ingest"].frames().read(low, high, ["rgb"])["rgb"][shown - low]
        if "render" in kinds or "visible" in kinds:
            render = self.inputs["render"].frames().read(first, last, ["rgb", "visible"])
            rows["render"], rows["visible"] = render["rgb"], visibility_picture(render["visible"])
        if "result" in kinds:
            rows["result"] = self.inputs["fill"].frames().read(first, last, ["rgb"])["rgb"]
        if "truth" in kinds and (truth := self._truth(frames, shown)) is not None:
            rows["truth"] = truth
        return {kind: rows[kind][:, : self.height, : self.width] for kind in kinds if kind in rows}

    def _truth(self, frames: np.ndarray, shown: np.ndarray) -> np.ndarray | None:
        truth = open_clip(self.clip).truth(
            self.path["intrinsics"][frames],
            self.path["world_to_camera"][frames],
            shown + self.inputs["ingest"].meta["first_frame"],
            self.height,
            self.width,
        )
        return None if truth is None else truth["video"]
