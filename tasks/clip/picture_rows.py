"""The pictures of each output frame, collected from a clip's artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.scene_reader import read_truth
from recapture.tasks.clip.sheets import visibility_picture

CHUNK = 32
GAP = 4


class Rows:
    """The pictures of each output frame, cut to the content and read in chunks."""

    def __init__(self, clip: Clip, inputs: Mapping[str, Artifact], path: Mapping[str, np.ndarray]) -> None:
        self.clip, self.inputs, self.path = clip, inputs, path
        self.height, self.width = inputs["ingest"].meta["content"]

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return len(self.path["source_frame"])

    def beside(self, *kinds: str) -> Iterator[np.ndarray]:
        """Yield uint8 [h,w,3] per frame, with the kinds of picture from left to right."""
        for start in range(0, self.frames, CHUNK):
            chunk = self._read(np.arange(start, min(start + CHUNK, self.frames)), kinds)
            gap = np.full((self.height, GAP, 3), 24, dtype=np.uint8)
            for pictures in zip(*chunk.values(), strict=True):
                parts = [part for picture in pictures for part in (gap, picture)]
                yield np.concatenate(parts[1:], axis=1)

    def at(self, frames: np.ndarray, *kinds: str) -> dict[str, np.ndarray]:
        """Return the kinds of picture at single frames; the truth only if the dataset has it."""
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
        if "truth" in kinds:
            truth = read_truth(self.clip, self.inputs["ingest"], self.path, frames)
            if truth is not None:
                rows["truth"] = truth["video"]
        return {kind: rows[kind][:, : self.height, : self.width] for kind in kinds if kind in rows}
