"""Render: lift a clip with its depth and film it along one new trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import RenderConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.edited import replaced_in
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.tasks.clip.camera_path import Source, camera_path, trajectory_identity
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.stage import Item


@dataclass
class RenderStage(ClipStage):
    """Write what the new camera sees of the source, and what it does not.

    Per frame: rgb uint8 [T,H,W,3] (grey in holes), visible bool [T,H,W], depth float32 [T,H,W] (inf where
    nothing is), stretch float16 [T,H,W]. cameras.npz: intrinsics, world_to_camera, source_frame of the path,
    size (width, height) of the clip's picture in these pixels.

    Of a masked clip in which something new is to stand, also edit bool [T,H,W]: where the new camera sees
    what is to be replaced. That is a hole, and hides what is behind it.
    """

    config: RenderConfig
    name: ClassVar[str] = "render"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth")
    per_trajectory: ClassVar[bool] = True

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return trajectory_identity(params.path)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        ingest, depth = inputs["ingest"], inputs["depth"]
        cameras = Source.of(item.params.clip, ingest)
        trajectory = item.params.path
        path = camera_path(trajectory, cameras, depth.meta["pivot_depth"], item.name)
        device = stage_device(self.resources.gpus)
        content = content_known(ingest)
        size = tuple(ingest.meta["size"])
        hole_share, edited = [], False
        with output.frames() as writer:
            for start in range(0, len(path.source_frame), self.config.chunk):
                part = slice(start, start + self.config.chunk)
                shown = path.source_frame[part]
                source = read_frames(ingest, shown.numpy()) | read_frames(depth, shown.numpy())
                known, video = source["known"] & content, to_video(source["rgb"], device)
                if edited := "lifted" in source:
                    known |= source["lifted"] & content
                    video = torch.cat([video, _mark(source["lifted"], device)], dim=1)
                rendered = render(
                    video,
                    torch.from_numpy(source["depth"]).to(device),
                    cameras.intrinsics[shown].float().to(device),
                    cameras.world_to_camera[shown].double().to(device),
                    path.intrinsics[part].float().to(device),
                    path.world_to_camera[part].double().to(device),
                    surface=surface_settings(self.config),
                    size=size,
                    known=torch.from_numpy(known).to(device),
                )
                edit = {}
                if edited:
                    rendered, replaced = replaced_in(rendered)
                    edit["edit"] = replaced.cpu().numpy()
                visible = rendered.visible.cpu().numpy()
                hole_share.append(1.0 - visible[:, content].mean(axis=1))
                writer.append(
                    **edit,
                    rgb=to_frames(rendered.video),
                    visible=visible,
                    depth=rendered.depth.float().cpu().numpy(),
                    stretch=rendered.stretch.half().cpu().numpy(),
                )
        holes = np.concatenate(hole_share)
        output.write_npz(
            "cameras.npz",
            intrinsics=path.intrinsics.double().numpy(),
            world_to_camera=path.world_to_camera.double().numpy(),
            source_frame=path.source_frame.numpy(),
            size=np.array(cameras.content),
        )
        output.write_npz("per_frame.npz", hole_share=holes)
        output.meta.update(pivot_depth=depth.meta["pivot_depth"], frames=len(holes))
        if edited:
            output.meta.update(edited=True)
        return {"hole_share": float(holes.mean()), "hole_share_max": float(holes.max())}


def surface_settings(config: RenderConfig) -> SurfaceSettings:
    """Return how everything that is rendered in a job lifts surfaces."""
    return SurfaceSettings(config.break_ratio, config.shell, config.max_stretch)


def keyed_surface(config: RenderConfig) -> dict[str, Any]:
    """Return what the key of a stage holds that renders without RenderStage among its parents.

    Only values that are not the default's, so that keys from before these settings reached such stages hold.
    """
    given = config.model_dump(mode="json", exclude={"chunk"})
    default = RenderConfig().model_dump(mode="json")
    changed = {name: value for name, value in given.items() if value != default[name]}
    return {"render": changed} if changed else {}


def _mark(lifted: np.ndarray, device: torch.device) -> Tensor:
    """[T,H,W] bool as a channel [T,1,H,W] that is rendered along."""
    return torch.from_numpy(lifted).to(device)[:, None].float()
