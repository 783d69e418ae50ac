"""Deliver: a result as a video, and a contact sheet of reference, target, base, result and truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from recapture.conf.deliver import DeliverConfig
from recapture.conf.heartbeat import beating
from recapture.datasets.media.encoding import Encoding
from recapture.datasets.media.video import video_writer
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.picture_rows import beside
from recapture.tasks.clip.sheets import contact_sheet, png_bytes, spread
from recapture.tasks.engine.stage import ConfiguredStage, Item
from recapture.tasks.transfer.params import TransferParams
from recapture.tasks.transfer.truth import true_video

RESULT, SIDE_BY_SIDE, SHEET = "transfer.mp4", "side_by_side.mp4", "contact_sheet.png"
SIDE_BY_SIDE_CRF = 2  # better than the result's: a quick preset loses as much


@dataclass
class MotionDeliverStage(ConfiguredStage[TransferParams]):
    """Write transfer.mp4, side_by_side.mp4 of reference and result, and contact_sheet.png."""

    config: DeliverConfig
    name: ClassVar[str] = "motion_deliver"
    version: ClassVar[str] = "1"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "motion_examples", "transfer", "transfer_base")

    def settings(self, params: TransferParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        used = ("crf", "side_by_side", "contact_sheet_frames")
        return {name: getattr(self.config, name) for name in used}

    def identity(self, params: TransferParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"clip": params.clip_id, "label": params.label}

    def run(
        self, item: Item[TransferParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        result, frames = inputs["transfer"], item.params.frames
        height, width = result.meta["content"]
        rows = {"reference": _content(inputs["motion_examples"], frames)}
        rows["target"] = _target(inputs["ingest"], frames)
        rows["base"] = _content(inputs["transfer_base"], frames)
        rows["result"] = _content(result, frames)
        truth = true_video(item.params, height) if height == width else None
        if truth is not None:
            rows["truth"] = truth
        fps, crf = Fraction(result.meta["fps"]), self.config.crf
        with (
            output.local_file(RESULT) as path,
            video_writer(path, fps, encoding=Encoding(crf=crf)) as video,
        ):
            for frame in beating(rows["result"]):
                video.add(frame)
        if self.config.side_by_side:
            sharp = Encoding(crf=max(0, crf - SIDE_BY_SIDE_CRF), preset="superfast")
            with (
                output.local_file(SIDE_BY_SIDE) as path,
                video_writer(path, fps, encoding=sharp) as video,
            ):
                shown = [fitted(row, height) for name, row in rows.items() if name != "target"]
                for pictures in beating(zip(*shown)):
                    video.add(beside(list(pictures)))
        columns = spread(frames, self.config.contact_sheet_frames)
        cells = {name: fitted(row[columns], height, width) for name, row in rows.items()}
        sheet = contact_sheet(cells, [f"frame {t}" for t in columns])
        output.write_bytes(SHEET, png_bytes(sheet))
        output.meta.update(label=item.params.label, frames=frames, fps=str(fps))
        return {"frames": float(frames)}


def fitted(rows: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Return pictures [t,h,w,3] scaled to a height, and padded or cut in the middle to a width."""
    import cv2

    if rows.shape[1] != height:
        size = (max(1, round(rows.shape[2] * height / rows.shape[1])), height)
        rows = np.stack([cv2.resize(row, size, interpolation=cv2.INTER_AREA) for row in rows])
    over = rows.shape[2] - (rows.shape[2] if width is None else width)
    if over > 0:
        return rows[:, :, over // 2 : rows.shape[2] - (over - over // 2)]
    left = -over // 2
    return np.pad(rows, [(0, 0), (0, 0), (left, -over - left), (0, 0)])


def _content(artifact: Artifact, frames: int) -> np.ndarray:
    """Return the frames of an artifact [t,h,w,3] without their padding."""
    height, width = artifact.meta["content"]
    return artifact.frames().read(0, frames, ["rgb"])["rgb"][:, :height, :width]


def _target(ingest: Artifact, frames: int) -> np.ndarray:
    """Return the frames of a target; where it ends before the result, its last one goes on."""
    have = min(frames, ingest.meta["frames"])
    own = _content(ingest, have)
    return np.concatenate([own, np.repeat(own[-1:], frames - have, axis=0)])
