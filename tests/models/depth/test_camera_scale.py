"""The scale of predicted depth is found from the motion of known cameras, or said to be uncertain."""

import numpy as np
import pytest
import torch
from support.travelling import travelling, turning_about, wavy

from recapture.models.depth.camera_scale import (
    CameraScale,
    LandmarkSampler,
    fit_camera_scale,
    least_disparity,
    rescaled,
)
from recapture.models.depth.landmarks import Landmarks, find_landmarks, travels

SHAPES = ((9, 96, 96), (33, 96, 160))


def landmarks_of(clip):
    return find_landmarks(clip.grey, clip.intrinsics, clip.world_to_camera)


def fitted(landmarks, predicted_depth, kind):
    sampler = LandmarkSampler(landmarks)
    for part in torch.from_numpy(predicted_depth).split(4):
        sampler.add(part)
    return fit_camera_scale(landmarks, sampler.predicted, kind)


@pytest.fixture(scope="module")
def clips():
    shapes = [(seed, *shape) for shape in SHAPES for seed in (100, 103, 104, 106)]
    made = {key: travelling(*key) for key in shapes}
    made |= {(seed, 33, 96, 160, "wide"): travelling(seed, 33, 96, 160, "wide") for seed in (100, 103, 110)}
    return {key: (clip, landmarks_of(clip)) for key, clip in made.items()}


def test_landmarks_of_what_stands_still_have_their_exact_disparity(clips):
    for clip, found in clips.values():
        still = clip.ids[found.frame, found.row, found.column] == 0
        exact = 1 / clip.depth[found.frame, found.row, found.column]
        error = np.abs(found.disparity - exact)[still]
        assert len(found) > 100 and np.median(error / exact[still]) < (0.15 if len(clip.rgb) == 9 else 0.05)
        assert np.median(error / found.deviation[still]) < 1.5  # the stated precision is the real one


def test_depth_that_is_right_up_to_scale_gets_the_scale_of_the_cameras(clips):
    for key, (clip, found) in clips.items():
        scale = fitted(found, clip.depth * 0.31, "metric")
        assert scale.certain and scale.gain == pytest.approx(0.31, rel=0.07), (key, scale)
        if key[1] == 33:
            assert scale.gain == pytest.approx(0.31, rel=0.01), key


def test_depth_with_a_models_errors_gets_the_scale_too(clips):
    rng = np.random.default_rng(0)
    for key, (clip, found) in clips.items():
        noisy = clip.depth * 2.2 * wavy(clip.depth.shape[1:], rng)
        scale = fitted(found, noisy, "metric")
        assert scale.certain and scale.gain == pytest.approx(2.2, rel=0.15), key


def test_inverse_depth_gets_scale_and_shift(clips):
    """The shift that alignment guesses is off by 0.1; what counts is the depth that comes out."""
    for key, (clip, found) in clips.items():
        guessed = 1 / (0.5 / clip.depth + 0.1)
        scale = fitted(found, guessed, "inverse")
        made = rescaled(torch.from_numpy(guessed), scale, 1e-3)
        off = (made / torch.from_numpy(clip.depth) - 1).abs().median()
        by_scale_alone = fitted(found, guessed, "metric")
        assert scale.certain and scale.shift <= 0 and off < (0.2 if key[1] == 9 else 0.06), (key, off)
        assert by_scale_alone.shift == 0


def test_moving_things_do_not_decide(clips):
    """A third of the points move along their epipolar lines: only the others' agreement tells them."""
    for key, (clip, found) in clips.items():
        moving = np.random.default_rng(1).random(len(found)) < 0.33
        disparity = np.where(moving, 3 * found.disparity + 0.2, found.disparity)
        moved = Landmarks(found.frame, found.row, found.column, disparity, found.deviation, len(found))
        scale = fitted(moved, clip.depth, "metric")
        assert scale.certain and scale.gain == pytest.approx(1, rel=0.1), key


def test_a_camera_that_only_turns_is_no_evidence():
    first = travelling(100, 1, 96, 160).world_to_camera[0]
    clip = travelling(100, 9, 96, 160, cameras=turning_about(first, np.linspace(0, 8, 9)))
    assert not travels(clip.world_to_camera)
    # poses as an estimator would give them: the same, with errors of a thousandth
    clip.world_to_camera[1:, :3, 3] += np.random.default_rng(0).normal(size=(8, 3)) * 1e-3
    assert travels(clip.world_to_camera)
    scale = fitted(landmarks_of(clip), clip.depth * 2, "metric")
    assert not scale.certain and "standard error" in str(scale)


def test_cameras_that_do_not_belong_to_the_clip_are_no_evidence(clips):
    clip, _ = clips[104, 33, 96, 160]
    other, _ = clips[106, 33, 96, 160]
    found = find_landmarks(clip.grey, clip.intrinsics, other.world_to_camera)
    assert not fitted(found, clip.depth, "metric").certain


def test_a_picture_without_corners_is_no_evidence():
    grey = np.full((48, 64), 128, np.uint8)
    clip = travelling(100, 3, 48, 64)
    found = find_landmarks(lambda _: grey, clip.intrinsics, clip.world_to_camera)
    assert len(found) == 0 and not fitted(found, clip.depth, "metric").certain


def test_how_many_frames_are_read_does_not_grow_with_the_clip():
    clip = travelling(104, 33, 48, 80)
    read = []

    def grey(frame):
        read.append(frame)
        return clip.grey(abs((frame + 32) % 64 - 32))  # the clip forth and back, for ever

    frames = 10_000
    there = np.abs((np.arange(frames) + 32) % 64 - 32)
    found = find_landmarks(grey, clip.intrinsics[:1].repeat(frames, 0), clip.world_to_camera[there])
    assert len(read) <= 1 + 8 * 25 and len(found) > 12


def test_rescaled_depth_is_affine_in_disparity_and_never_beyond_the_limit():
    depth = torch.tensor([[[1.0, 2.0, 4.0, 50.0]]])
    scale = CameraScale(2.0, -0.3, 100, 1.0, 0.01)
    least = least_disparity(depth[0], scale, 25)
    assert least == pytest.approx((2 / 4 - 0.3) / 25)
    expected = [1 / 1.7, 1 / 0.7, 1 / 0.2, 25 / 0.2]
    torch.testing.assert_close(rescaled(depth, scale, least)[0, 0], torch.tensor(expected))
