"""Cameras: pose and lens of every frame of a clip that brings none, from its picture and its depth."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recapture.conf.cameras import CamerasConfig
from recapture.datasets.clips.edit_masks import shrink
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.cameras.estimate import Lens
from recapture.models.cameras.shots import ClipCameras, estimate_clip
from recapture.models.cameras.tracks import Follower
from recapture.models.geometry.cameras import default_intrinsics
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.source_cameras import CAMERAS, has_cameras
from recapture.tasks.clip.working_size import content_known
from recapture.tasks.engine.stage import Item

CHUNK = 32
EXACT, PREDICTED = 0.03, 0.2  # relative error of depth that is expected, given and predicted

logger = logging.getLogger(__name__)


@dataclass
class CamerasStage(ClipStage):
    """Write cameras.npz with what ingest writes there, estimated, and how sure it is.

    intrinsics [T,3,3], world_to_camera [T,4,4] in the units of the depth and the coordinates of each shot's
    first frame, pose_group int64 [T] (frames of one shot), confidence float64 [T], 0...1, depth_gain [T], by
    which depth is to be multiplied. Where a shot's confidence is below least_confidence, its poses are the
    identity and its groups those of ingest, as for a clip of which nothing is known.

    meta: cameras_known, estimated, motion of each shot, shots (their first frames), confidence, reasons (why
    a shot's cameras are unknown), doubts (motion that explains the picture and was not believed).
    """

    config: CamerasConfig
    fov_degrees: float = 60.0
    name: ClassVar[str] = "cameras"
    version: ClassVar[str] = "2"
    parents: ClassVar[tuple[str, ...]] = ("ingest", "depth")

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        if self.config.source in ("still", "given"):
            return {"source": self.config.source}
        # for other clips, the lens is in the key of ingest
        return {"fov_degrees": self.fov_degrees} if has_cameras(params.clip) else {}

    def check_inputs(self, params: ClipParams) -> None:
        check_clip(params.clip)  # its maps of objects are read

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        ingest, name = inputs["ingest"], item.params.clip.id
        if self.config.source == "given":
            raise ValueError(
                f"clip {name!r}: it has no cameras, and cameras.source is given; put {name}.cameras.npz "
                "beside it, or set cameras.source to auto"
            )
        own = ingest.read_npz(CAMERAS)
        height, width = ingest.meta["content"]
        matrix = default_intrinsics(height, width, self.fov_degrees).double().numpy()
        lens = Lens(float(matrix[0, 0]), (float(matrix[0, 2]), float(matrix[1, 2])))
        frames = len(own["world_to_camera"])
        if self.config.source == "still" or ingest.meta["cameras"] == "still":
            found = ClipCameras.still(frames, lens)
        else:
            follower = self._followed(item.params, inputs)
            found = estimate_clip(
                follower.tracks(),
                lens,
                spread=PREDICTED if inputs["depth"].meta["source"] == "model" else EXACT,
                regain=inputs["depth"].meta["source"] == "model",
                groups=own["pose_group"],
                least_confidence=self.config.least_confidence,
            )
        if self.config.cuts == "refuse" and len(found.shots) > 1:
            raise ValueError(
                f"clip {name!r}: it is cut at frame {', '.join(map(str, found.shots[1:]))}, and cameras.cuts "
                "is refuse; cut the file there, or set cameras.cuts to split"
            )
        for reason in found.reasons:
            logger.warning("clip %r: its cameras cannot be told: %s", name, reason)
        for doubt in found.doubts:
            logger.warning("clip %r: its cameras are less sure: %s", name, doubt)
        output.write_npz(CAMERAS, **found.arrays)
        output.meta.update(
            cameras_known=found.known,
            estimated=True,
            cameras="still" if found.motions == ("still",) else "estimated" if found.known else "unknown",
            motion=list(found.motions),
            shots=list(found.shots),
            confidence=found.confidence,
            reasons=list(found.reasons),
            doubts=list(found.doubts),
        )
        return found.metrics(width)

    def _followed(self, params: ClipParams, inputs: Mapping[str, Artifact]) -> Follower:
        """Return what followed points through all frames, away from objects that the clip says move."""
        follower, ingest = Follower(), inputs["ingest"]
        height, width = ingest.meta["content"]
        content = content_known(ingest)[:height, :width]
        objects = self._objects(params, ingest)
        for start in range(0, ingest.meta["frames"], CHUNK):
            frames = np.arange(start, min(start + CHUNK, ingest.meta["frames"]))
            rgb = read_frames(ingest, frames, ["rgb"])["rgb"][:, :height, :width]
            depth = read_frames(inputs["depth"], frames)
            for picture, z, known in zip(rgb, depth["depth"], depth["known"]):
                usable = known[:height, :width] & content & ~next(objects)
                follower.add(picture, z[:height, :width], usable)
        return follower

    def _objects(self, params: ClipParams, ingest: Artifact) -> Iterator[np.ndarray]:
        """Yield where objects are in each frame, bool [h,w]; nowhere if the clip has no maps of them."""
        first, count = ingest.meta["first_frame"], ingest.meta["frames"]
        height, width = ingest.meta["content"]
        source = open_clip(params.clip)
        for start in range(first, first + count, CHUNK):
            stop = min(start + CHUNK, first + count)
            maps = source.objects(start, stop)
            for at in range(stop - start):
                nowhere = np.zeros((height, width), bool)
                yield nowhere if maps is None else shrink(maps[at] > 0, height, width)
