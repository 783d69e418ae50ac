"""Write a clip for other tools as point clouds, camera files and videos."""

from __future__ import annotations

import json
from collections.abc import Sequence

from recapture.conf.heartbeat import beating
from recapture.datasets.cameras.cameras import write_bytes
from recapture.datasets.media.ply import ply_file
from recapture.datasets.media.video import write_video
from recapture.tasks.clip.exported_view import ExportedView


def write_points(folder: str, view: ExportedView, comments: Sequence[str], every: int = 1) -> int:
    """Write points/frame_00000.ply of every n-th frame, numbered as in the clip; return how many points."""
    total = 0
    for frame in beating(view.frames(every)):
        points, colours = view.points(frame)
        seconds = float(view.source_frame[frame.number] / view.fps)
        about = [
            *comments,
            f"frame: {frame.number}, at {seconds:.6f} s",
            f"pose_group: {int(view.pose_group[frame.number])}",
        ]
        write_bytes(f"{folder}/points/frame_{frame.number:05d}.ply", ply_file(points, colours, about))
        total += len(points)
    return total


def write_view(folder: str, view: ExportedView) -> None:
    """Write the cameras of all frames of a view, cameras.json, and its video, video.mp4."""
    write_bytes(f"{folder}/cameras.json", json.dumps(_camera_fields(view)).encode())
    write_video(f"{folder}/video.mp4", (frame.rgb for frame in view.frames()), view.fps)


def _camera_fields(view: ExportedView) -> dict[str, object]:
    """Return what the dialect opencv reads, and beside it which frame of the clip each frame shows."""
    return {
        "convention": "opencv",
        "world_to_camera": view.world_to_camera.tolist(),
        "intrinsics": view.intrinsics.tolist(),
        "size": list(view.size),
        "fps": str(view.fps),
        "source_frame": view.source_frame.tolist(),
        "pose_group": view.pose_group.tolist(),
    }
