"""Clips that are views of one scene: group them, and pair the frames that show one moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.readers.scan import open_clip
from recapture.datasets.readers.views import ViewSource


def groups(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Return group -> its clips, which are views of one scene in one world; single views are left out."""
    together: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.group is not None:
            together.setdefault(clip.group, []).append(clip)
    return {name: views for name, views in together.items() if len(views) > 1}


def paired_frames(first: Clip, second: Clip) -> np.ndarray:
    """Return the frame numbers [N, 2] at which two views of a group show the same moment.

    Raises: ClipError for clips that are not of one group.
    """
    if first.group is None or first.group != second.group:
        raise ClipError(
            f"clips {first.id!r} and {second.id!r} are not views of one scene; pair views of a group"
        )
    _, *frames = np.intersect1d(_moments(first), _moments(second), return_indices=True)
    return np.stack(frames, axis=1)


def _moments(clip: Clip) -> np.ndarray:
    source = open_clip(clip)
    return source.moments() if isinstance(source, ViewSource) else np.arange(clip.frames)
