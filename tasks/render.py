"""Render: lift a clip with its depth and film it along one new trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import RenderConfig, TrajectoryConfig
from recapture.datasets.camera_files import read_cameras
from recapture.datasets.clips import Clip
from recapture.datasets.keys import file_hash
from recapture.datasets.store import Artifact, ArtifactWriter
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import CameraPath, explicit_path, keyframe_path, preset_path
from recapture.tasks.convert import stage_device, to_frames, to_video
from recapture.tasks.ingest import content_known
from recapture.tasks.stage import Item, Resources
from recapture.tasks.views import read_frames


@dataclass(frozen=True)
class RenderStage:
    """Write what the new camera sees of the source, and what it does not.

    Per frame: rgb uint8 [T,H,W,3] (grey in holes), visible bool [T,H,W], depth float32 [T,H,W] (inf where
    nothing is), stretch float16 [T,H,W]. cameras.npz: intrinsics, world_to_camera, source_frame of the path.
    """

    config: RenderConfig
    resources: Resources = Resources()
    name: str = "render"
    version: str = "1"
    parents: tuple[str, ...] = ("ingest", "depth")
    per_trajectory: bool = True

    def identity(self, clip: Clip, trajectory: TrajectoryConfig | None) -> Mapping[str, Any]:
        assert trajectory is not None
        return {
            "trajectory": trajectory.model_dump(mode="json", exclude={"name", "file"}),
            "file": file_hash(trajectory.file) if trajectory.file else None,
        }

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, item: Item, inputs: Mapping[str, Artifact], output: ArtifactWriter) -> dict[str, float]:
        ingest, depth = inputs["ingest"], inputs["depth"]
        cameras = {name: torch.from_numpy(array) for name, array in ingest.read_npz("cameras.npz").items()}
        trajectory = TrajectoryConfig(**item.params["trajectory"])
        path = camera_path(trajectory, cameras, depth.meta["pivot_depth"], item.name)
        device = stage_device(self.resources.gpus)
        content = content_known(ingest)
        size = tuple(ingest.meta["size"])
        hole_share = []
        with output.frames() as writer:
            for start in range(0, len(path.source_frame), self.config.chunk):
                part = slice(start, start + self.config.chunk)
                shown = path.source_frame[part]
                source = read_frames(ingest, shown.numpy()) | read_frames(depth, shown.numpy())
                rendered = render(
                    to_video(source["rgb"], device),
                    torch.from_numpy(source["depth"]).to(device),
                    cameras["intrinsics"][shown].float().to(device),
                    cameras["world_to_camera"][shown].double().to(device),
                    path.intrinsics[part].float().to(device),
                    path.world_to_camera[part].double().to(device),
                    size=size,
                    known=torch.from_numpy(source["known"] & content).to(device),
                    break_ratio=self.config.break_ratio,
                    shell=self.config.shell,
                    max_stretch=self.config.max_stretch,
                )
                visible = rendered.visible.cpu().numpy()
                hole_share.append(1.0 - visible[:, content].mean(axis=1))
                writer.append(
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
        )
        output.write_npz("per_frame.npz", hole_share=holes)
        output.meta.update(pivot_depth=depth.meta["pivot_depth"], frames=len(holes))
        return {"hole_share": float(holes.mean()), "hole_share_max": float(holes.max())}


def camera_path(
    trajectory: TrajectoryConfig, cameras: Mapping[str, Tensor], pivot_depth: float, name: str
) -> CameraPath:
    """Return the path of one configured trajectory for one clip; errors name the item."""
    source = (cameras["intrinsics"], cameras["world_to_camera"])
    try:
        if trajectory.file is not None:
            world_to_camera, intrinsics = read_cameras(trajectory.file)
            return explicit_path(world_to_camera, intrinsics, *source, relative=trajectory.relative)
        if trajectory.keyframes is not None:
            return keyframe_path(
                [dict(key) for key in trajectory.keyframes],
                *source,
                pivot_depth,
                mode=trajectory.mode,
                interpolation=trajectory.interpolation,
            )
        assert trajectory.preset is not None
        return preset_path(
            trajectory.preset,
            *source,
            pivot_depth,
            angle_degrees=trajectory.angle_degrees,
            distance=trajectory.distance,
            mode=trajectory.mode,
            easing=trajectory.easing,
            freeze_frame=trajectory.freeze_frame,
        )
    except ValueError as error:
        raise ValueError(f"{name}: the trajectory cannot be used: {error}") from error
