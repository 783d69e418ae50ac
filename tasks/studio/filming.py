"""What a new camera sees of a clip, by the renderer of jobs, at the working size or at every n-th pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recapture.datasets.store.artifact import Artifact
from recapture.models.geometry.safe_amount import coarse_lens
from recapture.models.geometry.trajectories import CameraPath
from recapture.tasks.clip.camera_path import Source
from recapture.tasks.clip.scene_reader import read_depth, read_frames
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.jobs.render import RenderStage

LARGEST_BREAK = 0.99  # of break_ratio, which must stay below 1


@dataclass(frozen=True)
class Seen:
    """One frame of the new video: rgb uint8 [h,w,3], grey in holes, and visible bool [h,w]."""

    rgb: np.ndarray
    visible: np.ndarray
    hole_share: float  # of the clip's picture, without its padding
    step: int  # pixels of the working size per pixel, along one side
    content: tuple[int, int]  # height and width without the padding

    @property
    def picture(self) -> np.ndarray:
        """Return rgb without the padding."""
        return self.rgb[: self.content[0], : self.content[1]]


class Film:
    """The frames of one clip, filmed by any camera.

    With a step of 1 a frame is that of the stage `render`, to the bit on the CPU. With a larger step it is
    that of a clip of which every step-th pixel is known: rays are the same, and depth may jump by `step`
    times as much before a surface is torn.
    """

    def __init__(self, stage: RenderStage, source: Source, inputs: Mapping[str, Artifact]) -> None:
        self._stage, self._source, self._inputs = stage, source, inputs
        self._content = content_known(inputs["ingest"])

    def step_for(self, side: int) -> int:
        """Return the step at which the shorter side has at least `side` pixels; 1 if it has fewer itself."""
        return max(1, min(self._content.shape) // side)

    def frame(self, path: CameraPath, at: int, step: int = 1) -> Seen:
        """Return the frame `at` of a path whose lenses are of the working size."""
        part = slice(at, at + 1)
        shown = path.source_frame[part].numpy()
        frames = read_frames(self._inputs["ingest"], shown) | read_depth(self._inputs, shown)
        stage, source, content = self._stage, self._source, self._content
        if step > 1:
            every = slice(step // 2, None, step)
            frames = {name: np.ascontiguousarray(array[:, every, every]) for name, array in frames.items()}
            content = content[every, every]
            source = replace(source, intrinsics=coarse_lens(source.intrinsics, step))
            path = replace(path, intrinsics=coarse_lens(path.intrinsics, step))
            coarse = min(LARGEST_BREAK, stage.config.break_ratio * step)
            stage = replace(stage, config=stage.config.model_copy(update={"break_ratio": coarse}))
        seen = stage.seen(frames, content, source, path, part)
        holes = 1.0 - seen["visible"][:, content].mean(axis=1)  # as RenderStage has it
        return Seen(seen["rgb"][0], seen["visible"][0], float(holes[0]), step, _extent(content))

    def cloud(self, frame: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `most` points [N,3] of a source frame in the world, and colours uint8 [N,3]."""
        picked = np.array([frame])
        read = read_frames(self._inputs["ingest"], picked) | read_depth(self._inputs, picked)
        known = read["known"][0] & self._content
        step = max(1, int(np.ceil(np.sqrt(known.sum() / most))))
        sparse = np.zeros_like(known)
        sparse[step // 2 :: step, step // 2 :: step] = True
        rows, columns = np.nonzero(known & sparse)
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        lens = self._source.intrinsics[frame].double().numpy()
        rays = np.linalg.solve(lens, pixels) * read["depth"][0][rows, columns]
        pose = self._source.world_to_camera[frame].double().numpy()
        points = (rays - pose[:3, 3:]).T @ pose[:3, :3]
        return points.astype(np.float32), read["rgb"][0][rows, columns]


def _extent(content: np.ndarray) -> tuple[int, int]:
    return int(content.any(axis=1).sum()), int(content.any(axis=0).sum())
