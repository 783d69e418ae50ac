"""Ingest: a clip as frames at the working size, with its cameras in the same pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from recapture.conf.schema import IngestConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.writer import ArtifactWriter
from recapture.models.geometry.cameras import check_cameras, default_intrinsics, scale_intrinsics
from recapture.models.geometry.stillness import StillStretches
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage, check_clip
from recapture.tasks.clip.source_cameras import has_cameras
from recapture.tasks.clip.working_size import WorkingSize, to_working_size, working_size
from recapture.tasks.engine.stage import NO_SETTINGS, Item

CHUNK = 32
NEIGHBOURS = 4  # frames: a still stretch must be longer for another of its frames to be of use


def frame_range(clip: Clip, config: IngestConfig) -> range:
    """Return the source frames that the configuration selects; raise ValueError if there are none."""
    fps = Fraction(clip.fps)
    start = round(config.start_seconds * fps)
    stop = clip.frames
    if config.max_seconds is not None:
        stop = min(stop, start + max(1, math.ceil(config.max_seconds * fps)))
    if start >= stop:
        raise ValueError(
            f"clip {clip.id!r}: ingest.start_seconds {config.start_seconds} is past its {clip.frames} frames "
            f"at {clip.fps} fps; choose an earlier start"
        )
    return range(start, stop)


@dataclass
class IngestStage(ClipStage):
    """Decode, scale and pad a clip once; every later stage reads these frames.

    Writes rgb uint8 [T,H,W,3] in chunks and cameras.npz with intrinsics [T,3,3], world_to_camera [T,4,4] and
    pose_group int64 [T]: frames of one group have poses that are known relative to each other. With the
    clip's own cameras all frames are one group. Without, every pose is the identity, and a group is a stretch
    of frames in which the picture was measured to stand still (`StillStretches`); still_share float64 [T] is
    what was measured, the share of the picture that stands still against the first frame of the stretch. The
    decision is in the meta: cameras is "given", "still", "partly still" or "moving".
    """

    config: IngestConfig
    name: ClassVar[str] = "ingest"
    version: ClassVar[str] = "3"

    def settings(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return NO_SETTINGS  # `identity` has what they come to for the clip

    def identity(self, params: ClipParams, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the clip's content, the frames and size that are read, and the lens if it is a guess."""
        clip, config = params.clip, self.config
        size = working_size(clip.height, clip.width, config.short_side)
        identity = {"content": clip.content_hash, "size": astuple(size)}
        try:
            wanted = frame_range(clip, config)
        except ValueError:  # `run` reports it
            return identity | {"start_seconds": config.start_seconds}
        identity["frames"] = [wanted.start, wanted.stop]
        return identity if has_cameras(clip) else identity | {"fov_degrees": config.fov_degrees}

    def check_inputs(self, params: ClipParams) -> None:
        check_clip(params.clip)

    def run(
        self, item: Item[ClipParams], inputs: Mapping[str, Artifact], output: ArtifactWriter
    ) -> dict[str, float]:
        clip = item.params.clip
        wanted = frame_range(clip, self.config)
        size = working_size(clip.height, clip.width, self.config.short_side)
        source = open_clip(clip)
        given = source.cameras()
        stretches = StillStretches() if given is None else None
        frames = 0
        with output.frames() as writer:
            chunk: list[np.ndarray] = []
            for frame in source.frames(wanted.start, wanted.stop):
                chunk.append(to_working_size(frame, size))
                if stretches is not None:
                    stretches.add(chunk[-1][: size.content_height, : size.content_width])
                if len(chunk) == CHUNK:
                    writer.append(rgb=np.stack(chunk))
                    chunk.clear()
                frames += 1
            if chunk:
                writer.append(rgb=np.stack(chunk))
        if frames != len(wanted):
            raise ValueError(
                f"clip {clip.id!r}: {frames} frames were decoded, but the index lists {len(wanted)}; "
                "the file is damaged or has changed: repair it, or scan the dataset again"
            )
        intrinsics, world_to_camera = self._cameras(clip, given, wanted, size)
        groups = _pose_groups(stretches, frames)
        output.write_npz(
            "cameras.npz", intrinsics=intrinsics, world_to_camera=world_to_camera, **groups.arrays
        )
        output.meta.update(
            frames=frames,
            first_frame=wanted.start,
            fps=clip.fps,
            content=[size.content_height, size.content_width],
            size=[size.height, size.width],
            cameras_known=given is not None,
            cameras=groups.verdict,
        )
        return {"frames": float(frames), **groups.metrics}

    def _cameras(
        self, clip: Clip, cameras: tuple[np.ndarray, np.ndarray] | None, wanted: range, size: WorkingSize
    ) -> tuple[np.ndarray, np.ndarray]:
        if cameras is None:
            intrinsics = default_intrinsics(size.content_height, size.content_width, self.config.fov_degrees)
            return (
                intrinsics.expand(len(wanted), 3, 3).double().numpy(),
                torch.eye(4, dtype=torch.float64).expand(len(wanted), 4, 4).numpy(),
            )
        intrinsics, world_to_camera = (torch.as_tensor(np.asarray(array)).double() for array in cameras)
        check_cameras(intrinsics, world_to_camera, clip.frames, f"clip {clip.id!r}")
        intrinsics = scale_intrinsics(
            intrinsics, size.content_width / clip.width, size.content_height / clip.height
        )
        picked = slice(wanted.start, wanted.stop)
        return intrinsics[picked].numpy(), world_to_camera[picked].numpy()


@dataclass(frozen=True)
class _PoseGroups:
    arrays: Mapping[str, np.ndarray]
    verdict: Literal["given", "still", "partly still", "moving"]
    metrics: Mapping[str, float]


def _pose_groups(stretches: StillStretches | None, frames: int) -> _PoseGroups:
    """Return the groups of frames with related poses; stretches: as measured, None with given cameras."""
    if stretches is None:
        return _PoseGroups({"pose_group": np.zeros(frames, dtype=np.int64)}, "given", {})
    groups = np.array(stretches.groups, dtype=np.int64)
    related = np.bincount(groups)[groups] > NEIGHBOURS
    arrays = {"pose_group": groups, "still_share": np.array(stretches.still_shares)}
    share = 1.0 if groups.max() == 0 else float(related.mean())
    verdict: Literal["still", "partly still", "moving"] = (
        "still" if groups.max() == 0 else "partly still" if share else "moving"
    )
    return _PoseGroups(arrays, verdict, {"camera_still": share})
