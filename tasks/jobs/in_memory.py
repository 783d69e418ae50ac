"""Rendering and filling of a clip that is held in memory, with the results that the stages of a job have.

This is the part of the Python interface that works on arrays; see docs/python.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recapture.conf.errors import UserError
from recapture.conf.load import section_from
from recapture.conf.presets import AUTO
from recapture.conf.schema import IngestConfig, RenderConfig, TrajectoryConfig
from recapture.datasets.store.residuals import pack_frames, unpack_array
from recapture.models.fill.view import SourceView
from recapture.models.geometry.cameras import check_cameras, default_intrinsics
from recapture.models.geometry.rasterize import SurfaceSettings
from recapture.models.geometry.rasterize import render as rasterize
from recapture.models.geometry.stillness import StillStretches
from recapture.models.geometry.trajectories import CameraPath
from recapture.tasks.clip.camera_path import Source, camera_path
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.clip.trajectory_file import find_trajectory_file
from recapture.tasks.jobs.depth import middle_depth
from recapture.tasks.jobs.render import MANTISSA, surface_settings

CLIP = "the clip"  # its name in errors


@dataclass(frozen=True)
class Filmed:
    """A clip filmed along a new trajectory, as far as the source saw it.

    rgb uint8 [T,H,W,3], grey in holes; visible bool [T,H,W], True where the source saw the pixel; depth
    float32 [T,H,W] in scene units, inf in holes; stretch float32 [T,H,W], how much a source pixel is
    magnified there (area ratio, 1 in holes). intrinsics float64 [T,3,3] in pixels and world_to_camera float64
    [T,4,4] (OpenCV axes) are the new cameras; source_frame int64 [T] is the source frame that each shows.
    """

    rgb: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    depth: NDArray[np.float32]
    stretch: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    world_to_camera: NDArray[np.float64]
    source_frame: NDArray[np.int64]
    source: SourceView  # what it was made of, for `fill`
    surface: SurfaceSettings

    @property
    def hole_share(self) -> NDArray[np.float64]:
        """Return the share of each frame that is a hole, [T] within 0..1."""
        return 1.0 - self.visible.mean(axis=(1, 2))


def render(
    video: NDArray[np.uint8],
    depth: NDArray[np.floating[Any]],
    trajectory: str | Mapping[str, Any] | TrajectoryConfig,
    *,
    intrinsics: NDArray[np.floating[Any]] | None = None,
    world_to_camera: NDArray[np.floating[Any]] | None = None,
    fps: float = 24.0,
    settings: Mapping[str, Any] | RenderConfig | None = None,
    device: str = "cpu",
) -> Filmed:
    """Film a clip again along a trajectory: what the new camera sees of it, and where it sees nothing.

    video: uint8 [T,H,W,3]. depth: [T,H,W], z-depth in the units of the cameras; pixels that are not finite
    and positive are unknown. trajectory: a preset such as "orbit_right", or the settings of one entry of
    `trajectories`. intrinsics: [3,3] or [T,3,3] in pixels, centres at +0.5; None: as `ingest.fov_degrees` has
    it. world_to_camera: [T,4,4], OpenCV axes; None: unknown, and the camera counts as still where the picture
    stands still. fps: of the video, for trajectories in seconds. settings: of the section `render`.

    Raises UserError for arrays of another shape, unusable cameras and settings, and for trajectories that
    need a job (`subject`, `amount: auto`). The result is that of the stage `render`, to the bit on the CPU.
    """
    path_settings, surface = _trajectory(trajectory), surface_settings(section_from(RenderConfig, settings))
    source = _source(video, depth, intrinsics, world_to_camera, device)
    path = _path(path_settings, source, world_to_camera is not None, fps)
    shown = path.source_frame.to(device)
    seen = rasterize(
        source.video[shown],
        source.depth[shown],
        source.intrinsics[shown].float(),
        source.world_to_camera[shown],
        path.intrinsics.float().to(device),
        path.world_to_camera.to(device),
        surface=surface,
        known=source.known[shown],
    )
    stored = {"depth": seen.depth.float().cpu().numpy(), "stretch": seen.stretch.float().cpu().numpy()}
    packed = pack_frames(stored, MANTISSA)  # as in an artifact, so that fills are those of a job
    return Filmed(
        rgb=to_frames(seen.video),
        visible=seen.visible.cpu().numpy(),
        depth=unpack_array(packed, "depth"),
        stretch=unpack_array(packed, "stretch"),
        intrinsics=path.intrinsics.double().numpy(),
        world_to_camera=path.world_to_camera.double().numpy(),
        source_frame=path.source_frame.numpy(),
        source=replace(source, source_frame=shown),
        surface=surface,
    )


def _trajectory(given: str | Mapping[str, Any] | TrajectoryConfig) -> TrajectoryConfig:
    trajectory = section_from(TrajectoryConfig, {"preset": given} if isinstance(given, str) else given)
    if trajectory.subject is not None or trajectory.amount == AUTO:
        what = "subject" if trajectory.subject is not None else "amount auto"
        raise UserError(
            f"trajectory {trajectory.label!r}: {what} is found by the stages of a job; use recapture.run, or "
            "give the move itself"
        )
    return trajectory


def _source(
    video: NDArray[np.uint8],
    depth: NDArray[np.floating[Any]],
    intrinsics: NDArray[np.floating[Any]] | None,
    world_to_camera: NDArray[np.floating[Any]] | None,
    device: str,
) -> SourceView:
    """Return the clip as models take it. Raises UserError for arrays that are no clip."""
    video, depth = np.asarray(video), np.asarray(depth, dtype=np.float32)
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or not video.size:
        raise UserError(
            f"{CLIP}: video is {video.dtype} {list(video.shape)}; give frames as uint8 [T,H,W,3], 0 to 255"
        )
    frames, height, width = video.shape[:3]
    if depth.shape != video.shape[:3]:
        raise UserError(
            f"{CLIP}: depth is {list(depth.shape)} and video {list(video.shape)}; give depth as [T,H,W]"
        )
    fov = IngestConfig().fov_degrees
    lens = default_intrinsics(height, width, fov) if intrinsics is None else torch.as_tensor(intrinsics)
    lens = lens.double().expand(frames, 3, 3) if lens.ndim == 2 else lens.double()
    still = torch.eye(4, dtype=torch.float64).expand(frames, 4, 4)
    poses = still if world_to_camera is None else torch.as_tensor(world_to_camera).double()
    try:
        check_cameras(lens, poses, frames, CLIP)
    except ValueError as error:
        raise UserError(str(error)) from None
    known = np.isfinite(depth) & (depth > 0)
    if not known[0].any():
        raise UserError(f"{CLIP}: depth is unknown in all of frame 0, so there is no pivot; give its depth")
    return SourceView(
        to_video(np.ascontiguousarray(video), device),
        torch.from_numpy(depth).to(device),
        torch.from_numpy(known).to(device),
        lens.to(device),
        poses.to(device),
        torch.arange(frames, device=device),
        _groups(video, world_to_camera is not None).to(device),
    )


def _groups(video: NDArray[np.uint8], cameras_known: bool) -> Tensor:
    """Return the group [T] of each frame, as ingest finds it; see `SourceView.pose_group`."""
    if cameras_known:
        return torch.zeros(len(video), dtype=torch.int64)
    stretches = StillStretches()
    for frame in video:
        stretches.add(frame)
    return torch.tensor(stretches.groups, dtype=torch.int64)


def _path(trajectory: TrajectoryConfig, source: SourceView, known: bool, fps: float) -> CameraPath:
    frames, height, width = source.depth.shape
    cameras = Source(
        source.intrinsics.cpu(),
        source.world_to_camera.cpu(),
        known,
        (width, height),
        (width, height),
        frames,
        0,
        Fraction(fps).limit_denominator(100_000),
    )
    pivot = middle_depth(source.depth[0].cpu(), source.known[0].cpu())
    try:
        return camera_path(trajectory, find_trajectory_file(trajectory), cameras, pivot, CLIP)
    except ValueError as error:
        raise UserError(str(error)) from None
