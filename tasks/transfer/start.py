"""What is known of a result before it is sampled: a first frame, a clip around a swept region, or nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import RenderedView
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.source_cameras import read_cameras


def cameras_of(inputs: Mapping[str, Artifact], frames: int, *, moving: bool) -> dict[str, np.ndarray]:
    """Return the cameras of a result as ingest stores them: the target's, or its first one in every frame.

    moving: as the target's own frames do; a target that ends before the result is refused elsewhere.
    """
    given = read_cameras(inputs)
    last = len(given["world_to_camera"]) - 1
    picked = np.arange(frames).clip(max=last) if moving else np.zeros(frames, np.int64)
    return {name: given[name][picked] for name in ("intrinsics", "world_to_camera", "pose_group")}


def first_frame(ingest: Artifact, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a video [T,3,H,W] of which the target's first frame alone is visible [T,H,W]."""
    shown = to_video(read_frames(ingest, np.zeros(1, np.int64), ["rgb"])["rgb"], device)
    video = shown.new_zeros(frames, *shown.shape[1:])
    video[0] = shown[0]
    visible = torch.zeros(frames, *shown.shape[2:], dtype=torch.bool, device=device)
    visible[0] = True
    return video, visible


def nothing(ingest: Artifact, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a video of the target's size of which nothing is visible."""
    video, visible = first_frame(ingest, frames, device)
    return torch.zeros_like(video), torch.zeros_like(visible)


def as_view(video: Tensor, visible: Tensor, cameras: Mapping[str, np.ndarray]) -> RenderedView:
    """Return a video [T,3,H,W] and what is visible of it [T,H,W] as a filler takes them."""
    depth = torch.full(visible.shape, torch.inf, device=visible.device)
    lens, pose = (
        torch.from_numpy(cameras[name]).to(visible.device) for name in ("intrinsics", "world_to_camera")
    )
    return RenderedView(
        torch.where(visible[:, None], video, 0.0), visible, depth, torch.ones_like(depth), lens, pose
    )
