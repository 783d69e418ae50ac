"""Where a camera of unknown poses stands still is measured on the picture, whatever else happens in it."""

import cv2
import numpy as np
import pytest
from support.photo_scene import FRAMES, HEIGHT, WIDTH, Motion, intrinsics, shoot

from recapture.models.geometry import stillness
from recapture.models.geometry.stillness import StillStretches

RANDOM = np.random.default_rng(0)
MOVING = [
    Motion("pan of 0.25 degrees per frame", pan=0.25),
    Motion("pan of 0.5 degrees per frame", pan=0.5),
    Motion("pan of 1 degree per frame", pan=1.0),
    Motion("dolly", dolly=0.05),
    Motion("truck", truck=0.05),
    Motion("hand shake", shake=0.3),
]


def frames_of(motion, frames=FRAMES, height=HEIGHT, width=WIDTH):
    """uint8 [T,H,W,3]."""
    video, _ = shoot(intrinsics(height, width, frames), motion.cameras(frames), height, width)
    return ((video.movedim(1, -1).numpy() + 1) * 127.5).round().astype(np.uint8)


@pytest.fixture(scope="module")
def still():
    return frames_of(Motion("tripod"))


def groups(frames):
    stretches = StillStretches()
    for frame in frames:
        stretches.add(frame)
    return stretches.groups


def changed(frames, change):
    return [
        np.clip(change(t, frame.astype(float)), 0, 255).round().astype(np.uint8)
        for t, frame in enumerate(frames)
    ]


def coarse(height, width):
    """A coloured thing of random patches, [height,width,3]."""
    patches = RANDOM.integers(0, 255, (10, 10, 3)).astype(np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("motion", MOVING, ids=lambda motion: motion.name)
def test_no_two_frames_of_a_moving_camera_are_taken_for_one_standpoint(motion):
    assert groups(frames_of(motion)) == list(range(FRAMES))


@pytest.mark.parametrize("quality", [30, 60])
def test_compression_does_not_hide_a_pan(quality):
    frames = [
        cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        for frame in frames_of(MOVING[0])
    ]
    assert groups(frames) == list(range(FRAMES))


@pytest.mark.parametrize("deviation", [0, 3, 8, 15])
def test_a_tripod_is_seen_through_noise(still, deviation):
    noisy = changed(still, lambda t, frame: frame + deviation * RANDOM.standard_normal(frame.shape))
    assert set(groups(noisy)) == {0}


def test_a_tripod_is_seen_through_exposure_that_drifts_and_flickers(still):
    assert set(groups(changed(still, lambda t, frame: frame * (1 + 0.03 * t) + 2 * t))) == {0}
    assert set(groups(changed(still, lambda t, frame: frame * (1 - 0.05 * t)))) == {0}
    assert set(groups(changed(still, lambda t, frame: frame * RANDOM.uniform(0.75, 1.2)))) == {0}


def test_a_tripod_is_seen_behind_a_thing_that_crosses_a_quarter_of_the_picture(still):
    thing = coarse(60, 48)

    def crossing(t, frame):
        left = 5 * t
        frame[20:80, left : left + 48] = thing[:, : WIDTH - left]
        return frame

    assert set(groups(changed(still, crossing))) == {0}


def test_a_camera_that_follows_a_thing_over_half_of_the_picture_moves():
    thing = coarse(76, 90)

    def followed(t, frame):
        frame[10:86, 19:109] = thing
        return frame

    assert groups(changed(frames_of(MOVING[1]), followed)) == list(range(FRAMES))


def test_nothing_is_concluded_from_a_picture_without_texture():
    assert groups([np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 3) == [0, 1, 2]
    noise = [np.clip(90 + 5 * RANDOM.standard_normal((HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)] * 1
    noise += [np.clip(90 + 5 * RANDOM.standard_normal((HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)]
    assert groups(noise) == [0, 1]


def test_a_slow_drift_ends_a_stretch_before_it_adds_up():
    """0.1 pixel per frame looks still from frame to frame; 12 frames on it would be 1.2 pixels."""
    found = groups(frames_of(Motion("slow pan", pan=0.05)))
    assert max(np.bincount(found)) <= 4 and len(set(found)) >= 4


def test_a_pause_within_a_pan_is_a_stretch_of_its_own(still):
    pan = frames_of(MOVING[2])
    found = groups([*pan[:5], *[pan[5]] * 6, *pan[6:]])
    assert found == [0, 1, 2, 3, 4, *[5] * 6, *range(6, 17)]


def test_the_camera_is_still_the_same_after_somebody_covered_the_lens(still):
    cover = [coarse(HEIGHT, WIDTH) for _ in range(3)]
    assert groups([*still[:8], *cover, *still[8:]]) == [*[0] * 8, 1, 2, 3, *[0] * 9]


def test_a_displacement_below_the_limit_is_still_and_one_above_it_is_not(still):
    wide = cv2.resize(still[0], None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)

    def shifted(pixels):
        moved = np.roll(wide, round(8 * pixels), axis=1)
        return cv2.resize(moved, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)

    assert groups([shifted(0), shifted(0.125)]) == [0, 0]
    for pixels in (0.5, 1.0, 2.5, 10.0):
        assert groups([shifted(0), shifted(pixels)]) == [0, 1], pixels


def test_memory_does_not_grow_with_the_clip(still):
    stretches = StillStretches()
    for frame in [*still, *frames_of(MOVING[2])] * 3:
        stretches.add(frame)
    held = [
        one
        for one in vars(stretches).values()
        if isinstance(one, list) and one and not isinstance(one[0], int | float)
    ]
    assert [len(one) for one in held] == [2]


def test_frames_too_small_to_be_measured_are_never_still():
    tiny = [np.zeros((6, 6, 3), np.uint8)] * 2
    assert groups(tiny) == [0, 1]
    assert stillness.still_share(stillness.Measured.of(tiny[0]), stillness.Measured.of(tiny[1])) == 0
