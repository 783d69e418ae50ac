"""A followed box moves and grows with what it shows; what leaves the picture is lost."""

import cv2
import numpy as np

from recapture.models.geometry.follow import follow_box

SIZE = (96, 128)


def film(places, scales=None):
    """A textured patch of 30x30 at given top-left places over noise that stands still."""
    draw = np.random.default_rng(0)
    patch = cv2.resize(draw.integers(0, 256, (10, 10), dtype=np.uint8), (30, 30))
    frames = []
    for (x, y), scale in zip(places, scales or [1.0] * len(places)):
        frame = np.full(SIZE, 90, dtype=np.uint8)
        matrix = np.array([[scale, 0, x], [0, scale, y]], dtype=np.float32)
        cv2.warpAffine(patch, matrix, SIZE[::-1], frame, borderMode=cv2.BORDER_TRANSPARENT)
        frames.append(frame)
    return np.stack(frames)


def test_a_box_is_followed_from_a_middle_frame_both_ways():
    places = [(20.0 + 3.3 * t, 30.0 + 1.2 * t) for t in range(9)]
    boxes = follow_box(film(places), np.array([*places[4], places[4][0] + 30, places[4][1] + 30]), 4)
    expected = np.array([[x, y, x + 30, y + 30] for x, y in places])
    np.testing.assert_allclose(boxes, expected, atol=0.5)


def test_a_box_grows_with_what_comes_nearer():
    scales = [1 + 0.05 * t for t in range(7)]
    boxes = follow_box(film([(40.0, 30.0)] * 7, scales), np.array([40, 30, 70, 60]), 0)
    assert abs((boxes[-1, 2] - boxes[-1, 0]) - 30 * scales[-1]) < 1.5


def test_a_body_that_leaves_the_picture_is_lost_from_then_on():
    places = [(40.0 + 12 * t, 30.0) for t in range(10)]
    boxes = follow_box(film(places), np.array([40, 30, 70, 60]), 0)
    seen = np.isfinite(boxes[:, 0])
    assert seen[:5].all()
    assert not seen[-2:].any()


def test_a_blank_box_is_lost_at_once():
    grey = np.full((3, *SIZE), 90, dtype=np.uint8)
    assert np.isfinite(follow_box(grey, np.array([10, 10, 40, 40]), 0)[:, 0]).tolist() == [True, False, False]
