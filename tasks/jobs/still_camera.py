"""Inpainting under the source's own cameras: the render is the clip itself, with the mask as its holes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from recapture.conf.schema import RecaptureConfig, RenderConfig, TrajectoryConfig
from recapture.conf.section import Section
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.mask import CHUNK, GREY
from recapture.tasks.jobs.render import MANTISSA, keyed_surface

STILL = TrajectoryConfig(preset="static", name="inpaint")


def with_still_camera(config: RecaptureConfig) -> RecaptureConfig:
    """Return the configuration with one trajectory, called inpaint: the source's own cameras."""
    return config.model_copy(update={"trajectories": (STILL,)})


@dataclass
class StillCameraStage(ClipStage):
    """Write what RenderStage writes, from the source's own cameras: only the edit is a hole.

    render: how later stages render what other frames show of the holes; it enters their keys through the key
    of this stage.
    """

    config: Section = field(default_factory=Section)
    render: RenderConfig = RenderConfig()
    name: ClassVar[str] = "render"
    version: ClassVar[str] = "still-2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras")
    per_trajectory: ClassVar[bool] = True

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return keyed_surface(self.render)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        masked = inputs["ingest"]
        height, width = masked.meta["content"]
        holes, edited = [], False
        with output.frames(mantissa=MANTISSA) as writer:
            for start in range(0, masked.meta["frames"], CHUNK):
                source = masked.frames().read(start, min(start + CHUNK, masked.meta["frames"]))
                visible = ~source["edit"]
                edit = {"edit": ~visible & source["replaced"]} if "replaced" in source else {}
                edited |= bool(edit)
                holes.append(1.0 - visible[:, :height, :width].mean(axis=(1, 2)))
                writer.append(
                    **edit,
                    rgb=np.where(visible[..., None], source["rgb"], np.uint8(GREY)),
                    visible=visible,
                    depth=np.where(visible & source["known"], source["depth"], np.float32(np.inf)),
                    stretch=np.ones(visible.shape, dtype=np.float32),
                )
        hole_share = np.concatenate(holes)
        cameras = masked.read_npz("cameras.npz")
        output.write_npz(
            "cameras.npz",
            intrinsics=cameras["intrinsics"],
            world_to_camera=cameras["world_to_camera"],
            source_frame=np.arange(len(hole_share)),
        )
        output.write_npz("per_frame.npz", hole_share=hole_share)
        output.meta.update(pivot_depth=masked.meta["pivot_depth"], frames=len(hole_share))
        if edited:
            output.meta.update(edited=True)
        return {"hole_share": float(hole_share.mean()), "hole_share_max": float(hole_share.max())}
