import math

import numpy as np
import pytest
import torch

from recapture.models.geometry.splat import Points, splat

SIZE = (9, 12)


def some_points(seed=0, count=120):
    draw = torch.Generator().manual_seed(seed)
    spread = torch.rand(count, 4, generator=draw)
    return Points(
        spread[:, 0] * 16 - 2,
        spread[:, 1] * 13 - 2,
        torch.where(spread[:, 2] < 0.5, 2.0, 4.0) * (1 + 0.01 * spread[:, 3]),
        1 + 2.5 * torch.rand(count, generator=draw) ** 3,
        torch.rand(count, 3, generator=draw) * 2 - 1,
    )


def one_by_one(points, height, width):
    """Pixel by pixel and point by point, in floats."""
    video, depth = np.zeros((3, height, width)), np.full((height, width), np.inf)
    for row in range(height):
        for column in range(width):
            reached = []
            for u, v, z, extent, colour in zip(*(part.tolist() for part in points)):
                across, down = abs(column + 0.5 - u) / extent, abs(row + 0.5 - v) / extent
                if across < 1 and down < 1:
                    weight = (1 - across) * (1 - down) / extent**2
                    reached.append((max(across, down), z, weight, colour))
            front = min((z for away, z, _, _ in reached if away <= 0.7), default=math.inf)
            shown = [(z, weight, colour) for _, z, weight, colour in reached if z <= front * 1.03]
            total = sum(weight for _, weight, _ in shown)
            if front < math.inf and total >= 0.5:
                depth[row, column] = sum(z * weight for z, weight, _ in shown) / total
                for channel in range(3):
                    found = sum(weight * colour[channel] for _, weight, colour in shown)
                    video[channel, row, column] = found / total
    return video, depth


@pytest.mark.parametrize("seed", [0, 1])
def test_points_are_drawn_as_one_by_one(seed):
    points = some_points(seed)
    seen, (video, depth) = splat(points, SIZE), one_by_one(points, *SIZE)
    assert torch.equal(seen.visible, torch.isfinite(seen.depth))
    assert 20 < int(seen.visible.sum()) < SIZE[0] * SIZE[1]
    np.testing.assert_array_equal(np.isfinite(depth), seen.visible.numpy())
    np.testing.assert_allclose(seen.video.numpy(), video, atol=2e-3)
    np.testing.assert_allclose(seen.depth.numpy(), depth, rtol=1e-3)


def test_the_order_of_points_does_not_matter():
    points = some_points()
    order = torch.randperm(len(points.u), generator=torch.Generator().manual_seed(1))
    first, second = splat(points, SIZE), splat(Points(*(part[order] for part in points)), SIZE)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_points_at_pixel_centres_give_back_the_picture():
    height, width = SIZE
    row, column = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    colour = torch.rand(height * width, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    flat = torch.ones(height * width)
    seen = splat(Points(column.flatten(), row.flatten(), 3 * flat, flat, colour), SIZE)
    assert seen.visible.all() and (seen.depth == 3).all()
    torch.testing.assert_close(seen.video, colour.T.reshape(3, height, width), atol=1e-4, rtol=0)


def test_no_points_show_nothing():
    empty = torch.zeros(0)
    seen = splat(Points(empty, empty, empty, empty, torch.zeros(0, 3)), SIZE)
    assert not seen.visible.any() and (seen.video == 0).all() and torch.isinf(seen.depth).all()
