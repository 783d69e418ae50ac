import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from recapture.models.metrics import image, luma


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 3, 40, 48, generator=generator) * 2 - 1
    return (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(-1, 1), truth


@pytest.fixture
def region():
    inside = torch.zeros(3, 40, 48, dtype=torch.bool)
    inside[:, 8:30, 5:33] = True
    return inside


def unit(video):
    return ((video.double() + 1) / 2).permute(0, 2, 3, 1).numpy()


def test_psnr_is_the_mean_of_the_library_value_of_each_frame(pair):
    result, truth = pair
    expected = np.mean(
        [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(unit(result), unit(truth))]
    )
    assert image.psnr(result, truth) == pytest.approx(expected, abs=1e-6)  # float32 pixels


def test_constant_error_has_the_closed_form_psnr():
    truth = torch.zeros(2, 3, 16, 16)
    assert image.psnr(truth + 0.2, truth) == pytest.approx(20.0, abs=1e-5)  # 0.1 in [0, 1]


def test_identical_frames_score_the_limit_and_not_infinity(pair):
    assert image.psnr(pair[1], pair[1]) == image.PSNR_LIMIT
    assert image.ssim(pair[1], pair[1]) == pytest.approx(1.0)


def test_psnr_of_a_region_equals_the_loop_over_its_pixels(pair, region):
    result, truth = pair
    values = []
    for a, b, m in zip(unit(result), unit(truth), region.numpy()):
        errors = [np.mean((a[i, j] - b[i, j]) ** 2) for i in range(40) for j in range(48) if m[i, j]]
        values.append(-10 * math.log10(np.mean(errors)))
    assert image.psnr(result, truth, region) == pytest.approx(np.mean(values), abs=1e-6)  # float32 pixels


def test_nothing_outside_a_region_changes_its_psnr_or_ssim(pair, region):
    result, truth = pair
    other = torch.where(region[:, None], result, torch.ones(()))
    assert image.psnr(other, truth, region) == image.psnr(result, truth, region)
    assert image.ssim(other, truth, region) == pytest.approx(image.ssim(result, truth, region), abs=1e-12)
    assert image.psnr(other, truth) != image.psnr(result, truth)


def test_a_frame_with_an_empty_region_is_left_out_and_an_empty_clip_is_nan(pair, region):
    result, truth = pair
    region = region.clone()
    region[1] = False
    frames = image.frame_psnr(result, truth, region)
    assert np.isnan(frames[1])
    assert image.psnr(result, truth, region) == pytest.approx((frames[0] + frames[2]) / 2)
    assert math.isnan(image.psnr(result, truth, torch.zeros_like(region)))
    assert math.isnan(image.ssim(result, truth, torch.zeros_like(region)))


def test_region_ssim_equals_the_slow_partial_convolution(pair, region):
    a, b, m = unit(pair[0])[0], unit(pair[1])[0], region[0].numpy()
    blurred = gaussian_filter(m.astype(float), 1.5, radius=5, mode="constant")

    def local(z):
        return gaussian_filter(z * m, 1.5, radius=5, mode="constant") / np.maximum(blurred, 1e-12)

    values = []
    for c in range(3):
        x, y = a[..., c], b[..., c]
        mx, my = local(x), local(y)
        vx, vy, cov = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
        values.append(
            ((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))[m].mean()
        )
    assert image.frame_ssim(*pair, region)[0] == pytest.approx(np.mean(values), abs=1e-6)  # float32 pixels


def test_seam_ring_holds_the_pixels_at_most_half_the_width_from_the_other_kind():
    visible = torch.zeros(1, 8, 60, dtype=torch.bool)
    visible[..., :30] = True
    ring = image.seam_ring(visible, width=16)[0]
    assert ring[:, 22:38].all() and int(ring.sum()) == 8 * 16


def test_a_frame_without_a_boundary_has_no_seam():
    for seen in (torch.ones(1, 9, 9), torch.zeros(1, 9, 9)):
        assert not image.seam_ring(seen.bool()).any()


def test_blur_lowers_and_noise_raises_the_sharpness_ratio(pair):
    truth = torch.nn.functional.interpolate(pair[1], scale_factor=2, mode="bilinear")
    blurred = torch.nn.functional.avg_pool2d(truth, 5, 1, 2)
    assert luma.sharpness_ratio(truth, truth) == 1
    assert luma.sharpness_ratio(blurred, truth) < 0.3
    assert luma.sharpness_ratio((truth + 0.3 * torch.randn_like(truth)).clamp(-1, 1), truth) > 1.5
    assert math.isnan(luma.sharpness_ratio(truth, torch.zeros_like(truth)))


def test_detail_in_holes_is_told_from_flat_holes_and_the_seam_is_not_detail():
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    visible = torch.ones(2, 32, 32, dtype=torch.bool)
    visible[:, 8:24, 8:24] = False
    assert luma.hole_sharpness_ratio(video, visible) == pytest.approx(1, abs=0.3)
    assert luma.hole_sharpness_ratio(torch.where(visible[:, None], video, -1.0), visible) == 0
    assert math.isnan(luma.hole_sharpness_ratio(video, torch.ones_like(visible)))


def test_by_region_names_the_four_regions_and_holes_see_only_hole_errors():
    truth = torch.zeros(1, 3, 64, 64)
    visible = torch.ones(1, 64, 64, dtype=torch.bool)
    visible[..., 32:] = False
    result = torch.where(visible[:, None], truth, truth + 0.2)
    scores = image.by_region("psnr", image.psnr, result, truth, visible)
    assert set(scores) == {"psnr", "psnr_visible", "psnr_hole", "psnr_seam"}
    assert scores["psnr_visible"] == image.PSNR_LIMIT
    assert scores["psnr_hole"] == pytest.approx(20, abs=1e-4)
    assert scores["psnr"] == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)
    assert scores["psnr_seam"] == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)


def test_shares_count_pixels():
    visible = torch.tensor([[[True, False], [True, True]]])
    assert image.hole_share(visible) == 0.25 and image.coverage(visible) == 0.75


def test_videos_of_different_size_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\).*\(2, 3, 8, 9\)"):
        image.psnr(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 9))
