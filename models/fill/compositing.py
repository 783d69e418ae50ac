"""Known pixels and a generated video, made one picture: how the fill of a hole meets what is around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from recapture.models.fill.membrane import membrane
from recapture.models.fill.rim import mixed_rim
from recapture.models.fill.view import RenderedView, SourceView
from recapture.models.wan.paste import paste_known

Kind = Literal["membrane", "feather", "none"]
GUIDES = 2  # pixels beside the render in which what other frames saw is no more than a guide
STILL = 1e-6  # largest change of an entry of world_to_camera that is none


@dataclass(frozen=True)
class Compositing:
    """One way to composite.

    membrane: known pixels come back bit for bit; what the generated video is off by beside a hole is
    continued into the hole (see `membrane`) and added there. feather: known pixels fade into the generated
    video over `feather` pixels beside a hole (see `paste_known`). none: the generated video everywhere.
    """

    kind: Kind
    feather: int = 1

    def __call__(self, generated: Tensor, video: Tensor, known: Tensor) -> Tensor:
        """Return the composite [T, 3, H, W] of a generated video and `video` where known [T, H, W].

        Values are in [-1, 1]. Nothing that stands in holes of `video`, even NaN, enters.
        """
        if self.kind == "none" or not known.any():
            return generated
        if self.kind == "feather":
            return paste_known(generated, video, known, self.feather)
        shifted = generated + membrane(video - generated, known)
        return torch.where(known[:, None], video, shifted.clamp(-1, 1))


def kept_pixels(view: RenderedView, gathered: RenderedView, source: SourceView) -> Tensor:
    """Return the known pixels [T, H, W] bool that a composite keeps; the others only guide the base.

    gathered: the view, and what other frames saw of its holes. Kept is what the view knows, less what a moved
    camera uncovers of mixed pixels (`mixed_rim`); and what other frames saw, more than GUIDES pixels from it:
    nearer, an edge that another frame saw from elsewhere is misplaced by a pixel, and flickers from frame to
    frame (benchmarks/compositing.md).
    """
    near = max_pool2d(view.visible[:, None].float(), 2 * GUIDES + 1, 1, GUIDES)[:, 0] > 0
    filmed_from = source.world_to_camera[source.source_frame.to(source.world_to_camera.device)]
    moved = (filmed_from.to(view.world_to_camera) - view.world_to_camera).abs().amax((1, 2)) > STILL
    mixed = torch.zeros_like(near)
    mixed[moved] = mixed_rim(view.video[moved], view.depth[moved], view.visible[moved])
    return (view.visible & ~mixed) | (gathered.visible & ~near)
