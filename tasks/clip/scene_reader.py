"""The inputs of fillers and metrics, read from a clip's artifacts for any frames of a new path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import RenderedView, SourceView
from recapture.tasks.clip.depth_units import related_poses
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.working_size import content_known


class SceneReader:
    """A reader of source and rendered view for any frames of the new path."""

    def __init__(self, inputs: Mapping[str, Artifact], device: torch.device) -> None:
        self._inputs, self._device = inputs, device
        self._source = {
            name: torch.from_numpy(array) for name, array in inputs["ingest"].read_npz("cameras.npz").items()
        }
        self._source["pose_group"] = related_poses(self._source["pose_group"], inputs["depth"])
        self._path = path_of(inputs["render"])
        self._content = torch.from_numpy(content_known(inputs["ingest"]))

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return len(self._path["source_frame"])

    def read(self, frames: np.ndarray) -> tuple[RenderedView, SourceView]:
        """Return the rendered view at the frames [t], and the range of source frames that they show."""
        picked = torch.from_numpy(frames)
        groups = self._source["pose_group"].to(self._device)
        view = read_view(self._inputs["render"], self._path, frames, self._device)
        view = replace(view, pose_group=groups[self._path["source_frame"][picked]])
        shown = self._path["source_frame"][picked]
        stretch = np.arange(int(shown.min()), int(shown.max()) + 1)
        source = read_frames(self._inputs["ingest"], stretch)
        depth = read_frames(self._inputs["depth"], stretch)
        first = torch.from_numpy(stretch)
        return view, SourceView(
            to_video(source["rgb"], self._device),
            self._tensor(depth["depth"]),
            self._tensor(depth["known"]) & self._content.to(self._device),
            self._source["intrinsics"][first].to(self._device),
            self._source["world_to_camera"][first].to(self._device),
            (shown - int(stretch[0])).to(self._device),
            groups[first],
        )

    def edit(self, frames: np.ndarray) -> Tensor | None:
        """Return where the view at the frames [t] shows the edit, bool [t,H,W]; None without an edit."""
        render = self._inputs["render"]
        return self._tensor(read_frames(render, frames)["edit"]) if "edited" in render.meta else None

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def read_truth(
    clip: Clip, ingest: Artifact, path: Mapping[str, np.ndarray], frames: np.ndarray
) -> dict[str, np.ndarray] | None:
    """Return what the new cameras really see at the frames [t], cut to the content; None if it is unknown."""
    height, width = ingest.meta["content"]
    return open_clip(clip).truth(
        path["intrinsics"][frames],
        path["world_to_camera"][frames],
        path["source_frame"][frames] + ingest.meta["first_frame"],
        height,
        width,
    )


def path_of(render: Artifact) -> dict[str, Tensor]:
    """Return the cameras of a rendered view and the source frames that it shows."""
    return {name: torch.from_numpy(array) for name, array in render.read_npz("cameras.npz").items()}


def read_view(
    render: Artifact, path: Mapping[str, Tensor], frames: np.ndarray, device: torch.device
) -> RenderedView:
    """Return a rendered view at the frames [t] of its path."""
    picked = torch.from_numpy(frames)
    read = read_frames(render, frames)
    return RenderedView(
        to_video(read["rgb"], device),
        torch.from_numpy(read["visible"]).to(device),
        torch.from_numpy(read["depth"]).to(device),
        torch.from_numpy(read["stretch"]).to(device).float(),
        path["intrinsics"][picked].to(device),
        path["world_to_camera"][picked].to(device),
    )


def read_frames(artifact: Artifact, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Read every per-frame array of an artifact at the frames [t] int, in the order given."""
    first, last = int(frames.min()), int(frames.max())
    arrays = artifact.frames().read(first, last + 1)
    return {name: array[frames - first] for name, array in arrays.items()}
