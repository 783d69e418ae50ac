"""The inputs of tuning: windows of a clip with geometry, its objects, and seeded random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import SourceView
from recapture.tasks.clip.depth_units import related_poses
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.working_size import content_known


def read_window(inputs: Mapping[str, Artifact], start: int, count: int, device: torch.device) -> SourceView:
    """Return frames start..start+count-1 of a clip as a source view, one source frame per shown frame."""
    ingest = inputs["ingest"]
    frames = np.arange(start, start + count)
    cameras = {
        name: torch.from_numpy(array)[frames] for name, array in ingest.read_npz("cameras.npz").items()
    }
    depth = read_frames(inputs["depth"], frames)
    return SourceView(
        to_video(read_frames(ingest, frames)["rgb"], device),
        torch.from_numpy(depth["depth"]).to(device),
        torch.from_numpy(depth["known"] & content_known(ingest)).to(device),
        cameras["intrinsics"].to(device),
        cameras["world_to_camera"].to(device),
        torch.arange(count, device=device),
        related_poses(cameras["pose_group"], inputs["depth"]).to(device),
    )


def read_objects(clip: Clip, ingest: Artifact, start: int, count: int) -> Tensor | None:
    """Return object ids int64 [t,H,W] of the frames, 0 in padding; None if the clip has none."""
    first = ingest.meta["first_frame"] + start
    objects = open_clip(clip).objects(first, first + count)
    if objects is None:
        return None
    (height, width), size = ingest.meta["content"], ingest.meta["size"]
    resized = np.zeros((len(objects), *size), dtype=np.int64)
    for frame, ids in zip(resized, objects):
        # as float64, which holds every id exactly and which OpenCV can resize
        nearest = cv2.resize(ids.astype(np.float64), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        frame[:height, :width] = nearest.astype(np.int64)
    return torch.from_numpy(resized)


def draws(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for one purpose, independent of all others."""
    return torch.Generator().manual_seed(draw_seed(seed, *purpose))


def draw_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed below 2^31 for one purpose, independent of all others."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
