"""The true transfer, which targets of MotionScenes know: the same programme, performed by the target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from recapture.datasets.clips.clip import Clip
from recapture.datasets.readers.motion_scenes import SCHEME, MotionSpec, motion_spec
from recapture.datasets.readers.scenes import to_uint8
from recapture.datasets.scenes.motion_scenes import READINGS, MotionScene, Reading, motion_scene
from recapture.models.metrics.motion_bodies import MotionTruth
from recapture.tasks.transfer.params import TransferParams

SHOWN: Reading = "picture"  # on sheets: the same way in the picture


def meant_for(reference: Clip, target: Clip) -> bool:
    """Return whether a target is for a reference: in MotionScenes each is for its own alone."""
    given, wanted = _spec(reference), _spec(target)
    if given is None or wanted is None:
        return True
    return (given.category, given.reference) == (wanted.category, wanted.reference)


def true_video(params: TransferParams, side: int) -> np.ndarray | None:
    """Return what the target looks like when it performs the motion, uint8 [T,side,side,3]; None: unknown."""
    for reading, scene in true_scenes(params, side):
        if reading == SHOWN:
            return to_uint8(scene.render())
    return None


def true_scenes(params: TransferParams, side: int) -> Iterator[tuple[Reading, MotionScene]]:
    """Yield the true transfer in each reading of "the same motion"; nothing where it is unknown."""
    own = _spec(params.clip)
    theirs = None if params.reference is None else _spec(params.reference)
    if own is None or theirs is None or own.category is None or own.reference is None:
        return
    if (own.category, own.reference) != (theirs.category, theirs.reference) or own.target is None:
        return
    for reading in READINGS:
        yield (
            reading,
            motion_scene(
                own.category,
                own.reference,
                own.target,
                reading=reading,
                frames=params.frames,
                side=side,
            ),
        )


def motion_truth(scene: MotionScene) -> MotionTruth:
    """Return what a clip ought to show, and where its bodies are."""
    ids = scene.render(parts=True).object_id
    parts = torch.stack([ids == number for number in range(1, len(scene.owner) + 1)])
    return MotionTruth(scene.render().video, scene.render(bodies=False).video, parts, scene.owner)


def _spec(clip: Clip) -> MotionSpec | None:
    return motion_spec(clip.uri) if clip.uri.startswith(SCHEME) else None
