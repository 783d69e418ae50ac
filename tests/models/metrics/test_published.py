"""Metrics as published evaluation code computes them: slow twins, closed forms, and what may not matter."""

import cv2
import numpy as np
import pytest
import torch
from support.lpips_files import write_alex

from recapture.models.metrics.image import frame_ssim
from recapture.models.metrics.perceptual import Lpips
from recapture.models.metrics.published import frame_box_ssim, frame_mlpips, frame_mssim

C1, C2 = 0.01**2, 0.03**2


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    first = torch.rand(2, 3, 24, 19, generator=generator) * 2 - 1
    return first, (first + 0.4 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)


@pytest.fixture
def seen(pair):
    """Scattered pixels, and a corner so empty that whole windows have none."""
    inside = torch.rand(2, 24, 19, generator=torch.Generator().manual_seed(6)) < 0.3
    inside[:, 8:] = False
    return inside


def test_box_ssim_is_that_of_one_uniform_window_with_sample_covariance(pair):
    a, b = (video[:1, :, :7, :7] for video in pair)
    expected = []
    for x, y in zip(((a[0] + 1) / 2).flatten(1).numpy(), ((b[0] + 1) / 2).flatten(1).numpy()):
        (vx, vxy), (_, vy) = np.cov(x, y)  # divides by n - 1
        mx, my = x.mean(), y.mean()
        expected.append((2 * mx * my + C1) * (2 * vxy + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2)))
    assert frame_box_ssim(a, b) == pytest.approx(np.mean(expected), abs=1e-6)


def partial(plane, inside, along):
    """The partial convolution of one axis, window by window."""
    window = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window /= window.sum()
    plane, inside = (np.moveaxis(one, along, 0) for one in (plane, inside))
    values, based = [], []
    for start in range(len(plane) - 10):
        part, weight = plane[start : start + 11], inside[start : start + 11]
        count = weight.sum(0)
        total = (window[:, None] * part * weight).sum(0)
        values.append(np.where(count > 0, 11 * total / np.maximum(count, 1), 0))
        based.append((count > 0).astype(float))
    return np.moveaxis(np.stack(values), 0, along), np.moveaxis(np.stack(based), 0, along)


def slow_mssim(a, b, inside):
    def blurred(plane):
        across, kept = partial(plane, inside, 1)
        return partial(across, kept, 0)[0]

    found = []
    for x, y in zip(a, b):
        mx, my = blurred(x), blurred(y)
        vx, vy = np.maximum(0, blurred(x * x) - mx**2), np.maximum(0, blurred(y * y) - my**2)
        vxy = blurred(x * y) - mx * my
        vxy = np.sign(vxy) * np.minimum(np.sqrt(vx * vy), abs(vxy))
        found.append((2 * mx * my + C1) * (2 * vxy + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2)))
    return np.mean(found)


def test_mssim_equals_its_slow_twin_and_windows_without_a_seen_pixel_count_as_one(pair, seen):
    units = [((video.double() + 1) / 2).numpy() for video in pair]
    expected = [slow_mssim(a, b, inside.astype(float)) for a, b, inside in zip(*units, seen.numpy())]
    found = frame_mssim(*pair, seen)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert abs(found - frame_ssim(*pair, seen)).max() > 0.05  # not the mean over the region
    one = torch.zeros_like(seen)
    one[:, 0, 0] = True  # in the window of one value of the map, of 14 x 9
    alone = frame_mssim(pair[0], pair[1] * 0 + 1, one)
    assert ((alone > 1 - 2 / (14 * 9)) & (alone < 1)).all()


def test_mssim_of_all_pixels_is_ssim_and_hidden_pixels_do_not_matter(pair, seen):
    first, second = pair
    everything = torch.ones_like(seen)
    np.testing.assert_allclose(frame_mssim(first, second, everything), frame_ssim(first, second), atol=1e-5)
    other = torch.where(seen[:, None], second, -second)
    np.testing.assert_array_equal(frame_mssim(first, other, seen), frame_mssim(first, second, seen))
    assert np.isnan(frame_mssim(first, second, everything & False)).all()


def test_mlpips_is_the_mean_of_enlarged_layers_over_seen_pixels(tmp_path):
    network = Lpips(write_alex(tmp_path))
    generator = torch.Generator().manual_seed(2)
    first, second = torch.rand(2, 1, 3, 64, 80, generator=generator) * 2 - 1
    seen = torch.rand(1, 64, 80, generator=generator) < 0.5
    black = [torch.where(seen[:, None], video, -1.0) for video in (first, second)]
    expected = np.zeros((64, 80))
    for n, (a, b) in enumerate(zip(*(network._features(video) for video in black))):
        a, b = (x[0] / (x[0].norm(dim=0) + 1e-10) for x in (a, b))
        head = network._weights[f"lin{n}.model.1.weight"][0]
        expected += cv2.resize(((a - b) ** 2 * head).sum(0).numpy(), (80, 64))
    found = frame_mlpips(network, first, second, seen)
    assert found == pytest.approx(expected[seen[0].numpy()].mean(), rel=1e-4)
    other = torch.where(seen[:, None], second, -second)
    assert frame_mlpips(network, first, other, seen) == pytest.approx(found, rel=1e-6)
    assert frame_mlpips(network, first, first, seen) == 0
