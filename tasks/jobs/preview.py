"""Preview: a trajectory without any model: the warped video with its holes, visibility and camera path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

from recapture.conf.deliver import DeliverConfig
from recapture.conf.heartbeat import beating
from recapture.datasets.media.video import video_writer
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.picture_rows import Rows, Sheet, beside
from recapture.tasks.clip.sheets import visibility_picture
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.deliver import CAMERAS, PATH, SHEET, camera_plot
from recapture.tasks.jobs.page_files import page_files

VIDEO = "preview.mp4"
SHOWN = ("source", "render", "visible")
PAGE = ("render", "source", "visible")


@dataclass
class PreviewStage(ClipStage):
    """Write preview.mp4 (source | render | visible), contact_sheet.png, path.png and cameras.npz.

    With what the results page shows: page.mp4, page.jpg and page.js.
    """

    config: DeliverConfig
    name: ClassVar[str] = "preview"
    version: ClassVar[str] = "4"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "cameras", "render")
    per_trajectory: ClassVar[bool] = True

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return self._used

    @cached_property
    def _used(self) -> Mapping[str, Any]:
        page = ("page", "page_side") if self.config.page else ("page",)
        return self.config.model_dump(mode="json", include={"crf", "contact_sheet_frames", *page})

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"clip": params.clip_id, "label": params.label}

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        ingest, render = inputs["ingest"], inputs["render"]
        path = render.read_npz("cameras.npz")
        rows = Rows(item.params.clip, inputs, path)
        sheet = Sheet(rows, self.config.contact_sheet_frames, SHOWN)
        fps = Fraction(ingest.meta["fps"])
        with (
            output.local_file(VIDEO) as target,
            video_writer(target, fps, crf=self.config.crf) as video,
            page_files(self.config, output, item.params, inputs, PAGE) as page,
        ):
            for t, pictures in enumerate(beating(rows.pictures(*SHOWN))):
                if page is not None:
                    page.add(pictures, poster=t == rows.frames // 2)
                shown = pictures | {"visible": visibility_picture(pictures["visible"])}
                video.add(beside([shown[kind] for kind in SHOWN]))
                sheet.take(t, pictures)
        output.write_bytes(SHEET, sheet.png())
        output.write_bytes(PATH, camera_plot(item.name, inputs))
        output.write_npz(CAMERAS, **path)
        holes = render.read_npz("per_frame.npz")["hole_share"]
        output.write_json("hole_share.json", [round(float(share), 5) for share in holes])
        return {"hole_share": float(holes.mean()), "hole_share_max": float(holes.max())}
