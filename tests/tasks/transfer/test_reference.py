"""How much of a reference is used, and whether something in it moves."""

from dataclasses import replace

import numpy as np
import pytest
from support.moving_clips import moving_square, wall

from recapture.conf.transfer import TransferConfig
from recapture.datasets.clips.clip import Clip
from recapture.tasks.transfer.reference import result_rate, used_frames, widest_change

CLIP = Clip("dog", "dog.mp4", "video", "24", 9, 32, 32, 1.0, False, "", "0")


@pytest.mark.parametrize(
    ("frames", "window", "used"),
    [(40, 17, 17), (17, 17, 17), (16, 17, 13), (12, 17, 9), (9, 17, 9), (8, 17, 0), (1, 17, 0), (99, 9, 9)],
)
def test_a_reference_is_used_in_whole_latents_up_to_the_window(frames, window, used):
    assert used_frames(frames, window) == used


@pytest.mark.parametrize("pixels", [3, 6, 12])
def test_a_plain_square_is_seen_to_move_about_as_far_as_it_does(pixels):
    moved = moving_square(9, side=64, far=pixels / 64)
    assert pixels - 1.5 <= widest_change(moved) <= pixels + 1.5


def test_noise_and_rest_are_no_motion():
    still = np.stack([wall(3, 64)] * 5).astype(np.int16)
    noise = np.random.default_rng(0).integers(-10, 11, still.shape)
    assert widest_change(np.clip(still + noise, 0, 255).astype(np.uint8)) == 0
    assert widest_change(moving_square(9, far=0)) == 0


def test_a_result_has_the_rate_of_the_reference_unless_both_move():
    target = replace(CLIP, id="cat", fps="30000/1001")
    assert result_rate(CLIP, target, TransferConfig()) == "24"
    swept = TransferConfig(start="swept")
    with pytest.raises(ValueError, match=r"'dog' has 24 frames per second.*'cat' 29.97.*1.25 times"):
        result_rate(CLIP, target, swept)
    assert result_rate(CLIP, target, swept.model_copy(update={"frame_rates": "any"})) == "30000/1001"
    assert result_rate(CLIP, replace(target, fps="24"), swept) == "24"
