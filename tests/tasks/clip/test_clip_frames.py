"""Frames at a clip's own size, in any order."""

from fractions import Fraction

import numpy as np
import pytest

from recapture.datasets.media.video import iterate_frames, write_video
from recapture.datasets.readers.scan import scan
from recapture.tasks.clip.clip_frames import BLOCK, ClipFrames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(0, 255, (2 * BLOCK + 3, 16, 24, 3), dtype=np.uint8)
    write_video(str(folder / "a.mp4"), iter(frames), Fraction(25))
    return scan(str(folder))[0][0]


@pytest.mark.parametrize(
    "numbers",
    [range(35), range(34, -1, -1), [3, 3, 3], [0, 17, 16, 1, 33, 2], [15, 16]],
    ids=["forwards", "backwards", "frozen", "anyhow", "over a border"],
)
def test_frames_come_in_the_order_that_is_asked_for(clip, numbers):
    every = list(iterate_frames(clip.uri))
    found = ClipFrames(clip).read(np.array(numbers))
    assert np.array_equal(found, np.stack([every[number] for number in numbers]))


def test_a_frame_that_is_not_there_is_named(clip):
    with pytest.raises(ValueError, match=r"clip 'a': frame 35 cannot be read at full size.*repair it"):
        ClipFrames(clip).read(np.array([35]))
