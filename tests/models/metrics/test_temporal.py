import dataclasses

import cv2
import numpy as np
import pytest
import torch
from support.surface import SURFACE

from recapture.models.metrics.flow import optical_flow, warp_error
from recapture.models.metrics.temporal import (
    Sync,
    flicker_static_only,
    measurement_consistency,
    sync_offset,
)


def sync(filmed, result, source=None):
    view = filmed.view
    return sync_offset(
        result, source or filmed.source, view.intrinsics, view.world_to_camera, surface=SURFACE
    ).scores()


def test_the_truth_is_in_sync(filmed):
    scores = sync(filmed, filmed.truth)
    assert scores["sync_offset_frames"] == 0 and scores["sync_error_frames"] == 0
    assert scores["sync_margin_db"] > 3


def test_a_result_three_frames_late_has_offset_minus_three(filmed):
    scores = sync(filmed, filmed.three_frames_late)
    assert scores["sync_offset_frames"] == -3 and scores["sync_error_frames"] == 3


def test_a_source_that_shows_later_frames_than_asked_is_found_ahead(filmed):
    shifted = dataclasses.replace(filmed.source, source_frame=(torch.arange(13) - 2).clamp_min(0))
    scores = sync(filmed, filmed.truth, shifted)
    assert scores["sync_offset_frames"] == 2


def test_where_nothing_moves_there_is_no_offset(filmed):
    still = filmed.source.at(torch.zeros(13, dtype=torch.long))
    still = dataclasses.replace(still, source_frame=torch.arange(13))
    assert sync(filmed, filmed.truth, still) == {}


def test_a_clip_of_one_frame_has_no_timing_and_no_flow(filmed):
    view, one = filmed.view, filmed.source.at(torch.tensor([0]))
    found = sync_offset(filmed.truth[:1], one, view.intrinsics[:1], view.world_to_camera[:1], surface=SURFACE)
    assert found.scores() == {} and warp_error(filmed.truth[:1]) == {}
    assert np.isnan(flicker_static_only(filmed.truth[:1]))


def test_a_flat_peak_gives_its_margin_but_no_offset():
    assert Sync(np.arange(-1, 2), np.array([20.0, 20.5, 20.0])).scores() == {"sync_margin_db": 0.5}


def test_consistency_of_the_truth_is_bounded_by_resampling_alone(filmed):
    view = filmed.view
    cameras = view.intrinsics, view.world_to_camera
    truth = measurement_consistency(filmed.truth, filmed.source, filmed.truth_depth, *cameras)
    copied = measurement_consistency(filmed.source.video, filmed.source, filmed.truth_depth, *cameras)
    assert truth["consistency_psnr"] > 28
    assert copied["consistency_psnr"] < truth["consistency_psnr"] - 8
    assert (
        truth["coverage"]
        == copied["coverage"]
        == pytest.approx(float(filmed.co_visible.float().mean()), abs=0.06)
    )


def texture(size=96, seed=0):
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(-1, 1)[0]


def test_flow_of_a_sliding_texture_is_its_shift_and_warping_undoes_it():
    picture = texture()
    slide = torch.stack([picture.roll(2 * t, dims=2) for t in range(4)])
    scores = warp_error(slide)
    assert scores["flow_px"] == pytest.approx(2, abs=0.3)
    assert scores["warp_error"] < 2e-4
    grey = ((picture.mean(0) + 1) * 127.5).to(torch.uint8).numpy()
    flow = optical_flow(grey, np.roll(grey, 3, axis=0))[20:-20, 20:-20]
    assert np.median(flow[..., 1]) == pytest.approx(3, abs=0.1)
    assert np.median(flow[..., 0]) == pytest.approx(0, abs=0.1)


def test_flickering_noise_raises_the_warp_error_and_blur_lowers_it():
    slide = torch.stack([texture().roll(2 * t, dims=2) for t in range(4)])
    noise = 0.2 * torch.randn(slide.shape, generator=torch.Generator().manual_seed(1))
    noisy = warp_error((slide + noise).clamp(-1, 1))["warp_error"]
    blurred = warp_error(torch.nn.functional.avg_pool2d(slide + noise, 9, 1, 4))["warp_error"]
    assert noisy > 20 * warp_error(slide)["warp_error"]
    assert blurred < noisy / 5


def test_flicker_is_one_minus_the_mean_frame_difference_in_unit_range():
    video = torch.zeros(3, 3, 4, 4)
    video[1] += 0.5
    assert flicker_static_only(video) == pytest.approx(0.75)
    assert flicker_static_only(video[:1].expand(3, -1, -1, -1)) == 1


def test_the_flow_of_a_pair_does_not_depend_on_the_pairs_before_it():
    generator = np.random.default_rng(0)

    def pair(height, width):
        picture = cv2.GaussianBlur(generator.random((height + 2, width + 2)), (0, 0), 3)
        picture = (255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)
        return picture[:height, :width].copy(), picture[2:, 1 : 1 + width].copy()

    wanted = pair(48, 64)
    first = optical_flow(*wanted)
    optical_flow(*pair(16, 16))  # so small that OpenCV chooses other settings
    np.testing.assert_array_equal(optical_flow(*wanted), first)
