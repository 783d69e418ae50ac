"""The file of a trajectory, looked at once per plan: workers get what was found, and search nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recapture.conf.errors import UserError
from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.cameras.angles import ANGLE_FORMATS, read_angles
from recapture.datasets.cameras.cameras import Cameras
from recapture.datasets.cameras.files import camera_file_hash, load_cameras, recognised_format
from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.readers.scan import open_clip, scan
from recapture.tasks.engine.model_revision import models_looked_at_once, once


@dataclass(frozen=True)
class TrajectoryFile:
    """What the file of a trajectory holds."""

    content: str  # its hash, or that of the clip in it
    dialect: str  # as recognised; never auto
    cameras: int | None = None  # how many it holds; None: angles, for any number of frames
    clip: Clip | None = None  # whose cameras are taken over
    offsets: bool = False  # by the file's own word

    def relative_to(self, trajectory: TrajectoryConfig) -> str:
        """Return what the cameras mean: as configured, else as the dialect has it."""
        return trajectory.relative_to or ("source" if self.dialect == "opencv" or self.offsets else "first")


def find_trajectory_files(
    trajectories: Iterable[TrajectoryConfig], store: str | None = None
) -> dict[str, TrajectoryFile]:
    """Return label -> its file. Each file is read, and each other dataset scanned, once.

    store: where the scans of other datasets are remembered.
    Raises UserError for a file that does not exist or cannot be used, naming trajectory and file.
    """
    with models_looked_at_once():
        found = {trajectory.label: find_trajectory_file(trajectory, store) for trajectory in trajectories}
    return {label: file for label, file in found.items() if file is not None}


def find_trajectory_file(trajectory: TrajectoryConfig, store: str | None = None) -> TrajectoryFile | None:
    """Return what a trajectory's file holds; None for a trajectory without a file. Raises UserError."""
    file, dialect, camera = trajectory.file, trajectory.file_format, trajectory.file_camera
    if file is None:
        return None
    try:
        if dialect == "clip":
            return _of_clip(_other_clip(file, camera, store))
        content = once(("camera file", file), lambda: camera_file_hash(file))
        if dialect in ANGLE_FORMATS:
            read_angles(file, dialect)
            return TrajectoryFile(content, dialect)
        known = recognised_format(file) if dialect == "auto" else dialect
        question = ("cameras", file, known, camera)
        cameras = once(question, lambda: load_cameras(file, known, camera))
        return TrajectoryFile(content, known, len(cameras), offsets=cameras.offsets)
    except (OSError, ValueError) as error:
        raise UserError(
            f"trajectory {trajectory.label!r}: file {file!r} cannot be used ({error}); "
            "check trajectories.file"
        ) from error


def cameras_of(trajectory: TrajectoryConfig, found: TrajectoryFile) -> Cameras:
    """Return the cameras in a trajectory's file, or those of the clip that was found in it."""
    if found.clip is not None:
        return _cameras_of(found.clip)
    assert trajectory.file is not None
    return load_cameras(trajectory.file, found.dialect, trajectory.file_camera)


def _of_clip(clip: Clip) -> TrajectoryFile:
    cameras = once(("cameras of", clip), lambda: len(_cameras_of(clip)))
    return TrajectoryFile(clip.content_hash, "clip", cameras, clip)


def _other_clip(uri: str, clip_id: str | None, store: str | None) -> Clip:
    def look() -> tuple[list[Clip], list[Rejected]]:
        return scan(uri, store=store)

    clips, rejected = once(("scan", uri), look)
    chosen = [clip for clip in clips if clip_id is None or clip.id == clip_id]
    if len(chosen) != 1:
        reasons = [item.error for item in rejected if clip_id in (None, item.id)]
        held = "".join(reasons[:1]) or ", ".join(clip.id for clip in clips[:10])
        raise ValueError(f"file_camera {clip_id!r} names {len(chosen)} clips of {uri!r} ({held}); name one")
    return chosen[0]


def _cameras_of(clip: Clip) -> Cameras:
    found = open_clip(clip).cameras()
    if found is None:
        raise ValueError(f"clip {clip.id!r} at {clip.uri!r} has no cameras to take over; choose another")
    intrinsics, world_to_camera = found
    return Cameras(world_to_camera, intrinsics, (clip.width, clip.height))
