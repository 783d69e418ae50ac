"""Edit masks by clip id: every kind of file says the same, and what does not fit names the clip."""

import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from recapture.datasets.clips.clip import Clip, ClipError
from recapture.datasets.clips.edit_masks import find_mask, mask_hash, read_edit_mask, shrink
from recapture.datasets.media.video import write_video

CLIP = Clip("sub/a", "a.mp4", "video", "24", 6, 64, 48, 0.25, False, "", "0")
EDIT = np.zeros((6, 48, 64), dtype=bool)
for t in range(6):
    EDIT[t, 16:32, 8 * t : 8 * t + 16] = True


def read(folder, frames=range(6), size=(48, 64), threshold=0.5, invert=False):
    uri = find_mask(str(folder), CLIP)
    return np.stack(list(read_edit_mask(uri, CLIP, frames, *size, threshold=threshold, invert=invert)))


def picture(path, edit):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(edit, np.uint8(255), np.uint8(0))).save(path)


def write(kind, folder):
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    stem = folder / "sub/a"
    if kind == "npz":
        np.savez(f"{stem}.npz", mask=EDIT)
    elif kind == "pictures":
        for t, one in enumerate(EDIT):
            picture(stem / f"{t}.png", one)
    elif kind == "video":
        frames = [np.repeat(np.where(one, np.uint8(255), np.uint8(0))[..., None], 3, 2) for one in EDIT]
        write_video(f"{stem}.mp4", frames, Fraction(24), crf=1)
    else:
        boxes = [{"frame": t, "x": 8 * t, "y": 16, "w": 16, "h": 16} for t in (0, 5)]
        (folder / "sub/a.json").write_text(json.dumps(boxes))


@pytest.mark.parametrize("kind", ["npz", "pictures", "video", "boxes"])
def test_every_kind_of_file_gives_the_frames_asked_for(tmp_path, kind):
    write(kind, tmp_path)
    assert (read(tmp_path) == EDIT).all()
    assert (read(tmp_path, range(2, 5)) == EDIT[2:5]).all()
    assert (read(tmp_path, invert=True) == ~EDIT).all()
    assert (read(tmp_path, size=(24, 32)) == EDIT[:, ::2, ::2]).all()


def test_one_picture_holds_for_all_frames_and_the_threshold_is_of_white(tmp_path):
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None] * 4, 48, axis=0)
    Image.fromarray(ramp).save(tmp_path / "mask.png")
    shown = read(tmp_path / "mask.png", threshold=0.25)
    assert shown.shape == (6, 48, 64)
    assert (shown == (ramp > 0.25 * 255)).all()


@pytest.mark.parametrize("size", [(24, 32), (31, 41), (48, 64), (96, 128)])
@pytest.mark.parametrize("invert", [False, True])
def test_a_pixel_is_redrawn_where_any_part_of_it_is(size, invert):
    generator = np.random.default_rng(0)
    edit = (generator.random((48, 64)) < 0.02) ^ invert
    height, width = size
    small = shrink(edit, height, width)
    rows, columns = np.nonzero(edit)
    touched = np.zeros(size, dtype=bool)
    for row, column in zip(rows, columns, strict=True):
        above, below = row * height / 48, (row + 1) * height / 48
        left, right = column * width / 64, (column + 1) * width / 64
        touched[int(above) : int(np.ceil(below - 1e-9)), int(left) : int(np.ceil(right - 1e-9))] = True
    lost = touched & ~small  # slivers of a pixel at odd ratios may get lost, whole pixels never
    assert not (small & ~touched).any()
    assert lost.mean() < 0.002 and (size not in [(24, 32), (48, 64), (96, 128)] or not lost.any())


def test_the_hash_is_of_what_the_mask_shows_and_not_of_where_it_lies(tmp_path):
    write("pictures", tmp_path / "one")
    write("pictures", tmp_path / "two")
    one, two = (find_mask(str(tmp_path / name), CLIP) for name in ("one", "two"))
    assert mask_hash(one) == mask_hash(two)
    picture(tmp_path / "two/sub/a/3.png", ~EDIT[3])
    assert mask_hash(one) != mask_hash(two)


def _longer(folder):
    np.savez(folder / "sub/a.npz", mask=np.concatenate([EDIT, EDIT[:1]]))


def _another_aspect(folder):
    np.savez(folder / "sub/a.npz", mask=EDIT[:, :, :48])


def _no_array(folder):
    np.savez(folder / "sub/a.npz", holes=EDIT)


def _one_frame(folder):
    np.savez(folder / "sub/a.npz", mask=EDIT[0])


def _no_frame(folder):
    np.savez(folder / "sub/a.npz", mask=EDIT[:0])


def _fewer_pictures(folder):
    for t in range(4):
        picture(folder / f"sub/a/{t}.png", EDIT[t])


def _no_picture(folder):
    (folder / "sub/a.png").write_text("no picture")


def _no_video(folder):
    (folder / "sub/a.mp4").write_text("no video")


def _nothing(folder):
    (folder / "sub/b.png").write_text("another clip's")


def _empty_folder(folder):
    (folder / "sub/a").mkdir()


def _two(folder):
    write("npz", folder)
    write("boxes", folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_longer, "has 7 frames, the clip has 6"),
        (_another_aspect, "is 48x48, a different aspect from the clip's 64x48"),
        (_no_array, "it has no array 'mask'"),
        (_one_frame, r"has shape \[48, 64\]; it must be \[T, H, W\]"),
        (_no_frame, "has 0 frames"),
        (_fewer_pictures, "has 4 frames, the clip has 6"),
        (_no_picture, "is not a picture"),
        (_no_video, "a.mp4"),
        (_nothing, "has nothing called 'sub/a'"),
        (_empty_folder, "has nothing called 'sub/a'"),
        (_two, r"a\.npz' and '.*a\.json'; keep one of them"),
    ],
)
def test_a_mask_that_does_not_fit_names_the_clip_and_the_way_out(tmp_path, spoil, message):
    (tmp_path / "sub").mkdir()
    spoil(tmp_path)
    with pytest.raises(ClipError, match=f"(?s)^clip 'sub/a': mask.*{message}"):
        read(tmp_path)


def test_a_folder_that_is_not_there_names_the_setting(tmp_path):
    with pytest.raises(ClipError, match=r"clip 'sub/a': mask.uri '.*nowhere' does not exist"):
        find_mask(str(tmp_path / "nowhere"), CLIP)
