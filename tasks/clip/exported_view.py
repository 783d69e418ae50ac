"""A clip as its own camera or a new one shows it, frame after frame, for other tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from recapture.conf.heartbeat import beat
from recapture.datasets.cameras.cameras import Cameras
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.depth_units import FREE, GIVEN, KEPT, MATCHED, UNMATCHED, WAY_OUT
from recapture.tasks.clip.filled_frames import read_filled
from recapture.tasks.clip.scene_reader import read_depth, read_frames
from recapture.tasks.clip.source_cameras import cameras_known, from_pictures, read_cameras
from recapture.tasks.clip.working_size import content_known

CHUNK = 8  # frames in memory, beside the file of 64 that an artifact keeps
SOURCE = "source"  # the name of the clip's own view
FIRST = "the camera of the first frame (x right, y down, z forward)"
UNITS: Mapping[str, str] = {
    GIVEN: "those of the depth that came with the clip, which its cameras are taken to have",
    MATCHED: "those of the clip's cameras, to which predicted depth was scaled",
    KEPT: "those of the depth model, which the clip's cameras are taken to have",
    FREE: "those of the depth model: scene units of any scale, metres only if the model is metric",
}


@dataclass(frozen=True)
class ShownFrame:
    """A frame of a view: rgb uint8 [H,W,3], z-depth float32 [H,W] (0 where unknown), known bool [H,W]."""

    number: int  # of the frame in its view
    rgb: np.ndarray
    depth: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class ExportedView:
    """Cameras and frames of a view, without the padding of the working size.

    Cameras have OpenCV axes, pixel centres at +0.5. source_frame [T]: the frame of the clip that each frame
    shows. pose_group [T]: frames of different groups have different worlds.
    """

    name: str
    size: tuple[int, int]  # width and height
    fps: Fraction
    intrinsics: np.ndarray  # [T,3,3] in pixels
    world_to_camera: np.ndarray  # [T,4,4]
    source_frame: np.ndarray
    clip_frames: int  # how many the clip has
    pose_group: np.ndarray
    complete: bool  # whether the picture shows something everywhere: the source, and filled views
    read: Callable[[np.ndarray], dict[str, np.ndarray]]  # rgb, depth, known of frames [t], padded

    def __len__(self) -> int:
        return len(self.world_to_camera)

    def numbers(self, every: int) -> np.ndarray:
        """Return the numbers of every n-th frame, the first among them."""
        return np.arange(0, len(self), every)

    def frames(self, every: int = 1) -> Iterator[ShownFrame]:
        """Yield every n-th frame; a few are in memory at a time."""
        width, height = self.size
        numbers = self.numbers(every)
        for start in range(0, len(numbers), CHUNK):
            picked = numbers[start : start + CHUNK]
            read = {name: array[:, :height, :width] for name, array in self.read(picked).items()}
            known = read["known"] & np.isfinite(read["depth"]) & (read["depth"] > 0)
            depth = np.where(known, read["depth"], np.float32(0))
            for at, number in enumerate(picked):
                beat()
                yield ShownFrame(int(number), read["rgb"][at], depth[at], known[at])

    def cameras(self, every: int = 1) -> Cameras:
        """Return the cameras of every n-th frame, as the writers of camera files take them."""
        picked = self.numbers(every)
        return Cameras(self.world_to_camera[picked], self.intrinsics[picked], self.size)

    def points(self, frame: ShownFrame, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the known points of a frame, float64 [N,3] in the world, and their colours uint8 [N,3].

        stride: every n-th pixel of every n-th row.
        """
        known = np.zeros_like(frame.known)
        known[::stride, ::stride] = frame.known[::stride, ::stride]
        rows, columns = np.nonzero(known)
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        rays = np.linalg.inv(self.intrinsics[frame.number]) @ pixels
        to_world = np.linalg.inv(self.world_to_camera[frame.number])
        points = to_world[:3, :3] @ (rays * frame.depth[known].astype(np.float64)) + to_world[:3, 3:]
        return points.T, frame.rgb[known]


def source_view(inputs: Mapping[str, Artifact]) -> ExportedView:
    """Return a clip as its own camera shows it; inputs: ingest, depth, and cameras where it has some.

    Raises ValueError if its depth has other units than its cameras.
    """
    ingest, depth = inputs["ingest"], inputs["depth"]
    if depth.meta.get("depth_units") == UNMATCHED:
        raise ValueError(
            "the scale of its predicted depth in the units of its cameras cannot be told "
            f"({depth.meta.get('depth_evidence')}), so its points have no place; {WAY_OUT}"
        )
    cameras, content = read_cameras(inputs), content_known(ingest)

    def read(frames: np.ndarray) -> dict[str, np.ndarray]:
        found = read_depth(inputs, frames)
        rgb = read_frames(ingest, frames, ["rgb"])["rgb"]
        return {"rgb": rgb, "depth": found["depth"], "known": found["known"] & content}

    count = len(cameras["world_to_camera"])
    height, width = ingest.meta["content"]
    return ExportedView(
        SOURCE,
        (width, height),
        Fraction(ingest.meta["fps"]),
        cameras["intrinsics"],
        cameras["world_to_camera"],
        np.arange(count),
        count,
        cameras.get("pose_group", np.zeros(count, np.int64)),
        True,
        read,
    )


def filmed_view(name: str, source: ExportedView, render: Artifact, fill: Artifact | None) -> ExportedView:
    """Return a clip as a new camera shows it: filled, or with grey holes if there is no fill."""
    path = render.read_npz("cameras.npz")

    def read(frames: np.ndarray) -> dict[str, np.ndarray]:
        shown = read_frames(render, frames, ["rgb", "depth", "visible"])
        rgb = shown["rgb"] if fill is None else read_filled(fill, render, frames)["rgb"]
        return {"rgb": rgb, "depth": shown["depth"], "known": shown["visible"]}

    return ExportedView(
        name,
        source.size,
        source.fps,
        path["intrinsics"],
        path["world_to_camera"],
        path["source_frame"],
        source.clip_frames,
        source.pose_group[path["source_frame"]],
        fill is not None,
        read,
    )


def units_of(inputs: Mapping[str, Artifact]) -> str:
    """Return in words which units points, depth and cameras have."""
    return UNITS.get(inputs["depth"].meta.get("depth_units", ""), "scene units of any scale")


def world_of(inputs: Mapping[str, Artifact], view: ExportedView) -> str:
    """Return in words which world points and cameras are in."""
    if len(set(view.pose_group.tolist())) > 1:
        return "one of its own per group of frames (pose_group), whose cameras are not related"
    if from_pictures(inputs):
        return f"{FIRST}; the others as estimated"
    if cameras_known(inputs):
        return "that of the cameras which came with the clip"
    return f"{FIRST}, which stands still"
