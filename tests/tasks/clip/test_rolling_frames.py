import numpy as np
import pytest

from recapture.tasks.clip.rolling_frames import RollingFrames


class Frames:
    """An artifact of 20 frames that counts how often each is read."""

    def __init__(self):
        self.arrays = {"rgb": np.arange(60).reshape(20, 3), "known": np.arange(20) % 3 == 0}
        self.reads = np.zeros(20, dtype=int)

    def frames(self):
        return self

    def read(self, start, stop):
        self.reads[start:stop] += 1
        return {name: array[start:stop].copy() for name, array in self.arrays.items()}


FORWARD = [(0, 6), (3, 9), (5, 7), (9, 14), (12, 20), (19, 20)]
OTHERWISE = [(4, 9), (2, 6), (12, 15), (13, 14), (0, 20), (3, 4)]


@pytest.mark.parametrize("ranges", [FORWARD, OTHERWISE])
def test_every_range_has_its_frames(ranges):
    artifact = Frames()
    reader = RollingFrames(artifact)
    for start, stop in ranges:
        found = reader.read(start, stop)
        assert found.keys() == artifact.arrays.keys()
        for name, array in artifact.arrays.items():
            np.testing.assert_array_equal(found[name], array[start:stop])


def test_ranges_that_move_forward_read_no_frame_twice():
    artifact = Frames()
    reader = RollingFrames(artifact)
    for part in FORWARD:
        reader.read(*part)
    assert artifact.reads.tolist() == [1] * 20
