"""Bundle adjustment against finite differences, and on problems whose answer is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.point_world import CENTRE, FOCAL, tracks, walk

from recapture.models.cameras.bundle import Cameras, Freedom, Problem, _System, adjust, errors


def problem_of(seen, prior=None):
    first = seen.first
    rest = np.ones(len(seen.track), bool)
    rest[first] = False
    prior = seen.disparity[first] if prior is None else prior
    return Problem(
        seen.frame[first],
        seen.xy[first],
        seen.track[rest],
        seen.frame[rest],
        seen.xy[rest],
        prior,
        np.ones(len(first)),
        0.1,
        0.3,
    )


def cameras_of(pose, focal=FOCAL):
    return Cameras(pose[:, :3, :3], pose[:, :3, 3], np.full(len(pose), focal), CENTRE)


def shaken(cameras, degrees, units, seed=0):
    rng = np.random.default_rng(seed)
    frames = len(cameras.focal)
    turn = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(frames, 3))).as_matrix()
    shift = units * rng.normal(size=(frames, 3))
    turn[0], shift[0] = np.eye(3), 0
    return Cameras(turn @ cameras.rotation, cameras.translation + shift, cameras.focal, CENTRE)


@pytest.mark.parametrize("lens", ["given", "one", "zoom"])
def test_slopes_are_those_of_finite_differences(lens):
    pose = walk(5, turn=6, travel=0.5)
    problem = problem_of(tracks(pose, points=12))
    start, disparity = shaken(cameras_of(pose), 1.0, 0.05), 1.1 * problem.prior
    system = _System(problem, 5, Freedom(lens=lens), FOCAL)
    slopes, by_points, error = system._slopes(start, disparity)
    columns = system._columns.reshape(len(error), 2, -1)[:, 0]
    step = 1e-6
    for unknown in range(system._size):
        moved = system.moved(start, disparity, step * np.eye(system._size)[unknown], 0 * disparity)
        difference = (errors(problem, *moved) / problem.pixel - error) / step
        expected = (slopes * (columns == unknown)[:, None]).sum(2)
        assert np.allclose(difference, expected, rtol=1e-3, atol=1e-2 * np.abs(slopes).max() * 1e-2)
    ahead = errors(problem, start, disparity + step) / problem.pixel
    assert np.allclose((ahead - error) / step, by_points, rtol=1e-3, atol=1e-3 * np.abs(by_points).max())


def test_exact_tracks_give_the_cameras_back():
    pose = walk(9, turn=8, travel=0.6)
    problem = problem_of(tracks(pose, points=120, noise=0.0))
    start = shaken(cameras_of(pose), 0.5, 0.03)
    found, disparity, cost = adjust(problem, start, 1.05 * problem.prior, Freedom(), FOCAL, 30)
    assert np.abs(found.rotation - pose[:, :3, :3]).max() < 1e-5
    assert np.abs(found.translation - pose[:, :3, 3]).max() < 1e-4
    assert disparity == pytest.approx(problem.prior, rel=1e-3)
    assert cost < 1e-3


def test_the_first_frame_stays_and_a_turning_camera_does_not_travel():
    pose = walk(7, turn=8)
    problem = problem_of(tracks(pose, points=100))
    start = shaken(cameras_of(pose), 0.5, 0.0)
    found, *_ = adjust(problem, start, problem.prior, Freedom(travels=False), FOCAL)
    assert (found.rotation[0] == start.rotation[0]).all()
    assert np.abs(found.translation).max() == 0
    assert np.abs(found.rotation - pose[:, :3, :3]).max() < 1e-3


def test_points_that_are_not_trusted_do_not_decide():
    pose = walk(7, turn=5, travel=0.4)
    seen = tracks(pose, points=150, noise=0.0)
    wrong = seen.track % 2 == 0
    xy = seen.xy.copy()
    later = np.isin(np.arange(len(xy)), seen.first, invert=True)
    xy[wrong & later] += [1.0, 0.0]
    problem = problem_of(type(seen)(**{**seen.__dict__, "xy": xy}))
    trust = np.where(np.arange(len(seen)) % 2 == 0, 0.0, 1.0)
    half = Problem(**{**problem.__dict__, "trust": trust})
    found, *_ = adjust(half, shaken(cameras_of(pose), 0.2, 0.01), problem.prior, Freedom(), FOCAL, 30)
    assert np.abs(found.rotation - pose[:, :3, :3]).max() < 1e-5
