"""The working size keeps the aspect ratio, loses no pixel of content and suits the model's strides."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recapture.tasks.clip.working_size import WorkingSize, to_working_size, working_size


@given(st.integers(16, 3000), st.integers(16, 3000), st.integers(16, 720))
def test_sides_are_multiples_of_16_and_hold_the_evenly_scaled_content(height, width, short_side):
    size = working_size(height, width, short_side)
    scale = min(1.0, short_side / min(height, width))
    assert size.height % 16 == 0 and size.width % 16 == 0
    assert 0 <= size.height - size.content_height < 16
    assert 0 <= size.width - size.content_width < 16
    assert abs(size.content_height - height * scale) <= 0.5
    assert abs(size.content_width - width * scale) <= 0.5


@pytest.mark.parametrize("short_side", [None, 1000])
def test_a_clip_is_never_scaled_up(short_side):
    assert working_size(100, 200, short_side) == WorkingSize(100, 200, 112, 208)


def test_padding_repeats_the_edge_right_and_below_and_leaves_the_content():
    frame = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    padded = to_working_size(frame, working_size(20, 30, None))
    assert padded.shape == (32, 32, 3)
    assert (padded[:20, :30] == frame).all()
    assert (padded[20:, :30] == frame[-1]).all()
    assert (padded[:20, 30:] == frame[:, -1:]).all()


def test_nearest_scaling_of_depth_invents_no_value():
    depth = np.where(np.arange(60)[None] < 30, 1.0, 9.0).astype(np.float32).repeat(60, axis=0)
    small = to_working_size(depth, WorkingSize(17, 17, 32, 32), interpolation=cv2.INTER_NEAREST)
    assert set(np.unique(small)) == {1.0, 9.0}
