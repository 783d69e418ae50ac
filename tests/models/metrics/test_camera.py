import dataclasses

import numpy as np
import pytest
import torch

from recapture.models.metrics.camera import CameraFollowing, camera_following


def follow(filmed, result, **changes):
    view = filmed.view
    return camera_following(
        result, filmed.source, view.intrinsics, view.world_to_camera, filmed.pivot, **changes
    )


def test_the_truth_follows_its_camera(filmed):
    found = follow(filmed, filmed.truth)
    assert found.success == 1 and found.accuracy == 1
    assert np.max(found.rotation) < 0.5
    assert np.max(found.translation) < 0.02


def test_each_frame_of_a_copied_source_is_wrong_by_the_angle_it_should_have_turned(filmed):
    found = follow(filmed, filmed.source.video)
    np.testing.assert_allclose(found.rotation, np.linspace(0, 25, 13), atol=0.2)
    # an orbit's chord: 2 r sin(angle / 2), in units of r
    np.testing.assert_allclose(
        found.translation, 2 * np.sin(np.radians(np.linspace(0, 25, 13)) / 2), atol=0.01
    )


def test_a_frame_that_cannot_be_registered_is_counted_as_a_failure(filmed):
    result = filmed.truth.clone()
    result[-1] = 0
    result[-2] = torch.rand(3, *result.shape[2:], generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = follow(filmed, result)
    assert np.isnan(found.rotation[-2:]).all()
    assert found.success == pytest.approx(11 / 13)
    assert found.accuracy == pytest.approx(11 / 13)
    assert found.scores()["rotation_error_deg"] == pytest.approx(np.mean(found.rotation[:-2]))


def test_a_result_that_can_never_be_registered_has_no_error_and_no_success(filmed):
    scores = follow(filmed, torch.zeros_like(filmed.truth)).scores()
    assert np.isnan(scores["rotation_error_deg"]) and np.isnan(scores["translation_error"])
    assert scores["pose_success"] == 0 and scores["pose_accuracy"] == 0


def test_unknown_depth_is_not_lifted(filmed):
    source = dataclasses.replace(filmed.source, known=torch.zeros_like(filmed.source.known))
    view = filmed.view
    found = camera_following(
        filmed.truth, source, view.intrinsics, view.world_to_camera, filmed.pivot, max_frames=2
    )
    assert found.success == 0


def test_long_clips_are_sampled_evenly_with_their_last_frame(filmed):
    assert follow(filmed, filmed.truth, max_frames=3).frames.tolist() == [0, 6, 12]


def test_a_failed_frame_is_never_accurate():
    nan = float("nan")
    found = CameraFollowing(np.arange(4), np.array([0.1, 5.0, nan, 0.1]), np.array([0.01, 0.01, nan, 0.2]))
    assert found.success == 0.75 and found.accuracy == 0.25
