"""Errors of camera paths, against closed forms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recapture.models.metrics.trajectory import (
    absolute_errors,
    aligned,
    angles,
    centres,
    path_length,
    relative_errors,
    umeyama,
)


def path(frames=12, seed=0):
    rng = np.random.default_rng(seed)
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(frames, 3))).as_matrix()
    pose[:, :3, 3] = rng.normal(size=(frames, 3))
    return pose


def similar(pose, scale):
    """The same path in a world that is turned, moved and scaled."""
    turn, shift = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix(), np.array([3.0, -2.0, 1.0])
    place = scale * centres(pose) @ turn.T + shift
    other = pose.copy()
    other[:, :3, :3] = pose[:, :3, :3] @ turn.T
    other[:, :3, 3] = -np.einsum("tij,tj->ti", other[:, :3, :3], place)
    return other


@pytest.mark.parametrize(("how", "scale"), [("sim3", 2.5), ("sim3", 1.0), ("se3", 1.0)])
def test_a_path_in_another_world_has_no_error_after_alignment(how, scale):
    distance, angle = absolute_errors(similar(path(), scale), path(), how)
    assert distance.max() < 1e-9
    assert angle.max() < 1e-6


def test_the_wrong_scale_is_an_error_without_a_scale_in_the_alignment():
    distance, _ = absolute_errors(similar(path(), 2.0), path(), "se3")
    spread = centres(path()) - centres(path()).mean(0)
    assert np.sqrt((distance**2).mean()) == pytest.approx(np.sqrt((spread**2).sum(1).mean()), rel=1e-6)


def test_first_frames_coincide_and_a_scale_alone_is_found():
    truth = path()
    scaled = truth @ np.linalg.inv(truth[0])
    scaled[:, :3, 3] *= 0.4
    assert absolute_errors(scaled, truth, "scale")[0].max() < 1e-9
    assert absolute_errors(scaled, truth, "none")[0].max() > 0.1
    assert np.allclose(aligned(scaled, truth, "none")[0], truth[0])


def test_mirrored_points_are_turned_not_mirrored():
    points = np.random.default_rng(1).normal(size=(20, 3))
    rotation, _, _ = umeyama(points, points * [1, 1, -1], scaled=True)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_relative_errors_are_those_of_single_steps():
    truth = np.tile(np.eye(4), (5, 1, 1))
    truth[:, 0, 3] = -np.arange(5.0)
    found = truth.copy()
    found[3:, :3, :3] = Rotation.from_euler("y", 2, degrees=True).as_matrix()
    distance, angle = relative_errors(found, truth)
    assert angle == pytest.approx([0, 0, 2, 0], abs=1e-9)
    assert path_length(truth) == pytest.approx(4)
    assert relative_errors(found, truth, 2)[1] == pytest.approx([0, 2, 2], abs=1e-9)
    assert distance[:2] == pytest.approx([0, 0])


@pytest.mark.parametrize("degrees", [1e-6, 0.3, 90, 179])
def test_angles_are_those_of_the_turn(degrees):
    turned = path(1)
    turned[:, :3, :3] = Rotation.from_rotvec([0, np.radians(degrees), 0]).as_matrix() @ turned[:, :3, :3]
    assert angles(turned, path(1))[0] == pytest.approx(degrees, rel=1e-6)
