"""The inputs of fillers and metrics, read from a clip's artifacts for any frames of a new path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.fill.view import RenderedView, SourceView
from recapture.tasks.clip.depth_units import related_poses
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.clip.read_ahead import on_host, to_device
from recapture.tasks.clip.rolling_frames import RollingFrames
from recapture.tasks.clip.source_cameras import consistent, from_pictures, read_cameras
from recapture.tasks.clip.working_size import content_known


@dataclass(frozen=True)
class Scene:
    """The arrays of some frames of the new path in host memory, ready to be copied to the device."""

    picked: Tensor  # [t] frames of the new path
    shown: Tensor  # [t] the source frames that they show
    first: int  # of the range of source frames
    render: dict[str, Tensor]
    ingest: dict[str, Tensor]
    depth: dict[str, Tensor]


class SceneReader:
    """A reader of source and rendered view for any frames of the new path.

    `load` reads and decompresses into host memory; `view`, `source` and `edit` copy to the device.
    rolling: source frames of the last call are kept, for calls whose ranges move forward and overlap.
    """

    def __init__(
        self, inputs: Mapping[str, Artifact], device: torch.device, *, rolling: bool = False
    ) -> None:
        self._inputs, self._device = inputs, device
        self._rolling = {name: RollingFrames(inputs[name]) for name in ("ingest", "depth")} if rolling else {}
        self._cameras = read_cameras(inputs)
        self._source = {name: torch.from_numpy(array) for name, array in self._cameras.items()}
        self._source["pose_group"] = related_poses(self._source["pose_group"], inputs["depth"])
        self._path = path_of(inputs["render"])
        self._content = torch.from_numpy(content_known(inputs["ingest"]))

    @property
    def frames(self) -> int:
        """Return how many frames the new path has."""
        return len(self._path["source_frame"])

    def read(
        self, frames: np.ndarray, stretch: tuple[int, int] | None = None
    ) -> tuple[RenderedView, SourceView]:
        """Return the rendered view at the frames [t], and the range of source frames that they show.

        stretch: the first source frame and the one after the last, where a longer range is wanted.
        """
        scene = self.load(frames, stretch)
        return self.view(scene), self.source(scene)

    def load(self, frames: np.ndarray, stretch: tuple[int, int] | None = None) -> Scene:
        """Read what the frames [t] are made from into host memory."""
        picked = torch.from_numpy(frames)
        shown = self._path["source_frame"][picked]
        start, stop = (int(shown.min()), int(shown.max()) + 1) if stretch is None else stretch
        return Scene(
            picked,
            shown,
            start,
            on_host(read_frames(self._inputs["render"], frames), self._device),
            on_host(self._source_frames("ingest", start, stop), self._device),
            on_host(self._depth(start, stop), self._device),
        )

    def _source_frames(self, name: str, start: int, stop: int) -> dict[str, np.ndarray]:
        if name in self._rolling:
            return self._rolling[name].read(start, stop)
        return read_frames(self._inputs[name], np.arange(start, stop))

    def _depth(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return consistent(self._source_frames("depth", start, stop), self._cameras, np.arange(start, stop))

    def view(self, scene: Scene) -> RenderedView:
        """Return the rendered view."""
        view = placed_view(scene.render, self._path, scene.picked, self._device)
        return replace(view, pose_group=self._groups()[scene.shown])

    def source(self, scene: Scene) -> SourceView:
        """Return the range of source frames that the view shows."""
        first = torch.arange(scene.first, scene.first + len(scene.ingest["rgb"]))
        return SourceView(
            to_video(scene.ingest["rgb"], self._device),
            to_device(scene.depth["depth"], self._device),
            to_device(scene.depth["known"], self._device) & self._content.to(self._device),
            self._source["intrinsics"][first].to(self._device),
            self._source["world_to_camera"][first].to(self._device),
            (scene.shown - scene.first).to(self._device),
            self._groups()[first],
        )

    def source_at(self, frames: Tensor) -> SourceView:
        """Return any source frames [n] int64, in order of time, as a clip that shows each once."""
        readers = {name: self._inputs[name].frames() for name in ("ingest", "depth")}
        alone = [
            {name: reader.read(frame, frame + 1) for name, reader in readers.items()}
            for frame in beating(frames.tolist())
        ]

        def joined(stage: str, name: str) -> Tensor:
            array = np.concatenate([one[stage][name] for one in alone])
            return torch.from_numpy(array).to(self._device)

        return SourceView(
            torch.cat([to_video(one["ingest"]["rgb"], self._device) for one in alone]),
            joined("depth", "depth"),
            joined("depth", "known") & self._content.to(self._device),
            self._source["intrinsics"][frames].to(self._device),
            self._source["world_to_camera"][frames].to(self._device),
            torch.arange(len(frames), device=self._device),
            self._groups()[frames.to(self._device)],
        )

    @property
    def groups(self) -> Tensor:
        """Return the group [S] of each source frame, see `SourceView.pose_group`."""
        return self._source["pose_group"]

    def edit(self, scene: Scene) -> Tensor | None:
        """Return where the view shows the edit, bool [t,H,W]; None without an edit."""
        edited = "edited" in self._inputs["render"].meta
        return to_device(scene.render["edit"], self._device) if edited else None

    def _groups(self) -> Tensor:
        return self._source["pose_group"].to(self._device)


def read_truth(
    clip: Clip, inputs: Mapping[str, Artifact], path: Mapping[str, np.ndarray], frames: np.ndarray
) -> dict[str, np.ndarray] | None:
    """Return what the new cameras really see at the frames [t], cut to the content; None if it is unknown.

    It is unknown to estimated cameras: their world is their own.
    """
    if from_pictures(inputs):
        return None
    ingest = inputs["ingest"]
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
    return placed_view(on_host(read_frames(render, frames), device), path, torch.from_numpy(frames), device)


def placed_view(
    read: Mapping[str, Tensor], path: Mapping[str, Tensor], picked: Tensor, device: torch.device
) -> RenderedView:
    """Return a rendered view on the device from its arrays in host memory, at the frames `picked` [t]."""
    return RenderedView(
        to_video(read["rgb"], device),
        to_device(read["visible"], device),
        to_device(read["depth"], device),
        to_device(read["stretch"], device).float(),
        path["intrinsics"][picked].to(device),
        path["world_to_camera"][picked].to(device),
    )


def read_depth(inputs: Mapping[str, Artifact], frames: np.ndarray) -> dict[str, np.ndarray]:
    """Return depth and known [t,H,W] at the frames [t], in the units of the cameras."""
    return consistent(read_frames(inputs["depth"], frames), read_cameras(inputs), frames)


def read_frames(
    artifact: Artifact, frames: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Read the named per-frame arrays, or all, of an artifact at the frames [t] int, in the order given."""
    first, last = int(frames.min()), int(frames.max())
    arrays = artifact.frames().read(first, last + 1, names)
    return {name: array[frames - first] for name, array in arrays.items()}
