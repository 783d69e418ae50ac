import pytest
import torch
from support import tiny_base as tiny

from recapture.models.fill.view import SourceView
from recapture.models.geometry.cameras import default_intrinsics
from recapture.models.tuning.examples import encode_pair
from recapture.models.tuning.pairs import Pair
from recapture.models.wan.load import load_base
from recapture.models.wan.text import encode_text


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


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny random Fun-InP base on disk."""
    return tiny.write_tiny_base(tmp_path_factory.mktemp("base") / "inpaint")


@pytest.fixture(scope="session")
def encoded(folder):
    """Twelve examples of two sizes from random clips, and the embedding of the empty prompt."""
    base = load_base(folder)
    random = torch.Generator().manual_seed(1)
    text, empty = encode_text(base, "a red box").prompt, encode_text(base, "").prompt[0]
    examples = []
    for number, size in enumerate([(5, 32, 48), (5, 32, 48), (9, 32, 32)]):
        video = torch.rand(size[0], 3, *size[1:], generator=random) * 2 - 1
        visible = torch.rand(4, size[0], size[1] // 8, size[2] // 8, generator=random) < 0.6
        visible = visible.repeat_interleave(8, 2).repeat_interleave(8, 3)
        pair = Pair(torch.where(visible[0][:, None], video, 0.0), visible[0], video, "source", 10.0 + number)
        examples += encode_pair(base, pair, visible, text)
    return examples, empty
