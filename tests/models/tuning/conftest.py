import pytest
import torch

from recapture.models.fill.view import SourceView
from recapture.models.geometry.cameras import default_intrinsics


@pytest.fixture()
def source():
    """Five frames of 32 x 32: a square at depth 2 that slides over a slanted wall at depth 4 to 5."""
    frames, side = 5, 32
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=random) * 1.6 - 0.8
    wall = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[0]
    video = wall.repeat(frames, 1, 1, 1)
    depth = torch.linspace(4, 5, side).expand(frames, side, side).clone()
    for t in range(frames):
        square = (t, slice(10, 20), slice(8 + t, 18 + t))
        depth[square] = 2.0
        video[t, :, 10:20, 8 + t : 18 + t] = torch.tensor([0.9, -0.5, 0.1]).view(3, 1, 1)
    return SourceView(
        video,
        depth,
        torch.ones_like(depth, dtype=torch.bool),
        default_intrinsics(side, side).expand(frames, 3, 3),
        torch.eye(4).expand(frames, 4, 4),
        torch.arange(frames),
    )
