"""What a filler is given: the source clip, and the clip rendered along a new trajectory, with holes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from recapture.models.geometry.static_cloud import StaticCloud


@dataclass(frozen=True)
class RenderedView:
    """A clip seen along the target trajectory, as far as the source saw it."""

    video: Tensor  # [T, 3, H, W] in [-1, 1], 0 in holes
    visible: Tensor  # [T, H, W] bool, True where the source saw the pixel
    depth: Tensor  # [T, H, W] z-depth, inf where nothing was rendered
    stretch: Tensor  # [T, H, W] >= 1, how much a source pixel is magnified there (area ratio)
    intrinsics: Tensor  # [T, 3, 3] pixels
    world_to_camera: Tensor  # [T, 4, 4] OpenCV
    pose_group: Tensor | None = None  # [T] int64, that of the source frame shown; see `SourceView`


def hide(view: RenderedView, hole: Tensor) -> RenderedView:
    """Return the view with further holes where hole [T, H, W] is True."""
    visible = view.visible & ~hole
    return replace(
        view,
        video=torch.where(visible[:, None], view.video, torch.zeros_like(view.video)),
        visible=visible,
        depth=torch.where(visible, view.depth, torch.full_like(view.depth, torch.inf)),
    )


@dataclass(frozen=True)
class SourceView:
    """The source clip with its geometry. It may have another length and size than the view made of it.

    pose_group: frames of one group have poses that are known relative to each other: given, or the same
    because the camera was seen to stand still. Frames of different groups must not be placed in each other's
    view by their poses. None: one group. (A pose estimator would number the stretches it is sure of.)
    clouds: what stands still in each group over the whole clip, of which this may be a part; None: not known.
    """

    video: Tensor  # [S, 3, h, w] in [-1, 1]
    depth: Tensor  # [S, h, w] z-depth
    known: Tensor  # [S, h, w] bool, False for padding and for unusable depth
    intrinsics: Tensor  # [S, 3, 3] pixels
    world_to_camera: Tensor  # [S, 4, 4] OpenCV
    source_frame: Tensor  # [T] int64, the source frame shown at each frame of the view
    pose_group: Tensor | None = None  # [S] int64
    clouds: Mapping[int, StaticCloud] | None = None

    def at(self, frames: Tensor) -> "SourceView":
        """Return the source frames named by `frames` [n] int64, as a clip that shows them one by one."""
        return SourceView(
            self.video[frames],
            self.depth[frames],
            self.known[frames],
            self.intrinsics[frames],
            self.world_to_camera[frames],
            frames.new_tensor(range(len(frames))),
            None if self.pose_group is None else self.pose_group[frames],
        )

    def related(self, frames: Tensor, others: Tensor) -> Tensor:
        """Return [n] bool: where both frames [n] exist, and their poses are known relative to each other."""
        last = len(self.video) - 1
        inside = (frames >= 0) & (frames <= last) & (others >= 0) & (others <= last)
        if self.pose_group is None:
            return inside
        groups = self.pose_group[frames.clamp(0, last)], self.pose_group[others.clamp(0, last)]
        return inside & (groups[0] == groups[1])


class Filler(Protocol):
    """Whatever fills holes: the classical baseline here, a diffusion base elsewhere."""

    def fill(self, view: RenderedView, source: SourceView, *, caption: str, seed: int) -> Tensor:
        """Fill the holes of the view: [T, 3, H, W] in [-1, 1].

        The classical filler returns visible pixels bit for bit; a generative one may change them as little as
        its latents allow. Same arguments, same bytes on the same machine.
        """
        ...
