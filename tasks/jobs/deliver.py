"""Deliver: the finished video at the source's frame rate with its sound, and pictures of how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from recapture.conf.heartbeat import beating
from recapture.conf.schema import DeliverConfig
from recapture.datasets.media.video import VideoWriter, video_writer
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.picture_rows import Rows, Sheet, beside
from recapture.tasks.clip.sheets import path_plot
from recapture.tasks.engine.stage import Item

VIDEO, SIDE_BY_SIDE, SHEET, PATH, CAMERAS = (
    "recapture.mp4",
    "side_by_side.mp4",
    "contact_sheet.png",
    "path.png",
    "cameras.npz",
)
SHEET_ROWS = ("source", "render", "visible", "result")
COMPARED = ("source", "render", "result")
QUICK = "superfast"


@dataclass
class DeliverStage(ClipStage):
    """Write recapture.mp4, side_by_side.mp4, contact_sheet.png, path.png and cameras.npz, without padding."""

    config: DeliverConfig
    name: ClassVar[str] = "deliver"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "render", "fill")
    per_trajectory: ClassVar[bool] = True

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"clip": params.clip_id, "label": params.label}

    def check_inputs(self, params: ClipParams) -> None:
        if params.clip.audio:  # the sound is read from its file
            check_clip(params.clip)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        ingest, render = inputs["ingest"], inputs["render"]
        fps = Fraction(ingest.meta["fps"])
        path = render.read_npz("cameras.npz")
        rows = Rows(clip, inputs, path)

        sound = clip.audio and bool((np.diff(path["source_frame"]) == 1).all())
        sheet = Sheet(rows, self.config.contact_sheet_frames, SHEET_ROWS)
        with ExitStack() as files:
            video = files.enter_context(
                video_writer(
                    files.enter_context(output.local_file(VIDEO)),
                    fps,
                    crf=self.config.crf,
                    audio_from=clip.uri if sound else None,
                    audio_start=float(ingest.meta["first_frame"] / fps),
                    audio_duration=float(rows.frames / fps),
                )
            )
            compared = files.enter_context(self._side_by_side(output, fps))
            for t, pictures in enumerate(beating(rows.pictures(*SHEET_ROWS))):
                video.add(pictures["result"])
                if compared is not None:
                    compared.add(beside([pictures[kind] for kind in COMPARED]))
                sheet.take(t, pictures)
        output.write_bytes(SHEET, sheet.png())
        output.write_bytes(PATH, camera_plot(item.name, ingest, render))
        output.write_npz(CAMERAS, **path)
        carried = video.sound
        kept = sound and not carried.lost
        output.meta.update(label=item.params.label, frames=rows.frames, fps=str(fps), sound=kept)
        output.meta.update(sound_lost=carried.lost)
        return {
            "frames": float(rows.frames),
            "sound_lost": float(bool(carried.lost)),
            "sound_damaged_packets": float(carried.damaged_packets),
        }

    @contextmanager
    def _side_by_side(self, output: ArtifactWriter, fps: Fraction) -> Iterator[VideoWriter | None]:
        """Give the video of source, render and result if it is wanted.

        x264's quick preset loses what two steps of crf gain, in a third of the time.
        """
        if not self.config.side_by_side:
            yield None
            return
        crf = max(0, self.config.crf - 2)
        with (
            output.local_file(SIDE_BY_SIDE) as target,
            video_writer(target, fps, crf=crf, preset=QUICK) as video,
        ):
            yield video


def camera_plot(title: str, ingest: Artifact, render: Artifact) -> bytes:
    """Plot the source's and the new camera path with the hole share per frame; return a PNG."""
    path = render.read_npz("cameras.npz")
    source = ingest.read_npz("cameras.npz")["world_to_camera"][path["source_frame"]]
    holes = render.read_npz("per_frame.npz")["hole_share"]
    return path_plot(source, path["world_to_camera"], holes, render.meta["pivot_depth"], title)
