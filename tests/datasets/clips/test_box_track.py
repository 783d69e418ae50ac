"""Box tracks: linear between key frames, held outside of them, and clear about what is wrong."""

import json

import numpy as np
import pytest

from recapture.datasets.clips.box_track import Box, box_pixels, boxes_at, read_box_track
from recapture.datasets.clips.clip import Clip, ClipError

CLIP = Clip("a/b", "a/b.mp4", "video", "24", 11, 64, 48, 11 / 24, False, "", "0")


def track(path, content):
    path.write_text(content)
    return read_box_track(str(path), CLIP)


def test_json_and_csv_say_the_same_in_any_order(tmp_path):
    rows = [{"frame": 8, "x": 3.5, "y": 2, "w": 4, "h": 5}, {"frame": 2, "x": 0, "y": 1, "w": 6, "h": 7}]
    written = "frame,x,y,w,h\n" + "\n".join(",".join(str(value) for value in row.values()) for row in rows)
    from_json = track(tmp_path / "a.json", json.dumps(rows))
    assert from_json == track(tmp_path / "a.csv", written)
    assert from_json == [Box(frame=2, x=0, y=1, w=6, h=7), Box(frame=8, x=3.5, y=2, w=4, h=5)]


def test_boxes_are_linear_between_key_frames_and_held_outside():
    keys = [Box(frame=2, x=10, y=0, w=4, h=8), Box(frame=6, x=20, y=8, w=8, h=4)]
    boxes = boxes_at(keys, np.arange(11))
    for t in range(11):
        share = min(max((t - 2) / 4, 0), 1)
        expected = [10 + 10 * share, 8 * share, 4 + 4 * share, 8 - 4 * share]
        assert boxes[t] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("box", [(3.2, 4.0, 5.9, 6.0), (-3, -2, 8, 7), (60, 40, 30, 30), (70, 10, 5, 5)])
@pytest.mark.parametrize("size", [(48, 64), (24, 32), (30, 40)])
def test_a_pixel_is_in_a_box_that_overlaps_it(box, size):
    height, width = size
    x, y, w, h = box
    pixels = box_pixels(np.array(box), CLIP, height, width)
    for row in range(height):
        for column in range(width):
            left, right = column * 64 / width, (column + 1) * 64 / width
            above, below = row * 48 / height, (row + 1) * 48 / height
            assert pixels[row, column] == (left < x + w and right > x and above < y + h and below > y)


def test_a_box_without_area_holds_nothing():
    assert not box_pixels(np.array([3.5, 4.5, 0, 9]), CLIP, 48, 64).any()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", "is empty"),
        ("a.csv", "frame,x,y,w,h\n", "is empty"),
        ("a.json", '{"frame": 1}', "a box has frame, x, y, w, h"),
        ("a.csv", "frame,x,y,w\n1,2,3,4\n", "0.h: Field required"),
        ("a.json", '[{"frame": 1, "x": NaN, "y": 0, "w": 1, "h": 1}]', "0.x: .*finite"),
        ("a.json", '[{"frame": 1, "x": 0, "y": 0, "w": -1, "h": 1}]', "0.w: .*greater than or equal to 0"),
        ("a.csv", "frame,x,y,w,h\n1,0,0,1,1\n1,2,2,1,1\n", "two boxes at frame 1"),
        ("a.csv", "frame,x,y,w,h\n11,0,0,1,1\n", "has frame 11, but the clip ends at 10"),
        ("a.json", "[{", "cannot be read"),
    ],
)
def test_what_is_no_track_is_one_message_naming_the_clip(tmp_path, name, content, message):
    with pytest.raises(ClipError, match=rf"(?s)clip 'a/b': box track '.*{name}'.*{message}"):
        track(tmp_path / name, content)
