"""Deliver: the finished video at the source's frame rate with its sound, and pictures of how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from recapture.conf.deliver import DeliverConfig
from recapture.conf.heartbeat import beating
from recapture.datasets.media.encoding import Encoding
from recapture.datasets.media.video import VideoWriter, video_writer
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.captions import caption_record
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.picture_rows import Rows, Sheet, beside
from recapture.tasks.clip.sheets import path_plot
from recapture.tasks.clip.source_cameras import read_cameras
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.enlarge import FRAMES
from recapture.tasks.jobs.page_files import page_files
from recapture.tasks.jobs.result_files import SoundSource, result_files

SIDE_BY_SIDE, SHEET, PATH, CAMERAS = (
    "side_by_side.mp4",
    "contact_sheet.png",
    "path.png",
    "cameras.npz",
)
SHEET_ROWS = ("source", "render", "visible", "result")
COMPARED = ("source", "render", "result")
PAGE = ("result", "source", "render", "visible")
QUICK = "superfast"
SPREAD = "spread.mp4"


@dataclass
class DeliverStage(ClipStage):
    """Write the video, side_by_side.mp4, contact_sheet.png, path.png and cameras.npz, without padding.

    With what the results page shows: page.mp4, page.jpg and page.js. The video is recapture.mp4 or .mov, as
    the settings say; frame.NNNNN and depth.NNNNN are pictures.
    meta.caption is the caption and where it is from.
    """

    config: DeliverConfig
    name: ClassVar[str] = "deliver"
    version: ClassVar[str] = "4"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "cameras", "render", "fill")
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
        sheet = Sheet(rows, self.config.contact_sheet_frames, shown_rows(inputs))
        carried_from = SoundSource(
            clip.uri if sound else None,
            float(ingest.meta["first_frame"] / fps),
            float(rows.frames / fps),
        )
        truth = ("truth",) if self.config.page and rows.has_truth else ()
        shown = (*shown_rows(inputs), *truth)
        with ExitStack() as opened:
            files = opened.enter_context(result_files(self.config, output, fps, carried_from))
            compared = opened.enter_context(self._side_by_side(output, fps))
            apart = opened.enter_context(self._spread(output, fps, inputs))
            page = opened.enter_context(page_files(self.config, output, item.params, inputs, (*PAGE, *truth)))
            frames = self._frames(rows, inputs, shown, files.kinds)
            for t, (pictures, finished) in enumerate(beating(frames)):
                files.add(finished)
                if page is not None:
                    page.add(pictures, poster=t == rows.frames // 2)
                if compared is not None:
                    compared.add(beside([pictures[kind] for kind in COMPARED]))
                if apart is not None:
                    apart.add(pictures["spread"])
                sheet.take(t, pictures)
        output.write_bytes(SHEET, sheet.png())
        output.write_bytes(PATH, camera_plot(item.name, inputs))
        output.write_npz(CAMERAS, **path)
        carried = files.sound
        kept = sound and not carried.lost
        output.meta.update(label=item.params.label, frames=rows.frames, fps=str(fps), sound=kept)
        output.meta.update(sound_lost=carried.lost, sound_copied=carried.copied)
        output.meta.update(caption=caption_record(clip, inputs))
        return {
            "frames": float(rows.frames),
            "sound_lost": float(bool(carried.lost)),
            "sound_damaged_packets": float(carried.damaged_packets),
        }

    def _frames(
        self, rows: Rows, inputs: Mapping[str, Artifact], shown: tuple[str, ...], kinds: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Yield of each frame the pictures `shown` beside each other, and those of `kinds` delivered."""
        more = [kind for kind in kinds if kind not in shown]
        yield from ((pictures, pictures) for pictures in rows.pictures(*shown, *more))

    @contextmanager
    def _spread(
        self, output: ArtifactWriter, fps: Fraction, inputs: Mapping[str, Artifact]
    ) -> Iterator[VideoWriter | None]:
        """Give the video of where several seeds differ, if there were several."""
        if "spread" not in shown_rows(inputs):
            yield None
            return
        with (
            output.local_file(SPREAD) as target,
            video_writer(target, fps, encoding=Encoding(crf=self.config.crf)) as video,
        ):
            yield video

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
            video_writer(target, fps, encoding=Encoding(crf=crf, preset=QUICK)) as video,
        ):
            yield video


@dataclass
class DeliverEnlargedStage(DeliverStage):
    """Deliver the result at the clip's own size; sheets and comparisons stay at the working size."""

    parents: ClassVar[tuple[str, ...]] = (*DeliverStage.parents, "enlarge")

    def _frames(
        self, rows: Rows, inputs: Mapping[str, Artifact], shown: tuple[str, ...], kinds: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        enlarged = inputs["enlarge"].frames()
        for t, pictures in enumerate(rows.pictures(*shown)):
            if t % FRAMES == 0:
                names = ["rgb" if kind == "result" else kind for kind in kinds]
                chunk = enlarged.read(t, min(t + FRAMES, rows.frames), names)
                chunk["result"] = chunk["rgb"]
            yield pictures, {kind: chunk[kind][t % FRAMES] for kind in kinds}


def shown_rows(inputs: Mapping[str, Artifact]) -> tuple[str, ...]:
    """Return the rows of the contact sheet: of several seeds also where they differ."""
    return (*SHEET_ROWS, "spread") if "seeds" in inputs["fill"].meta else SHEET_ROWS


def camera_plot(title: str, inputs: Mapping[str, Artifact]) -> bytes:
    """Plot the source's and the new camera path with the hole share per frame; return a PNG."""
    render = inputs["render"]
    path = render.read_npz("cameras.npz")
    source = read_cameras(inputs)["world_to_camera"][path["source_frame"]]
    holes = render.read_npz("per_frame.npz")["hole_share"]
    return path_plot(source, path["world_to_camera"], holes, render.meta["pivot_depth"], title)
