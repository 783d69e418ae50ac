"""Predicted depth of a clip in the units of its own cameras, where these travel."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from recapture.conf.heartbeat import beating
from recapture.datasets.store.artifact import Artifact
from recapture.models.depth.alignment import Kind, Scale
from recapture.models.depth.camera_scale import (
    LEAST_POINTS,
    NONE,
    CameraScale,
    LandmarkSampler,
    fit_camera_scale,
    least_disparity,
    rescaled,
)
from recapture.models.depth.landmarks import find_landmarks, travels
from recapture.tasks.clip.depth_units import FREE, KEPT, MATCHED, UNMATCHED
from recapture.tasks.jobs.given_depth import CHUNK

logger = logging.getLogger(__name__)


class DepthOfCameras:
    """The aligned depth of a clip, brought to the scale of its cameras while it is read once.

    `units` and `evidence` say afterwards what was done; see tasks/clip/depth_units.py. The scale is known at
    the end of the clip alone, so depth waits in a temporary file: memory does not grow with the clip.
    """

    def __init__(self, name: str, ingest: Artifact, kind: Kind, *, match: bool) -> None:
        self._name, self._ingest, self._kind = name, ingest, kind
        cameras = ingest.read_npz("cameras.npz")
        self._intrinsics, self._world_to_camera = cameras["intrinsics"], cameras["world_to_camera"]
        moving = bool(ingest.meta["cameras_known"]) and travels(self._world_to_camera)
        self.units = (KEPT if not match else UNMATCHED) if moving else FREE
        self.evidence: CameraScale | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """Return what readers of the depth must know of its units."""
        said = {} if self.evidence is None else {"depth_evidence": str(self.evidence)}
        return {"depth_units": self.units, **said}

    @property
    def metrics(self) -> dict[str, float]:
        """Return the evidence in numbers, where any was looked for."""
        found = self.evidence
        if found is None:
            return {}
        return {"scale_matched": float(found.certain), "scale_points": float(found.points)}

    def scaled(self, aligned: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the depth [t,H,W] of the whole clip, from aligned depth in order."""
        if self.units != UNMATCHED:
            yield from aligned
            return
        landmarks = find_landmarks(self._grey, self._intrinsics, self._world_to_camera)
        if len(landmarks) < LEAST_POINTS:
            self._decide(NONE)
            yield from aligned
            return
        sampler = LandmarkSampler(landmarks)
        with DepthSpool() as spool:
            for depth in aligned:
                sampler.add(depth)
                spool.add(depth)
            scale = fit_camera_scale(landmarks, sampler.predicted, self._kind)
            self._decide(scale)
            least = None
            for depth in spool:
                if least is None:
                    least = least_disparity(depth[0], scale, Scale().limit)
                yield rescaled(depth, scale, least) if scale.certain else depth

    def _decide(self, scale: CameraScale) -> None:
        self.evidence = scale
        if scale.certain:
            self.units = MATCHED
        else:
            logger.warning(
                "clip %r: the scale of its depth in its cameras' units cannot be told (%s)", self._name, scale
            )

    def _grey(self, frame: int) -> np.ndarray:
        height, width = self._ingest.meta["content"]
        rgb = self._reader.read(frame, frame + 1, ["rgb"])["rgb"][0, :height, :width]
        return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)

    @property
    def _reader(self) -> Any:
        if not hasattr(self, "_opened"):
            self._opened = self._ingest.frames()
        return self._opened


class DepthSpool:
    """Depth maps in a temporary file: added in order, then read again in chunks."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="recapture-")  # noqa: SIM115, closed in __exit__
        self._size: tuple[int, ...] = ()
        self._frames = 0

    def __enter__(self) -> DepthSpool:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, depth: Tensor) -> None:
        """Append depth [t,H,W]."""
        self._size = tuple(depth.shape[1:])
        self._file.write(np.ascontiguousarray(depth.float().numpy()).tobytes())
        self._frames += len(depth)

    def __iter__(self) -> Iterator[Tensor]:
        self._file.seek(0)
        bytes_per_frame = 4 * int(np.prod(self._size))
        for start in beating(range(0, self._frames, CHUNK)):
            count = min(CHUNK, self._frames - start)
            read = np.frombuffer(bytearray(self._file.read(count * bytes_per_frame)), dtype=np.float32)
            yield torch.from_numpy(read).view(count, *self._size)
