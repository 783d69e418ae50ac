"""What the embedded captioner measures on pictures whose motion is known."""

import numpy as np
import pytest

from recapture.models.captions.regions import look_at_pairs

HEIGHT, WIDTH = 96, 128
GROUND = np.random.default_rng(1).integers(60, 120, (HEIGHT, 2 * WIDTH), dtype=np.uint8)


def ground(shift=0):
    """A grey texture, smooth enough for optical flow, moved by `shift` pixels to the left."""
    from cv2 import GaussianBlur

    grey = GaussianBlur(GROUND, (5, 5), 1.5)[:, 20 + shift : 20 + shift + WIDTH]
    return np.repeat(grey[..., None], 3, axis=2)


def body(frame, x, y, size, colour):
    frame = frame.copy()
    speckle = np.random.default_rng(2).integers(-20, 20, (size, size, 1))
    frame[y : y + size, x : x + size] = np.clip(np.array(colour) + speckle, 0, 255)
    return frame


def test_nothing_moves_in_a_still_clip_or_one_frame():
    assert look_at_pairs([]).regions == ()
    still = look_at_pairs([(ground(), ground())])
    assert still.regions == () and not still.camera_moves


@pytest.mark.parametrize("step", [-3, 3])
def test_a_body_that_moves_has_its_colour_and_direction(step):
    first, second = (body(ground(), 50 + place, 30, 30, (210, 30, 40)) for place in (0, step))
    seen = look_at_pairs([(first, second)])
    (found,) = seen.regions
    hue, saturation, _ = found.colour
    assert (hue < 15 or hue > 345) and saturation > 0.5
    assert np.sign(found.across) == np.sign(step)
    assert found.across * WIDTH == pytest.approx(step, abs=1)
    assert found.share == pytest.approx(30 * 30 / (HEIGHT * WIDTH), rel=0.5)
    assert not seen.camera_moves


def test_a_camera_that_pans_is_no_body():
    seen = look_at_pairs([(ground(0), ground(4))])
    assert seen.camera_moves and seen.regions == ()
    first = body(ground(0), 50, 30, 30, (30, 60, 210))
    seen = look_at_pairs([(first, body(ground(4), 52, 30, 30, (30, 60, 210)))])
    assert seen.camera_moves and len(seen.regions) == 1
    assert 200 < seen.regions[0].colour[0] < 250


def test_the_largest_bodies_come_first():
    def frame(step):
        return body(body(ground(), 10 + step, 10, 16, (30, 160, 60)), 70, 40 + step, 32, (220, 200, 40))

    seen = look_at_pairs([(frame(0), frame(3))])
    shares = [one.share for one in seen.regions]
    assert len(shares) == 2 and shares == sorted(shares, reverse=True)
