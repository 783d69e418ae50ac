"""Select: what a box, points or words mean in one frame of a clip, followed through all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from recapture.conf.errors import UserError
from recapture.conf.section import EMBEDDED
from recapture.conf.select import SelectConfig
from recapture.conf.turn import turn
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.selection.grow import GrowingSelector
from recapture.models.selection.prompt import NotFound, Selector
from recapture.models.selection.recognise import check_prompt
from recapture.models.selection.sam import SamSelector
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.select_prompts import placed, prompt_of
from recapture.tasks.clip.sheets import contact_sheet, png_bytes, spread
from recapture.tasks.engine.model_revision import model_revision, once
from recapture.tasks.engine.stage import Item

SELECT = "select"
CHUNK = 32
WHOLE = 0.95  # share of the picture above which a selection leaves too little to go by
GIVEN = "given"  # the source of depth that comes with a clip
SHOWN = 4  # frames of preview.png
MARK = np.array([255, 0, 170], dtype=np.uint8)


@dataclass
class SelectStage(ClipStage):
    """Write selected bool [T,h,w] at the size of the clip's content, and preview.png.

    The embedded rule looks at given depth, too: it is in `also` then. A model's depth makes masks worse
    (benchmarks/masks.md).
    """

    config: SelectConfig
    name: ClassVar[str] = SELECT
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest",)

    def takes(self, params: ClipParams) -> bool:
        """Return whether anything is meant in the clip."""
        return prompt_of(self.config, params.clip_id) is not None

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        found = {"missing": self.config.missing}
        return found | ({"precision": self.config.precision} if self.config.of_model else {})

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        prompt = prompt_of(self.config, params.clip_id)
        assert prompt is not None
        model = self.config.model if self.config.of_model else None
        revision = EMBEDDED if model is None else model_revision("mask.select.model", model)
        words = prompt.words is not None
        once(("select model", model, words), lambda: refuse_unusable(model, words=words))
        return {"prompt": prompt.asked(), "model": revision}

    def setup(self) -> None:
        self._selector: Selector = GrowingSelector()
        if self.config.of_model:
            device, dtype = str(stage_device(self.resources.gpus)), getattr(torch, self.config.precision)
            self._selector = SamSelector(self.config.model, device, dtype=dtype)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip, ingest = item.params.clip, inputs["ingest"]
        prompt = prompt_of(self.config, clip.id)
        assert prompt is not None
        height, width = ingest.meta["content"]
        frames = range(ingest.meta["first_frame"], ingest.meta["first_frame"] + ingest.meta["frames"])
        asked = placed(prompt, clip, frames, (height, width))
        read = StoredFrames(inputs)
        packed: dict[int, np.ndarray] = {}
        try:
            with turn():
                for number, mask in self._selector.select(read, asked):
                    packed[number] = np.packbits(mask)
        except NotFound as error:
            if self.config.missing == "error":
                raise ValueError(
                    f"clip {clip.id!r}: mask.select: {error}; point at something else, or set "
                    "mask.select.missing to keep"
                ) from error
            packed = {}

        def mask_of(number: int) -> np.ndarray:
            if number not in packed:
                return np.zeros((height, width), dtype=bool)
            return np.unpackbits(packed[number], count=height * width).reshape(height, width).astype(bool)

        shares = []
        with output.frames() as writer:
            for start in range(0, len(frames), CHUNK):
                chunk = np.stack([mask_of(n) for n in range(start, min(start + CHUNK, len(frames)))])
                shares.append(chunk.mean(axis=(1, 2)))
                writer.append(selected=chunk)
        share = np.concatenate(shares)
        if share.max() > WHOLE:
            raise ValueError(
                f"clip {clip.id!r}: mask.select covers {share.max():.0%} of frame {int(share.argmax())}, so "
                "nothing is left to go by; point at something smaller, or add mask.select.background"
            )
        shown = spread(len(frames), SHOWN)
        pictures = np.stack([marked(read.rgb(int(n)), mask_of(int(n))) for n in shown])
        sheet = contact_sheet({"selected": pictures}, [f"frame {frames[int(n)]}" for n in shown])
        output.write_bytes("preview.png", png_bytes(sheet))
        output.meta.update(frames=len(frames), content=[height, width])
        return {"selected_share": float(share.mean()), "selected_frames": float((share > 0).mean())}


class StoredFrames:
    """The frames of a clip as the artifacts of ingest and depth have them, without padding."""

    def __init__(self, inputs: Mapping[str, Artifact]) -> None:
        depth = inputs.get("depth")
        self._ingest, self._depth = (
            inputs["ingest"],
            depth if depth and depth.meta["source"] == GIVEN else None,
        )
        self._size = tuple(self._ingest.meta["content"])

    def __len__(self) -> int:
        return int(self._ingest.meta["frames"])

    def rgb(self, number: int) -> np.ndarray:
        """Return a frame [h,w,3] uint8."""
        return self._read(self._ingest, number, "rgb")

    def depth(self, number: int) -> np.ndarray | None:
        """Return its depth [h,w], 0 where unknown; None if none is given with the clip."""
        if self._depth is None:
            return None
        known = self._read(self._depth, number, "known")
        return np.where(known, self._read(self._depth, number, "depth"), np.float32(0))

    def _read(self, artifact: Artifact, number: int, name: str) -> np.ndarray:
        height, width = self._size
        return np.asarray(read_frames(artifact, np.array([number]))[name][0, :height, :width])


def selected_frames(artifact: Artifact, start: int, stop: int) -> np.ndarray:
    """Return the masks [t,h,w] bool of frames start to stop-1."""
    return np.asarray(artifact.frames().read(start, stop, ["selected"])["selected"])


def refuse_unusable(model: str | None, *, words: bool) -> None:
    """Raise UserError, before anything is made, for a model that is none or takes no such prompt."""
    try:
        check_prompt(model, words=words)
    except ValueError as error:
        raise UserError(f"mask.select: {str(error).removeprefix('masks: ')}") from error


def marked(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a frame in which the selection is tinted and outlined."""
    shown = frame.copy()
    shown[mask] = shown[mask] // 2 + MARK // 2
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, MARK.tolist(), 1)
    return shown
