"""Which frame each frame of a new video shows: exact, frame by frame."""

import numpy as np
import pytest

from recapture.models.geometry.moments import frames_shown, frozen_moments, ramp_moments, steady_moments


def shown(moments):
    return frames_shown(moments).tolist()


def test_slow_motion_shows_every_frame_twice_and_ends_on_the_last():
    assert shown(steady_moments(4, 0.5)) == [0, 0, 1, 1, 2, 2, 3]
    assert steady_moments(4, 0.5).tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]


def test_fast_motion_leaves_frames_out_and_a_tenth_counts_every_one():
    assert shown(steady_moments(7, 3)) == [0, 3, 6]
    assert len(steady_moments(4, 0.1)) == 31  # in floats, 3 / 0.1 is below 30
    assert shown(steady_moments(4, 0.1))[-1] == 3


@pytest.mark.parametrize("frames", [1, 2, 5, 49])
def test_reverse_is_the_clip_backwards_and_a_bounce_the_clip_and_its_way_back(frames):
    there = list(range(frames))
    assert shown(steady_moments(frames, 1.0, back=True)) == there[::-1]
    assert shown(steady_moments(frames, 1.0, bounce=True)) == there + there[-2::-1]


def test_a_frozen_frame_is_held_and_must_exist():
    assert shown(frozen_moments(5, 3, 4)) == [3, 3, 3, 3]
    assert shown(frozen_moments(5, None, 1)) == [2]
    with pytest.raises(ValueError, match=r"time\.frame is 5; the clip has frames 0 to 4"):
        frozen_moments(5, 5, 3)


def test_a_ramp_goes_through_its_keys_and_may_turn_back():
    moments = ramp_moments(31, 10.0, [(0, 0), (1, 2), (2, 2), (2.5, 1.5)])
    np.testing.assert_allclose(moments[[0, 5, 10, 15, 20, 25]], [0, 10, 20, 20, 20, 15])
    assert len(moments) == 26
    assert shown(ramp_moments(10, 10.0, [(0, 0.2), (0.3, 1.0)])) == [2, 5, 7, 9]  # the clip's end: its last


def test_a_ramp_beyond_the_clip_is_an_error_that_names_both_times():
    with pytest.raises(ValueError, match=r"show second 1\.1 of the clip at 2; the clip ends at 1$"):
        ramp_moments(10, 10.0, [(0, 0), (2, 1.1)])
