"""Known pixels put back over a generated clip."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d


def paste_known(generated: Tensor, video: Tensor, visible: Tensor, feather: int = 4) -> Tensor:
    """Paste the known pixels of `video` over the generated clip [T, 3, H, W].

    visible: [T, H, W] bool. The share of the known pixel is 0 in holes, rises linearly with the (chessboard)
    distance to the nearest hole, and is 1 from `feather` pixels on: those come back bit for bit. feather 1
    pastes every known pixel. The frame's border is no hole. Raises ValueError for feather < 1.
    """
    share = paste_weights(visible, feather)[:, None]
    # where() so that what stands in holes, even NaN, never enters
    return torch.where(
        share >= 1, video, torch.where(share <= 0, generated, generated + share * (video - generated))
    )


def paste_weights(visible: Tensor, feather: int) -> Tensor:
    """Return the known pixels' share [T, H, W] float32 in 0...1 for `paste_known`."""
    if feather < 1:
        raise ValueError(f"paste: a feather of {feather} pixels; use 1 or more")
    hole = (~visible)[:, None].float()
    share = 1 - hole
    for _ in range(feather - 1):
        hole = max_pool2d(hole, 3, 1, 1)
        share = share + (1 - hole)
    return share[:, 0] / feather
