"""The camera path of a configured trajectory for one clip: preset, key frames, file or stabilised source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.cameras.angles import ANGLE_FORMATS, read_angles
from recapture.datasets.cameras.cameras import intrinsics_for
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.geometry.camera_paths import resampled, restarted, sampled, scaled, smoothed
from recapture.models.geometry.moments import frames_shown
from recapture.models.geometry.subject import in_camera
from recapture.models.geometry.trajectories import CameraPath, explicit_path, keyframe_path, preset_path
from recapture.tasks.clip.body_points import BodyPoints, shown_moments
from recapture.tasks.clip.source_cameras import cameras_known, read_cameras
from recapture.tasks.clip.trajectory_file import TrajectoryFile, cameras_of


@dataclass(frozen=True)
class Source:
    """What a trajectory needs to know of the source: its cameras at the frames that are processed."""

    intrinsics: Tensor  # [T, 3, 3] in pixels of the working size
    world_to_camera: Tensor  # [T, 4, 4]
    cameras_known: bool  # False: the clip has none, and these are a guess
    content: tuple[int, int]  # width and height of the clip's picture at the working size
    clip_size: tuple[int, int]  # width and height of the clip itself
    clip_frames: int
    first_frame: int  # of the clip
    fps: Fraction

    @classmethod
    def of(cls, clip: Clip, inputs: Mapping[str, Artifact]) -> Source:
        """Return the source of an ingested clip, with its given or estimated cameras."""
        ingest = inputs["ingest"]
        cameras = {name: torch.from_numpy(array) for name, array in read_cameras(inputs).items()}
        height, width = ingest.meta["content"]
        return cls(
            cameras["intrinsics"],
            cameras["world_to_camera"],
            cameras_known(inputs),
            (width, height),
            (clip.width, clip.height),
            clip.frames,
            ingest.meta["first_frame"],
            Fraction(ingest.meta["fps"]),
        )

    @property
    def cameras(self) -> tuple[Tensor, Tensor]:
        """Return intrinsics and world_to_camera."""
        return self.intrinsics, self.world_to_camera

    @property
    def frames(self) -> int:
        """Return how many frames are processed."""
        return len(self.world_to_camera)

    def at(self, moments: np.ndarray) -> Source:
        """Return the source's cameras at these moments, as a clip of so many frames."""
        path, lens = sampled(self.world_to_camera.double(), self.intrinsics.double(), moments)
        assert lens is not None
        return replace(self, intrinsics=lens, world_to_camera=path, clip_frames=len(moments), first_frame=0)


def trajectory_identity(trajectory: TrajectoryConfig, found: TrajectoryFile | None) -> dict[str, object]:
    """Return what the path depends on besides the clip: the settings, and the content of the file."""
    if found is None:
        return {"trajectory": trajectory.keyed(), "file": None}
    used = trajectory.keyed() | {"file_format": found.dialect}
    if found.cameras is not None:
        used["relative_to"] = found.relative_to(trajectory)
    if found.clip is not None:
        del used["file_camera"]  # the clip enters by its content
    return {"trajectory": used, "file": found.content}


def needs_camera_units(trajectory: TrajectoryConfig, found: TrajectoryFile | None) -> bool:
    """Return whether the path depends on how far the clip's own cameras travel.

    It does not where the source's motion cancels out: presets, key frames, offsets from each frame's camera.
    """
    if trajectory.subject is not None and trajectory.subject.lead_seconds:
        return True
    if found is None or found.cameras is None:
        return trajectory.stabilise_seconds is not None
    return found.relative_to(trajectory) != "source"


def camera_path(
    trajectory: TrajectoryConfig,
    found: TrajectoryFile | None,
    source: Source,
    pivot_depth: float,
    name: str,
    subject: Tensor | None = None,  # [T, 3] in the world, NaN where unseen
) -> CameraPath:
    """Return the path of a configured trajectory for a clip; errors name the item.

    found: what its file holds, if it has one. subject: where the body is that it is relative to, if it is.
    """
    try:
        moments = shown_moments(trajectory.time, source.frames, float(source.fps))
        timed = source if moments is None else source.at(moments)
        points = None
        if trajectory.subject is not None and subject is not None:
            points = BodyPoints.of(trajectory.subject, subject, float(source.fps), moments)
        pivot = pivot_depth if points is None else in_camera(points.now, timed.world_to_camera)
        path = _path(trajectory, found, timed, pivot)
        if points is not None:
            path = points.framed(path, *timed.cameras)
        if moments is not None:
            path = replace(path, source_frame=torch.from_numpy(frames_shown(moments))[path.source_frame])
        return path
    except ValueError as error:
        raise ValueError(f"{name}: the trajectory cannot be used: {error}") from error


def _path(
    trajectory: TrajectoryConfig, found: TrajectoryFile | None, source: Source, pivot: float | Tensor
) -> CameraPath:
    if found is not None:
        return _from_file(trajectory, found, source, pivot)
    if trajectory.stabilise_seconds is not None:
        return _stabilised(source, trajectory.stabilise_seconds)
    if trajectory.keyframes is not None:
        return keyframe_path(
            [dict(key) for key in trajectory.keyframes],
            *source.cameras,
            pivot,
            mode=trajectory.mode,
            interpolation=trajectory.interpolation,
            easing=trajectory.easing,
            freeze_frame=trajectory.freeze_frame,
        )
    assert trajectory.preset is not None
    return preset_path(
        trajectory.preset,
        *source.cameras,
        pivot,
        angle_degrees=trajectory.angle_degrees,
        distance=trajectory.distance,
        mode=trajectory.mode,
        easing=trajectory.easing,
        freeze_frame=trajectory.freeze_frame,
    )


def _stabilised(source: Source, seconds: float) -> CameraPath:
    if not source.cameras_known:
        raise ValueError("the clip has no cameras, so there is no motion to stabilise; provide cameras")
    path = smoothed(source.world_to_camera, float(seconds * source.fps))
    return CameraPath(source.intrinsics.double(), path, torch.arange(source.frames))


def _from_file(
    trajectory: TrajectoryConfig, found: TrajectoryFile, source: Source, pivot: float | Tensor
) -> CameraPath:
    file = trajectory.file
    assert file is not None
    if found.dialect in ANGLE_FORMATS:
        return _angles_path(trajectory, file, source, pivot)
    cameras, relative_to = cameras_of(trajectory, found), found.relative_to(trajectory)
    if relative_to == "world" and not source.cameras_known:
        raise ValueError(
            f"relative_to world places the cameras of {file!r} in the world of the clip's own cameras, and "
            "the clip has none; provide cameras, or use relative_to first or source"
        )
    lens = intrinsics_for(cameras, *source.clip_size)
    if lens is not None:  # from the clip's own pixels to those of the working size
        factors = [source.content[axis] / source.clip_size[axis] for axis in (0, 1)]
        lens = lens * np.array([[factors[0]], [factors[1]], [1.0]])
    path, intrinsics = _at_length(
        scaled(torch.from_numpy(cameras.world_to_camera), trajectory.scale),
        None if lens is None else torch.from_numpy(lens),
        source,
        file,
        fit=trajectory.fit_length,
    )
    if relative_to != "first":
        return explicit_path(path, intrinsics, *source.cameras, relative=relative_to == "source")
    if intrinsics is not None:  # another lens: only its relative zoom carries over
        zoom = intrinsics.diagonal(dim1=1, dim2=2) / intrinsics[:1].diagonal(dim1=1, dim2=2)
        intrinsics = source.intrinsics[:1].double().repeat(source.frames, 1, 1)
        intrinsics[:, [0, 1], [0, 1]] *= zoom[:, :2]
    return explicit_path(
        restarted(path, source.world_to_camera[0].double()), intrinsics, *source.cameras, relative=False
    )


def _at_length(
    path: Tensor, intrinsics: Tensor | None, source: Source, file: str, *, fit: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the cameras of the frames that are processed."""
    if len(path) == source.frames:
        return path, intrinsics
    if len(path) == source.clip_frames:
        part = slice(source.first_frame, source.first_frame + source.frames)
        return path[part], None if intrinsics is None else intrinsics[part]
    if fit:
        return resampled(path, intrinsics, source.frames)
    raise ValueError(
        f"the file {file!r} has {len(path)} cameras for {source.frames} frames; give one per frame, or set "
        "fit_length to stretch it"
    )


def _angles_path(
    trajectory: TrajectoryConfig, file: str, source: Source, pivot: float | Tensor
) -> CameraPath:
    parts = read_angles(file, trajectory.file_format).scaled(trajectory.scale).at_frames(source.frames)
    keys = [
        {"at": at / max(source.frames - 1, 1)} | {name: float(values[at]) for name, values in parts.items()}
        for at in range(source.frames)
    ]
    return keyframe_path(
        keys,
        *source.cameras,
        pivot,
        mode=trajectory.mode,
        interpolation="linear",
        easing=trajectory.easing,
        freeze_frame=trajectory.freeze_frame,
    )
