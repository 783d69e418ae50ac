"""The moments that a new video shows, and where its subject is then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recapture.conf.subject import SubjectConfig
from recapture.conf.time_control import TimeConfig
from recapture.models.geometry.moments import frozen_moments, ramp_moments, steady_moments
from recapture.models.geometry.subject import aimed, at_moments, pixels_of, steadied, without_gaps
from recapture.models.geometry.trajectories import CameraPath


def shown_moments(time: TimeConfig | None, frames: int, fps: float) -> np.ndarray | None:
    """Return the moments [N] that the new video shows, in processed frames; None: each frame once.

    Raises ValueError for a moment that the clip does not have.
    """
    if time is None:
        return None
    if time.mode == "freeze":
        count = frames if time.seconds is None else max(1, round(time.seconds * fps))
        return frozen_moments(frames, time.frame, count)
    if time.mode == "ramp":
        assert time.pairs is not None
        return ramp_moments(frames, fps, time.pairs)
    kind = {"back": time.mode == "reverse", "bounce": time.mode == "bounce"}
    return steady_moments(frames, time.speed or 1.0, **kind)


@dataclass(frozen=True)
class BodyPoints:
    """A subject at the moments that a new video shows: where it is, and where the camera aims."""

    config: SubjectConfig
    now: Tensor  # [N, 3] in the world
    later: Tensor  # [N, 3]

    @classmethod
    def of(cls, config: SubjectConfig, found: Tensor, fps: float, moments: np.ndarray | None) -> BodyPoints:
        """Return the points of a subject `found` [T,3] in the source's frames, NaN where unseen."""
        way = steadied(without_gaps(found), config.smooth_seconds * fps)
        now = np.arange(len(found), dtype=np.float64) if moments is None else moments
        return cls(config, at_moments(way, now), at_moments(way, now + config.lead_seconds * fps))

    def framed(self, path: CameraPath, intrinsics: Tensor, world_to_camera: Tensor) -> CameraPath:
        """Return the path with its cameras turned so that they have the subject where it is to be.

        intrinsics, world_to_camera: of the source, [N,3,3] and [N,4,4], at the moments.
        """
        if self.config.framing == "free":
            return path
        shown = path.source_frame
        if self.config.framing == "centre":
            pixels = path.intrinsics[:, :2, 2]
        else:
            seen_in = shown if self.config.framing == "kept" else torch.zeros_like(shown)
            pixels = pixels_of(self.now[seen_in], intrinsics[seen_in], world_to_camera[seen_in])
        turned = aimed(path.world_to_camera, path.intrinsics, self.later[shown], pixels)
        return replace(path, world_to_camera=turned)
