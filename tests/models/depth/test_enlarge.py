"""Depth enlarged along the edges of a sharper picture."""

import pytest
import torch

from recapture.models.depth.enlarge import COLOUR, enlarge_depth, enlarge_video


def plane(height: int, width: int) -> torch.Tensor:
    """Depth of a slanted plane: nearness is linear in the picture."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return 1 / (0.2 + 0.02 * x + 0.03 * y[:, None])[None]


def test_a_plane_stays_a_plane():
    depth = enlarge_depth(plane(12, 18), torch.zeros(1, 3, 12, 18), torch.zeros(1, 3, 48, 72), 0.05)
    inner = (slice(None), slice(2, -2), slice(2, -2))  # beyond the outermost centres it is continued
    assert (depth / plane(48, 72) - 1)[inner].abs().max() < 1e-5


def test_the_same_size_keeps_depth():
    depth = 1 + torch.rand(2, 9, 13, generator=torch.Generator().manual_seed(0))
    video = torch.zeros(2, 3, 9, 13)
    assert torch.allclose(enlarge_depth(depth, video, video, 0.05), depth, rtol=1e-5)


def slow(depth, small, large, ratio):
    """One pixel after the other, by the words of the docstring."""
    (_, h, w), (high, wide) = depth.shape, large.shape[2:]
    found = torch.zeros(1, high, wide)
    for y in range(high):
        for x in range(wide):
            v, u = (y + 0.5) * h / high - 0.5, (x + 0.5) * w / wide - 0.5
            near, pairs = [], []
            for row in (int(v // 1), int(v // 1) + 1):
                for column in (int(u // 1), int(u // 1) + 1):
                    r, c = min(max(row, 0), h - 1), min(max(column, 0), w - 1)
                    z = float(depth[0, r, c])
                    away = (v - row) ** 2 + (u - column) ** 2
                    unlike = float((large[0, :, y, x] - small[0, :, r, c]).square().mean())
                    weight = (1 - abs(v - row)) * (1 - abs(u - column))
                    near.append(1 / z if z > 0 and z < float("inf") else 0)
                    pairs.append((away + unlike / COLOUR**2, near[-1], weight))
            if min(near) > 0 and max(near) <= (1 + ratio) * min(near):
                value = sum(weight * one for _, one, weight in pairs)
            else:
                value = min((pair for pair in pairs if pair[1] > 0), default=(0, 0))[1]
            found[0, y, x] = 1 / value if value else 0
    return found


def test_it_is_what_a_slow_twin_finds():
    draw = torch.Generator().manual_seed(1)
    depth = torch.where(torch.rand(1, 6, 8, generator=draw) < 0.5, 2.0, 5.0)
    depth = depth + 0.05 * torch.rand(1, 6, 8, generator=draw)
    depth[0, 0, :3], depth[0, 3, 4] = 0.0, float("inf")
    small, large = (torch.rand(1, 3, *size, generator=draw) for size in ((6, 8), (17, 23)))
    assert torch.allclose(
        enlarge_depth(depth, small, large, 0.05), slow(depth, small, large, 0.05), rtol=1e-4
    )


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_an_edge_is_where_the_sharp_picture_has_it_with_nothing_between(offset):
    """A white box nearer than a black wall; the edge of the large picture lies within a pixel of depth."""
    large = -torch.ones(1, 3, 40, 40)
    large[..., 16 + offset :] = 1
    small = torch.nn.functional.avg_pool2d(large, 4)
    depth = torch.where(small[:, 0] > 0, 2.0, 5.0)
    found = enlarge_depth(depth, small, large, 0.05)
    assert set(found.round(decimals=4).unique().tolist()) == {2.0, 5.0}
    if offset != 2:  # there the pixel of depth is half of each
        assert ((found < 3) == (large[:, 0] > 0)).float().mean() > 0.97


def test_where_there_is_no_depth_there_is_none():
    depth = torch.zeros(1, 4, 4)
    assert not enlarge_depth(depth, torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 9, 9), 0.05).any()


def test_video_keeps_its_range_and_place():
    ramp = torch.linspace(-1, 1, 12).expand(1, 3, 8, 12)
    large = enlarge_video(ramp, (32, 48))
    assert large.shape == (1, 3, 32, 48) and large.abs().max() <= 1
    expected = -1 + 2 * ((torch.arange(48) + 0.5) / 4 - 0.5) / 11
    assert (large[0, 0, 10, 8:-8] - expected[8:-8]).abs().max() < 1e-5
