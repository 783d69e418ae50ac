"""Render: lift a clip with its depth and film it along one new trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import RenderConfig
from recapture.conf.turn import turn
from recapture.datasets.cameras.files import camera_file_hash
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.fill.edited import replaced_in
from recapture.models.geometry.rasterize import SurfaceSettings, render
from recapture.models.geometry.trajectories import CameraPath
from recapture.tasks.clip.camera_path import Source, trajectory_identity
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.frames_to_video import stage_device, to_frames, to_video
from recapture.tasks.clip.item_path import item_path
from recapture.tasks.clip.scene_reader import read_depth, read_frames
from recapture.tasks.clip.source_cameras import pivot_depth
from recapture.tasks.clip.subject import subject_hash
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.stage import InputChanged, Item

# Bits of a float's mantissa: relative errors of at most 2^-14 and 2^-5.
MANTISSA = {"depth": 13, "stretch": 4}


@dataclass
class RenderStage(ClipStage):
    """Write what the new camera sees of the source, and where it sees nothing.

    Per frame: rgb uint8 [T,H,W,3] (grey in holes), visible bool [T,H,W], depth float32 [T,H,W] (inf in
    holes), stretch float32 [T,H,W]; of both, MANTISSA bits are kept. cameras.npz: intrinsics,
    world_to_camera, source_frame of the path, size (width, height) of the clip's picture in these pixels.

    For a masked clip in which something is to be replaced, also edit bool [T,H,W]: where the new camera sees
    what is to be replaced. These pixels are holes, and occlude what is behind them.
    """

    config: RenderConfig
    name: ClassVar[str] = "render"
    version: ClassVar[str] = "3"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth", "cameras")
    per_trajectory: ClassVar[bool] = True

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        identity = trajectory_identity(params.path, params.file)
        mask = subject_hash(params.path.subject, params.clip)
        return identity if mask is None else {**identity, "subject": mask}

    def check_inputs(self, params: ClipParams) -> None:
        file, found = params.path.file, params.file
        if params.path.subject is not None and params.path.subject.objects:
            check_clip(params.clip)  # the subject is read from its own maps
        if file is None or found is None:
            return
        if found.clip is not None:
            check_clip(found.clip)
        elif camera_file_hash(file) != found.content:
            raise InputChanged(f"{params.name}: the file of its trajectory, {file!r},")

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        ingest = inputs["ingest"]
        source = Source.of(item.params.clip, inputs)
        planned = item_path(item.params, inputs, surface_settings(self.config))
        path = planned.path
        content = content_known(ingest)
        hole_share, edited = list[np.ndarray](), False
        with output.frames(mantissa=MANTISSA) as writer:
            for start in range(0, len(path.source_frame), self.config.chunk):
                seen = self._film(inputs, source, path, slice(start, start + self.config.chunk))
                edited |= "edit" in seen
                hole_share.append(1.0 - seen["visible"][:, content].mean(axis=1))
                writer.append(**seen)
        holes = np.concatenate(hole_share)
        output.write_npz(
            "cameras.npz",
            intrinsics=path.intrinsics.double().numpy(),
            world_to_camera=path.world_to_camera.double().numpy(),
            source_frame=path.source_frame.numpy(),
            size=np.array(source.content),
        )
        output.write_npz("per_frame.npz", hole_share=holes)
        output.meta.update(pivot_depth=pivot_depth(inputs), frames=len(holes))
        if edited:
            output.meta.update(edited=True)
        if planned.metrics:
            output.meta.update(path=planned.metrics)
        return {"hole_share": float(holes.mean()), "hole_share_max": float(holes.max()), **planned.metrics}

    def _film(
        self, inputs: Mapping[str, Artifact], source: Source, path: CameraPath, part: slice
    ) -> dict[str, np.ndarray]:
        """Return the arrays of one part of the path: what the new camera sees of the frames it shows."""
        ingest = inputs["ingest"]
        content, shown = content_known(ingest), path.source_frame[part]
        frames = read_frames(ingest, shown.numpy()) | read_depth(inputs, shown.numpy())
        with turn():
            return self.seen(frames, content, source, path, part)

    def seen(
        self,
        frames: Mapping[str, np.ndarray],
        content: np.ndarray,
        source: Source,
        path: CameraPath,
        part: slice,
    ) -> dict[str, np.ndarray]:
        """Return the arrays of one part of the path, of the frames read for it; content: bool [H,W]."""
        device, shown = stage_device(self.resources.gpus), path.source_frame[part]
        known, video = frames["known"] & content, to_video(frames["rgb"], device)
        edited = "lifted" in frames
        if edited:
            known |= frames["lifted"] & content
            video = torch.cat([video, _mark(frames["lifted"], device)], dim=1)
        rendered = render(
            video,
            torch.from_numpy(frames["depth"]).to(device),
            source.intrinsics[shown].float().to(device),
            source.world_to_camera[shown].double().to(device),
            path.intrinsics[part].float().to(device),
            path.world_to_camera[part].double().to(device),
            surface=surface_settings(self.config),
            size=content.shape,
            known=torch.from_numpy(known).to(device),
        )
        seen = {}
        if edited:
            rendered, replaced = replaced_in(rendered)
            seen["edit"] = replaced.cpu().numpy()
        return seen | {
            "rgb": to_frames(rendered.video),
            "visible": rendered.visible.cpu().numpy(),
            "depth": rendered.depth.float().cpu().numpy(),
            "stretch": rendered.stretch.float().cpu().numpy(),
        }


def surface_settings(config: RenderConfig) -> SurfaceSettings:
    """Return the settings by which every stage of a job lifts surfaces."""
    return SurfaceSettings(config.break_ratio, config.shell, config.max_stretch)


def keyed_surface(config: RenderConfig) -> dict[str, Any]:
    """Return the render settings in the key of a stage that renders without RenderStage among its parents.

    Only values that differ from the defaults, so that older keys, made without these settings, stay valid.
    """
    given = config.keyed()
    default = RenderConfig().model_dump(mode="json")
    changed = {name: value for name, value in given.items() if value != default[name]}
    return {"render": changed} if changed else {}


def _mark(lifted: np.ndarray, device: torch.device) -> Tensor:
    """Return [T,H,W] bool as a channel [T,1,H,W] to be rendered along with the video."""
    return torch.from_numpy(lifted).to(device)[:, None].float()
