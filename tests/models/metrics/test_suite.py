"""Known failures, and the metric that is meant to catch each of them."""

import dataclasses
import math

import pytest
import torch
from support.surface import SURFACE

from recapture.models.metrics.suite import METRICS, measure


def suite(filmed, result):
    return measure(
        result,
        filmed.source,
        filmed.view,
        surface=SURFACE,
        truth=filmed.truth,
        truth_depth=filmed.truth_depth,
        pivot_depth=filmed.pivot,
    )


@pytest.fixture(scope="module")
def truth(filmed):
    return suite(filmed, filmed.truth)


def test_the_truth_itself_passes_everything(truth):
    assert set(truth) == set(METRICS)
    assert truth["psnr"] == 100 and truth["ssim"] == pytest.approx(1)
    assert truth["pose_accuracy"] == 1 and truth["rotation_error_deg"] < 0.5
    assert truth["sync_error_frames"] == 0
    assert truth["consistency_psnr"] > 28
    assert truth["sharpness_ratio"] == pytest.approx(1, abs=0.15)


def test_a_copied_source_is_caught_by_the_camera_though_it_is_smooth(filmed, truth):
    scores = suite(filmed, filmed.source.video)
    assert scores["rotation_error_deg"] == pytest.approx(12.5, abs=0.3)
    assert scores["translation_error"] > 0.15 and scores["pose_accuracy"] < 0.2
    assert scores["consistency_psnr"] < truth["consistency_psnr"] - 8
    # why smoothness never judges alone: doing nothing beats the truth
    assert scores["flicker_static_only"] > truth["flicker_static_only"]


def test_a_mirrored_result_is_caught_by_failed_registration(filmed):
    scores = suite(filmed, filmed.truth.flip(-1))
    assert scores["pose_success"] < 0.25 and scores["pose_accuracy"] == 0
    assert scores["consistency_psnr"] < 18


def test_a_result_three_frames_late_is_caught_by_sync_though_its_camera_is_right(filmed):
    scores = suite(filmed, filmed.three_frames_late)
    assert scores["sync_offset_frames"] == -3
    assert scores["pose_success"] == 1 and scores["rotation_error_deg"] < 2


def test_forty_percent_of_the_path_is_caught_by_the_camera_as_sixty_percent_of_the_angle(filmed):
    scores = suite(filmed, filmed.part_of_the_way)
    assert scores["rotation_error_deg"] == pytest.approx(0.6 * 12.5, abs=0.3)
    assert scores["pose_accuracy"] < 0.4


def test_blur_is_caught_by_sharpness_though_it_lowers_the_warp_error(filmed, truth):
    blurred = torch.nn.functional.avg_pool2d(filmed.truth, 5, 1, 2, count_include_pad=False)
    scores = suite(filmed, blurred)
    assert scores["sharpness_ratio"] < 0.2
    assert scores["warp_error"] < truth["warp_error"]
    assert scores["psnr_visible"] < 30


def test_noise_is_caught_by_warp_error_and_sharpness(filmed, truth):
    noise = 0.2 * torch.randn(filmed.truth.shape, generator=torch.Generator().manual_seed(0))
    scores = suite(filmed, (filmed.truth + noise).clamp(-1, 1))
    assert scores["warp_error"] > 5 * truth["warp_error"]
    assert scores["sharpness_ratio"] > 2
    assert scores["psnr"] == pytest.approx(20, abs=0.5)


def test_a_result_that_is_right_only_where_it_was_seen_is_caught_in_the_holes(filmed, truth):
    black = torch.where(filmed.view.visible[:, None], filmed.truth, -torch.ones(()))
    scores = suite(filmed, black)
    assert scores["psnr_visible"] == 100 and scores["psnr_hole"] < 15
    assert scores["psnr_seam"] < 25
    assert scores["hole_sharpness_ratio"] < 0.5 * truth["hole_sharpness_ratio"]


def test_without_a_truth_only_its_metrics_are_absent(filmed, truth):
    scores = measure(filmed.truth, filmed.source, filmed.view, surface=SURFACE, pivot_depth=filmed.pivot)
    assert set(truth) - set(scores) == {name for name in METRICS if name.startswith(("psnr", "ssim"))}
    assert all(math.isfinite(value) for value in scores.values())


def test_a_clip_that_is_all_hole_is_measured_without_a_crash(filmed):
    nothing = torch.zeros_like(filmed.view.visible)
    view = dataclasses.replace(
        filmed.view, visible=nothing, depth=torch.full_like(filmed.view.depth, math.inf)
    )
    source = dataclasses.replace(filmed.source, known=nothing)
    scores = measure(torch.zeros_like(filmed.truth), source, view, surface=SURFACE, truth=filmed.truth)
    assert scores["hole_share"] == 1 and scores["coverage"] == 0 and scores["pose_success"] == 0
    assert "psnr_visible" not in scores and "psnr_hole" in scores


def test_every_metric_has_a_definition(truth):
    assert all(metric.definition and metric.unit is not None for metric in METRICS.values())


def test_a_result_of_another_size_is_refused(filmed):
    with pytest.raises(ValueError, match="measure a result at the size"):
        measure(filmed.truth[:, :, :64], filmed.source, filmed.view, surface=SURFACE)
    with pytest.raises(ValueError, match="source_frame names 2 frames for 13"):
        measure(filmed.truth, filmed.source.at(torch.arange(2)), filmed.view, surface=SURFACE)
