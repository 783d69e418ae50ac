"""Cameras of a whole clip: shot by shot where it is cut, and what they are good for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recapture.models.cameras.bundle import Cameras
from recapture.models.cameras.estimate import Estimate, Lens, estimate_shot, unknown
from recapture.models.cameras.tracks import Tracks

WORST = 20  # per cent of a shot's frames that may be less sure than it is
UNSEEN = 0.5  # pixels of a turn
NEIGHBOURS = 4  # frames: a shorter stretch in which the picture stands still decides nothing


@dataclass(frozen=True)
class ClipCameras:
    """Cameras of a clip; arrays as the cameras stage stores them."""

    arrays: Mapping[str, np.ndarray]
    motions: tuple[str, ...]  # of each shot
    shots: tuple[int, ...]  # their first frames
    known: bool  # whether all frames are related by poses that can be relied on
    confidence: float  # of the least sure shot
    residual: float  # pixels, of the worst shot
    reasons: tuple[str, ...]  # why a shot's cameras are unknown
    doubts: tuple[str, ...] = ()  # what of a shot's motion was not believed

    @classmethod
    def still(cls, frames: int, lens: Lens) -> ClipCameras:
        """Return the cameras of a clip that is known to stand still: exactly the identity."""
        one = unknown(frames, lens, "", "still")
        return cls(_arrays(one, np.zeros(frames, np.int64)), ("still",), (0,), True, 1.0, 0.0, ())

    def metrics(self, width: int) -> dict[str, float]:
        """Return the outcome in numbers."""
        centres = -np.einsum(
            "tji,tj->ti",
            self.arrays["world_to_camera"][:, :3, :3],
            self.arrays["world_to_camera"][:, :3, 3],
        )
        lens = float(np.median(self.arrays["intrinsics"][:, 0, 0]))
        return {
            "camera_confidence": self.confidence,
            "camera_known": float(self.known),
            "camera_still": float(self.motions == ("still",)),
            "camera_shots": float(len(self.shots)),
            "camera_path": float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()),
            "camera_fov_degrees": float(2 * np.degrees(np.arctan(0.5 * width / lens))),
            "camera_residual": self.residual,
            "camera_doubted": float(bool(self.doubts)),
        }


def estimate_clip(
    tracks: Tracks,
    lens: Lens,
    *,
    spread: float,
    regain: bool,
    groups: np.ndarray,
    least_confidence: float,
) -> ClipCameras:
    """Return the cameras of a clip from its tracks.

    spread: relative error of the depth that is expected; regain: whether its gains may be found too.
    groups: [T] stretches in which the picture was measured to stand still; frames of a long one get the same
    pose. Where a shot is less sure than least_confidence, poses are the identity and groups stay as they are.
    """
    starts = (0, *tracks.cuts)
    parts, motions, sure, residuals = [], [], [], []
    reasons, doubts = list[str](), list[str]()
    for number, (start, stop) in enumerate(zip(starts, (*starts[1:], tracks.frames))):
        own = groups[start:stop]
        one = _shot(tracks.of_frames(start, stop), lens, spread, regain=regain, groups=own)
        confidence = float(np.percentile(one.confidence, WORST))
        if not one.reason and confidence < least_confidence:
            one = replace(unknown(stop - start, lens, _unsure(confidence)), confidence=one.confidence)
        related = number + np.zeros(stop - start, np.int64) if not one.reason else len(starts) + own
        parts.append(_arrays(one, related))
        motions.append(one.motion)
        sure.append(confidence)
        residuals.append(one.residual)
        shown = "" if len(starts) == 1 else f"frames {start} to {stop - 1}: "
        reasons += [shown + one.reason] if one.reason else []
        doubts += [shown + one.doubt] if one.doubt else []
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _, arrays["pose_group"] = np.unique(arrays["pose_group"], return_inverse=True)
    return ClipCameras(
        arrays,
        tuple(motions),
        starts,
        len(starts) == 1 and not reasons,
        min(sure),
        max(residuals),
        tuple(reasons),
        tuple(doubts),
    )


def _unsure(confidence: float) -> str:
    return f"confidence {confidence:.2f}: what is seen does not move as one"


def _shot(tracks: Tracks, lens: Lens, spread: float, *, regain: bool, groups: np.ndarray) -> Estimate:
    if (groups == groups[0]).all():
        return unknown(tracks.frames, lens, "", "still")
    return _steadied(estimate_shot(tracks, lens, spread, regain=regain), groups)


def _steadied(one: Estimate, groups: np.ndarray) -> Estimate:
    """Give the frames of a stretch in which the picture stands still the pose of its middle.

    So is a frame that only turned, by less than can be seen: something else disturbed its picture.
    """
    source, cameras = np.arange(len(groups)), one.cameras
    numbers, counts = np.unique(groups, return_counts=True)
    for number in numbers[counts > NEIGHBOURS]:
        own = np.flatnonzero(groups == number)
        middle = own[len(own) // 2]
        source[own] = middle
        off = np.linalg.norm(cameras.rotation - cameras.rotation[middle], axis=(1, 2)) / np.sqrt(2)
        near = (off * cameras.focal < UNSEEN) & (cameras.translation == cameras.translation[middle]).all(1)
        source[near & np.isin(groups, numbers[counts <= NEIGHBOURS])] = middle
    still = bool((source == source[0]).all()) and not one.reason
    return replace(one, cameras=cameras.take(source), motion="still" if still else one.motion)


def _arrays(one: Estimate, groups: np.ndarray) -> dict[str, np.ndarray]:
    cameras = one.cameras
    frames = len(cameras.focal)
    return {
        "intrinsics": intrinsics_of(cameras),
        "world_to_camera": poses_of(cameras),
        "pose_group": groups.astype(np.int64),
        "confidence": one.confidence,
        "depth_gain": 1 / one.gain if len(one.gain) == frames else np.ones(frames),
    }


def poses_of(cameras: Cameras) -> np.ndarray:
    """Return world_to_camera [T,4,4]; the first frame is exactly the identity."""
    pose = np.tile(np.eye(4), (len(cameras.focal), 1, 1))
    relative = cameras.rotation @ cameras.rotation[0].T
    pose[1:, :3, :3] = relative[1:]
    pose[1:, :3, 3] = (cameras.translation - np.einsum("tij,j->ti", relative, cameras.translation[0]))[1:]
    same = (cameras.rotation == cameras.rotation[0]).all((1, 2)) & (
        cameras.translation == cameras.translation[0]
    ).all(1)
    pose[same] = np.eye(4)
    return pose


def intrinsics_of(cameras: Cameras) -> np.ndarray:
    """Return intrinsics [T,3,3]."""
    matrix = np.tile(np.eye(3), (len(cameras.focal), 1, 1))
    matrix[:, 0, 0] = matrix[:, 1, 1] = cameras.focal
    matrix[:, 0, 2], matrix[:, 1, 2] = cameras.centre
    return matrix
