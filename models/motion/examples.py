"""A reference as training examples: augmented copies, encoded, under what the base will be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recapture.models.motion.augment import Augmentation, copies
from recapture.models.motion.sparse import Sparse
from recapture.models.tuning.examples import Example, encode_pair
from recapture.models.tuning.pairs import Pair
from recapture.models.wan.load import Base

Start = Literal["first_frame", "swept", "text"]


@dataclass(frozen=True)
class MotionExamples:
    """The encoded copies of one reference."""

    training: tuple[Example, ...]
    held_out: tuple[Example, ...]  # whole windows in other colours and places, which only judge


@torch.no_grad()
def motion_examples(
    base: Base,
    video: Tensor,  # [T, 3, H, W] in [-1, 1], T = sparse.window
    text: Tensor,  # [1, L, text_dim]
    *,
    visible: Tensor,  # [T, H, W] bool, see `shown_at_start`
    sparse: Sparse,
    copies_trained: int,  # 0: the reference itself
    copies_held_out: int,
    augmentation: Augmentation,
    random: torch.Generator,
) -> MotionExamples:
    """Encode one reference; it has one keyword per choice, hence their number.

    Raises ValueError for a clip of another length than the window and whatever `encode_pair` raises.
    """
    if len(video) != sparse.window or visible.shape != (len(video), *video.shape[2:]):
        raise ValueError(
            f"motion: a clip {list(video.shape)} with visible {list(visible.shape)} for windows of"
            f" {sparse.window} frames; cut it to the window"
        )
    drawn = copies(video, visible, copies_trained + copies_held_out, augmentation, random)
    made = list(drawn) if copies_trained else [(video, visible), *drawn]
    trained, whole = sparse.frames(), list(range(sparse.window))
    count = max(1, copies_trained)
    sets = [made[:count], made[count:]]
    training, held_out = (
        [_encoded(base, clip[at], seen[at], text) for clip, seen in group]
        for group, at in zip(sets, (trained, whole))
    )
    return MotionExamples(tuple(training), tuple(held_out))


def shown_at_start(start: Start, frames: int, height: int, width: int, swept: Tensor | None = None) -> Tensor:
    """Return visible [T, H, W] bool: what the base is shown of a clip that gets a motion.

    first_frame: frame 0; text: nothing; swept: frame 0 and all outside swept [T, H, W] or [H, W] bool, the
    region that a body may sweep.
    """
    visible = torch.zeros(frames, height, width, dtype=torch.bool)
    if start == "swept":
        if swept is None:
            raise ValueError("motion: start 'swept' needs the region that the body may sweep")
        visible = ~swept.cpu().expand(frames, height, width).clone()
    if start != "text":
        visible[0] = True
    return visible


def _encoded(base: Base, video: Tensor, visible: Tensor, text: Tensor) -> Example:
    pair = Pair(torch.where(visible[:, None], video, 0.0), visible, video, "source", 0.0)
    return encode_pair(base, pair, visible[None], text)[0]
