"""A reference clip: how much of it is used, and whether it shows a motion that can be transferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from recapture.conf.transfer import SMALLEST_WINDOW, TransferConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.models.cameras.tracks import Tracks, follow
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.clip.working_size import content_known

FEW = 4  # tracks: fewer that move are errors of tracking
RATES_ALIKE = 0.01  # relative difference of frame rates that is none
UNLIKE = 24  # of 255: a change that is no noise
BLURRED = 2.0  # pixels by which the blur widens a strip


@dataclass(frozen=True)
class Reference:
    """The used part of a reference clip."""

    rgb: np.ndarray  # [T, H, W, 3] uint8, with padding
    moves: float  # pixels that something goes at least


def used_frames(frames: int, window: int) -> int:
    """Return how many of a reference's frames are used: 4n+1, at most a window; 0 if there are too few."""
    used = min(window, frames - (frames - 1) % 4)
    return used if used >= SMALLEST_WINDOW else 0


def read_reference(clip: Clip, inputs: Mapping[str, Artifact], config: TransferConfig) -> Reference:
    """Return the used part of a reference. Raises ValueError if it is too short, cut, or at rest."""
    ingest = inputs["ingest"]
    have = int(ingest.meta["frames"])
    count = used_frames(have, config.window)
    if not count:
        raise ValueError(
            f"reference {clip.id!r} has {have} frames, fewer than the smallest window of {SMALLEST_WINDOW}; "
            "give a longer clip"
        )
    rgb = read_frames(ingest, np.arange(count), ["rgb"])["rgb"]
    known = content_known(ingest)
    flat = np.ones(known.shape, np.float32)
    tracks = follow((frame, flat, known) for frame in rgb)
    if tracks.cuts:
        raise ValueError(
            f"reference {clip.id!r} is cut at frame {tracks.cuts[0]} of the {count} that are used; give the "
            "shot alone, by ingest.start_seconds and ingest.max_seconds or as a file of its own"
        )
    moves = max(farthest(tracks), widest_change(rgb[:, known.any(1)][:, :, known.any(0)]))
    if moves < config.least_motion:
        raise ValueError(
            f"reference {clip.id!r} moves {moves:.1f} px in {count} frames, less than "
            f"transfer.least_motion {config.least_motion:g}; give a clip in which something moves"
        )
    return Reference(rgb, moves)


def farthest(tracks: Tracks) -> float:
    """Return how far the points of a clip go from where they were first seen, in pixels.

    Of the FEW points that go farthest, the one that goes least: a single wrong track does not count.
    """
    if not len(tracks):
        return 0.0
    away = np.linalg.norm(tracks.xy - tracks.xy[tracks.first[tracks.track]], axis=1)
    gone = np.zeros(len(tracks))
    np.maximum.at(gone, tracks.track, away)
    return float(np.sort(gone)[-min(FEW, len(gone))])


def widest_change(rgb: np.ndarray) -> float:
    """Return the width in pixels of the widest part of frames [T,h,w,3] that is unlike the first frame.

    An edge that goes n pixels across changes a strip of n pixels. Plain bodies have no points to follow.
    """
    first = cv2.blur(rgb[0], (3, 3)).astype(np.int16)
    widest = 0.0
    for frame in rgb[1:]:
        unlike = np.abs(cv2.blur(frame, (3, 3)).astype(np.int16) - first).max(-1) > UNLIKE
        framed = np.pad(unlike, 1).astype(np.uint8)
        inside = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        widest = max(widest, 2 * float(inside.max()) - 1)
    return max(0.0, widest - BLURRED)


def result_rate(reference: Clip, target: Clip, config: TransferConfig) -> str:
    """Return the frame rate of a result: the reference's, unless the target's own frames move too.

    Raises ValueError where both move, at different rates.
    """
    if config.start != "swept":
        return reference.fps
    theirs, own = Fraction(reference.fps), Fraction(target.fps)
    if config.frame_rates == "same" and abs(theirs / own - 1) > RATES_ALIKE:
        raise ValueError(
            f"reference {reference.id!r} has {float(theirs):g} frames per second and target {target.id!r} "
            f"{float(own):g}: the motion would be {float(own / theirs):.2f} times as fast; convert one of "
            "them, or set transfer.frame_rates any"
        )
    return target.fps
