"""The plan behind a mask: where later stages read the clip and its depth, they are given the masked clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from recapture.conf.schema import RecaptureConfig, RenderConfig, TrajectoryConfig
from recapture.conf.section import Section
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.tasks.engine.stage import Item, Resources
from recapture.tasks.jobs.mask import CHUNK, GREY, MaskStage
from recapture.tasks.jobs.render import keyed_surface

if TYPE_CHECKING:
    from recapture.tasks.engine.stage import ClipStage

REPLACED = ("ingest", "depth")
STILL = TrajectoryConfig(preset="static", name="inpaint")


def behind_mask(mask: MaskStage, stages: Sequence[ClipStage]) -> list[ClipStage]:
    """Put the mask behind ingest and depth, and every other stage behind the mask."""
    before = [stage for stage in stages if stage.name in REPLACED]
    return [*before, mask, *(BehindMask(stage) for stage in stages if stage.name not in REPLACED)]


def with_still_camera(config: RecaptureConfig) -> RecaptureConfig:
    """Return the configuration with one trajectory, called inpaint: the source's own cameras."""
    return config.model_copy(update={"trajectories": (STILL,)})


@dataclass(frozen=True)
class BehindMask:
    """A stage that reads the masked clip as `ingest` and as `depth`; in all else it is the stage itself."""

    stage: ClipStage

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def version(self) -> str:
        return self.stage.version

    @property
    def resources(self) -> Resources:
        return self.stage.resources

    @property
    def config(self) -> BaseModel:
        return self.stage.config

    @property
    def parents(self) -> tuple[str, ...]:
        return ("mask", *(parent for parent in self.stage.parents if parent not in REPLACED))

    @property
    def per_trajectory(self) -> bool:
        return self.stage.per_trajectory

    def identity(self, clip: Clip, trajectory: TrajectoryConfig | None) -> Mapping[str, Any]:
        return self.stage.identity(clip, trajectory)

    def setup(self) -> None:
        self.stage.setup()

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        masked = dict.fromkeys(REPLACED, inputs["mask"])
        return self.stage.run(item, {**inputs, **masked}, output)


@dataclass(frozen=True)
class StillCameraStage:
    """Write what RenderStage writes, from the source's own cameras: the holes are the edit alone.

    render: how the stages after it render what other frames show of the holes; it is in their keys through
    this one's.
    """

    resources: Resources = Resources()
    render: RenderConfig = RenderConfig()
    config: Section = field(default_factory=Section)
    name: str = "render"
    version: str = "still-1"
    parents: tuple[str, ...] = ("ingest", "depth")
    per_trajectory: bool = True

    def identity(self, clip: Clip, trajectory: TrajectoryConfig | None) -> Mapping[str, Any]:
        return keyed_surface(self.render)

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        masked = inputs["ingest"]
        height, width = masked.meta["content"]
        holes = []
        with output.frames() as writer:
            for start in range(0, masked.meta["frames"], CHUNK):
                source = masked.frames().read(start, min(start + CHUNK, masked.meta["frames"]))
                visible = ~source["edit"]
                edit = {"edit": ~visible & source["replaced"]} if "replaced" in source else {}
                holes.append(1.0 - visible[:, :height, :width].mean(axis=(1, 2)))
                writer.append(
                    **edit,
                    rgb=np.where(visible[..., None], source["rgb"], np.uint8(GREY)),
                    visible=visible,
                    depth=np.where(visible & source["known"], source["depth"], np.float32(np.inf)),
                    stretch=np.ones(visible.shape, dtype=np.float16),
                )
        hole_share = np.concatenate(holes)
        cameras = masked.read_npz("cameras.npz")
        output.write_npz("cameras.npz", **cameras, source_frame=np.arange(len(hole_share)))
        output.write_npz("per_frame.npz", hole_share=hole_share)
        output.meta.update(pivot_depth=masked.meta["pivot_depth"], frames=len(hole_share))
        if edit:
            output.meta.update(edited=True)
        return {"hole_share": float(hole_share.mean()), "hole_share_max": float(hole_share.max())}
