"""The pictures of each output frame, collected from a clip's artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.filled_frames import SHOWN, joined
from recapture.tasks.clip.scene_reader import read_truth
from recapture.tasks.clip.sheets import contact_sheet, png_bytes, spread, spread_picture, visibility_picture

CHUNK = 32
GAP = 4


class Rows:
    """The pictures of each output frame, cut to the content and read in chunks, once each."""

    def __init__(self, clip: Clip, inputs: Mapping[str, Artifact], path: Mapping[str, np.ndarray]) -> None:
        self.clip, self.inputs, self.path = clip, inputs, path
        self.height, self.width = inputs["ingest"].meta["content"]

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return len(self.path["source_frame"])

    def pictures(self, *kinds: str) -> Iterator[dict[str, np.ndarray]]:
        """Yield kind -> uint8 [h,w,3] of each frame, for the kinds source, render, result and spread.

        Of the kind visible, bool [h,w]: `Sheet` makes pictures of those that it shows. Of the kind known,
        bool [h,w]: where the result is the render. Of the kind depth, float32 [h,w]: the render's, inf in
        holes. The kind truth is for clips of which `has_truth`.
        """
        for start in range(0, self.frames, CHUNK):
            frames = np.arange(start, min(start + CHUNK, self.frames))
            rows = self._read(frames, kinds)
            for number in range(len(frames)):
                yield {kind: row[number] for kind, row in rows.items()}

    def truth(self, frames: np.ndarray) -> np.ndarray | None:
        """Return what the new cameras really see at single frames, uint8 [t,h,w,3]; None if it is unknown."""
        found = [read_truth(self.clip, self.inputs, self.path, np.array([t])) for t in frames]
        known = [truth["video"] for truth in found if truth is not None]
        return np.concatenate(known)[:, : self.height, : self.width] if known else None

    @property
    def has_truth(self) -> bool:
        """Return whether it is known what the new cameras really see."""
        return self.truth(np.array([0])) is not None

    def _read(self, frames: np.ndarray, kinds: tuple[str, ...]) -> dict[str, np.ndarray]:
        first, last = int(frames[0]), int(frames[-1]) + 1
        shown = self.path["source_frame"][frames]
        rows: dict[str, np.ndarray] = {}
        if "source" in kinds:
            low, high = int(shown.min()), int(shown.max()) + 1
            rows["source"] = self.inputs["ingest"].frames().read(low, high, ["rgb"])["rgb"][shown - low]
        if {"render", "visible", "result", "known", "depth"} & set(kinds):
            asked = (*SHOWN, "depth") if "depth" in kinds else SHOWN
            render = self.inputs["render"].frames().read(first, last, asked)
            rows["render"] = render["rgb"]
            if "visible" in kinds:
                rows["visible"] = render["visible"]
            if "depth" in kinds:
                rows["depth"] = render["depth"]
            if "result" in kinds:
                filled = self.inputs["fill"].frames().read(first, last)
                rows["result"] = joined(filled, render)["rgb"]
                if "spread" in kinds:
                    rows["spread"] = spread_picture(filled["spread"])
            if "known" in kinds:
                rows["known"] = render["visible"] & (rows["result"] == render["rgb"]).all(-1)
        if "truth" in kinds:
            truth = read_truth(self.clip, self.inputs, self.path, frames)
            assert truth is not None  # of no frame or of all
            rows["truth"] = truth["video"]
        return {kind: rows[kind][:, : self.height, : self.width] for kind in kinds}


class Sheet:
    """The pictures of a contact sheet, taken out of all as they pass."""

    def __init__(self, rows: Rows, columns: int, kinds: Sequence[str]) -> None:
        self._rows, self._shown = rows, spread(rows.frames, columns)
        self._kept: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}

    def take(self, t: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Keep the pictures of frame t if the sheet shows it."""
        if t in self._shown:
            for kind, kept in self._kept.items():
                # of one frame, not of the chunk that it is part of
                shown = pictures[kind]
                kept.append(visibility_picture(shown) if kind == "visible" else shown.copy())

    def png(self) -> bytes:
        """Return the sheet, with what the new cameras really see in its last row if that is known."""
        rows = {kind: np.stack(kept) for kind, kept in self._kept.items()}
        truth = self._rows.truth(self._shown)
        if truth is not None:
            rows["truth"] = truth
        return png_bytes(contact_sheet(rows, [f"frame {t}" for t in self._shown]))


def beside(pictures: list[np.ndarray]) -> np.ndarray:
    """Return the pictures [h,w,3] from left to right, with a gap between them."""
    gap = np.full((len(pictures[0]), GAP, 3), 24, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)
