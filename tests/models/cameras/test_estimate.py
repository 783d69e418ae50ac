"""Cameras of a shot from tracks without pictures: what moves, how, and when nothing can be told."""

import numpy as np
import pytest
from support.point_world import CENTRE, FOCAL, HEIGHT, WIDTH, tracks, walk

from recapture.models.cameras.estimate import Lens, estimate_shot
from recapture.models.cameras.shots import estimate_clip, poses_of
from recapture.models.cameras.tracks import Tracks
from recapture.models.metrics.trajectory import absolute_errors, path_length

FRAMES = 13
GUESS = Lens(0.9 * FOCAL, CENTRE)
KNOWN = Lens(FOCAL, CENTRE, given=True)


def estimated(pose, lens=KNOWN, *, regain=False, **how):
    return estimate_shot(tracks(pose, points=150, **how), lens, 0.03, regain=regain)


def test_a_camera_that_turns_and_travels_is_found_with_its_lens():
    pose = walk(FRAMES, turn=8, travel=0.8)
    found = estimated(pose, GUESS)
    distance, angle = absolute_errors(poses_of(found.cameras), pose, "none")
    assert found.motion == "travels"
    assert angle.max() < 0.15
    assert distance.max() < 0.02 * path_length(pose)
    assert found.cameras.focal == pytest.approx(FOCAL, rel=0.02)
    assert np.median(found.confidence) > 0.6


def test_the_paths_scale_is_that_of_the_depth():
    pose = walk(FRAMES, turn=4, travel=0.6)
    seen = tracks(pose, points=150)
    far = Tracks(**{**seen.__dict__, "disparity": seen.disparity / 3})
    found = estimate_shot(far, KNOWN, 0.03, regain=False)
    assert path_length(poses_of(found.cameras)) == pytest.approx(3 * path_length(pose), rel=0.03)


def test_depth_that_is_wrong_in_places_costs_little():
    pose = walk(FRAMES, turn=6, travel=0.8)
    found = estimated(pose, depth_error=0.2, regain=True)
    distance, angle = absolute_errors(poses_of(found.cameras), pose, "scale")
    assert angle.max() < 0.2
    assert distance.max() < 0.03 * path_length(pose)


def test_a_camera_that_only_turns_does_not_travel():
    pose = walk(FRAMES, turn=10)
    found = estimated(pose)
    assert found.motion == "turns"
    assert path_length(poses_of(found.cameras)) == 0
    assert absolute_errors(poses_of(found.cameras), pose, "none")[1].max() < 0.1


def test_a_zoom_is_no_travel():
    focal = FOCAL * np.exp(np.linspace(0, 0.3, FRAMES))
    pose = walk(FRAMES, turn=3)
    found = estimated(pose, Lens(FOCAL, CENTRE), focal=focal)
    assert found.motion == "zooms"
    assert found.cameras.focal / found.cameras.focal[0] == pytest.approx(focal / focal[0], rel=0.02)
    assert path_length(poses_of(found.cameras)) == 0


def test_bodies_in_the_foreground_do_not_decide():
    pose = walk(FRAMES, turn=6, travel=0.6)
    found = estimated(pose, moving=0.55)
    distance, angle = absolute_errors(poses_of(found.cameras), pose, "none")
    assert angle.max() < 0.3
    assert distance.max() < 0.05 * path_length(pose)
    assert found.confidence.mean() < 0.75


def test_without_points_nothing_is_said():
    seen = tracks(walk(FRAMES, turn=5), points=6)
    found = estimate_shot(seen, KNOWN, 0.03, regain=False)
    assert found.motion == "unknown"
    assert "points per frame can be followed" in found.reason
    assert not found.confidence.any()


def test_points_that_move_each_its_own_way_are_not_trusted():
    seen = tracks(walk(FRAMES), points=150)
    rng = np.random.default_rng(0)
    steps = rng.normal(scale=6, size=(len(seen), 2))[seen.track]
    at = seen.xy + steps * (seen.frame - seen.frame[seen.first][seen.track])[:, None]
    found = clip_of(Tracks(**{**seen.__dict__, "xy": at}))
    assert not found.known
    assert "confidence" in found.reasons[0]
    assert (found.arrays["world_to_camera"] == np.eye(4)).all()
    assert found.arrays["pose_group"].tolist() == list(range(FRAMES))


def clip_of(seen, groups=None):
    groups = np.arange(seen.frames) if groups is None else groups
    return estimate_clip(seen, KNOWN, spread=0.03, regain=False, groups=groups, least_confidence=0.3)


def joined(first, second):
    """Two shots as one clip with a cut."""
    return Tracks(
        np.concatenate([first.track, len(first) + second.track]),
        np.concatenate([first.frame, first.frames + second.frame]),
        np.concatenate([first.xy, second.xy]),
        np.concatenate([first.disparity, second.disparity]),
        first.frames + second.frames,
        (first.frames,),
        (WIDTH, HEIGHT),
    )


def test_shots_have_cameras_of_their_own_that_are_not_related():
    one, two = walk(12, turn=6, travel=0.5), walk(12, turn=6, seed=3)
    found = clip_of(joined(tracks(one, points=150, length=10), tracks(two, points=200, length=10)))
    assert found.shots == (0, 12)
    assert found.motions == ("travels", "turns")
    assert not found.known and not found.reasons
    assert found.arrays["pose_group"].tolist() == 12 * [0] + 12 * [1]
    for part, truth in ((slice(0, 12), one), (slice(12, 24), two)):
        pose = found.arrays["world_to_camera"][part]
        assert (pose[0] == np.eye(4)).all()
        assert absolute_errors(pose, truth, "none")[1].max() < 0.2


def test_frames_of_a_stretch_that_stands_still_have_one_pose():
    pose = walk(FRAMES, turn=6, travel=0.5)
    pose[:6] = pose[0]
    groups = np.concatenate([np.zeros(6, int), np.arange(1, FRAMES - 5)])
    found = clip_of(tracks(pose, points=150), groups).arrays["world_to_camera"]
    assert (found[:6] == np.eye(4)).all()
    assert absolute_errors(found, pose, "none")[1].max() < 0.2


def test_a_frame_that_something_disturbed_stands_still_with_the_others():
    groups = np.array([0] * 6 + [1] + [0] * (FRAMES - 7))
    found = clip_of(tracks(walk(FRAMES), points=60), groups)
    assert (found.arrays["world_to_camera"] == np.eye(4)).all()
    assert found.motions == ("still",) and found.known and not found.arrays["pose_group"].any()
    pose = walk(FRAMES)
    pose[6] = walk(FRAMES, turn=6, seed=2)[6]
    moved = clip_of(tracks(pose, points=60), groups).arrays["world_to_camera"]
    assert absolute_errors(moved, pose, "none")[1].max() < 0.3
    assert (np.delete(moved, 6, axis=0) == np.eye(4)).all() and (moved[6] != np.eye(4)).any()


def test_what_is_measured_to_stand_still_is_exactly_still():
    found = clip_of(tracks(walk(FRAMES), points=40), np.zeros(FRAMES, int))
    assert found.motions == ("still",)
    assert (found.arrays["world_to_camera"] == np.eye(4)).all()
    assert found.known and found.confidence == 1
