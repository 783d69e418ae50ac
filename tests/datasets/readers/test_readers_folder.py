from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recapture.datasets.media.video import write_video
from recapture.datasets.readers.scan import open_clip, scan


def frames(folder: Path, count: int = 3, size: tuple[int, int] = (12, 8), suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.full((size[1], size[0], 3), 10 * index, np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.{suffix}")


def video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(str(path), [np.zeros((16, 16, 3), np.uint8)] * 2, Fraction(5))


def test_ids_are_paths_without_suffix_and_hidden_or_other_files_are_left_alone(tmp_path: Path) -> None:
    video(tmp_path / "b.v2.mp4")
    video(tmp_path / "deep" / "er" / "a.MP4")
    video(tmp_path / ".trash" / "old.mp4")
    video(tmp_path / "x.mp4")
    (tmp_path / "x.mp4").rename(tmp_path / "._x.mp4")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "deep" / "labels.csv").write_text("1,2")
    frames(tmp_path / "shots" / "one")
    clips, rejected = scan(str(tmp_path))
    assert not rejected
    assert [clip.id for clip in clips] == ["b.v2", "deep/er/a", "shots/one"]
    assert all(Path(clip.uri).is_absolute() for clip in clips)


def test_pictures_beside_a_video_are_thumbnails_not_frames(tmp_path: Path) -> None:
    video(tmp_path / "set" / "a.mp4")
    frames(tmp_path / "set")
    clips, _ = scan(str(tmp_path))
    assert [clip.id for clip in clips] == ["set/a"]


def test_the_dataset_may_be_one_folder_of_frames_or_one_video(tmp_path: Path) -> None:
    frames(tmp_path / "walk", count=4)
    video(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_text("Nothing")
    (tmp_path / "walk.txt").write_text("Getting brighter")
    (walk,), _ = scan(str(tmp_path / "walk"))
    assert (walk.id, walk.kind, walk.frames, walk.caption) == ("walk", "frames", 4, "Getting brighter")
    (single,), _ = scan(str(tmp_path / "a.mp4"))
    assert (single.id, single.kind, single.frames, single.caption) == ("a", "video", 2, "Nothing")


def test_frames_keep_24_a_second_unless_the_folder_says_otherwise(tmp_path: Path) -> None:
    frames(tmp_path / "plain")
    frames(tmp_path / "slow")
    (tmp_path / "slow" / "fps.txt").write_text("12.5")
    frames(tmp_path / "broken")
    (tmp_path / "broken" / "fps.txt").write_text("fast")
    clips, (rejected,) = scan(str(tmp_path))
    assert {clip.id: clip.fps for clip in clips} == {"plain": "24", "slow": "25/2"}
    assert {clip.id: clip.duration for clip in clips} == {"plain": 3 / 24, "slow": 3 / 12.5}
    assert rejected.id == "broken"
    assert "'fast'; write a rate such as" in rejected.error


def test_frames_of_differing_sizes_are_refused_with_the_first_that_differs(tmp_path: Path) -> None:
    frames(tmp_path / "walk", count=5)
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "walk" / "3.png")
    _, (rejected,) = scan(str(tmp_path))
    assert "3.png" in rejected.error
    assert "is 12x9, the first one is 12x8" in rejected.error


def test_a_frame_cut_short_is_an_error_that_names_clip_and_frame(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for index in range(3):
        Image.fromarray(noise).save(folder / f"{index}.jpg")
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:1500])
    (clip,), _ = scan(str(tmp_path))
    with pytest.raises(ValueError, match=r"clip 'walk': frame .*1\.jpg' cannot be decoded"):
        list(open_clip(clip).frames())


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_any_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    (tmp_path / "walk").mkdir()
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(tmp_path / "walk" / "0.png")
    (clip,), _ = scan(str(tmp_path))
    (frame,) = open_clip(clip).frames()
    assert frame.shape == (4, 6, 3)
    assert (frame == 255).all()


def test_a_picture_that_states_a_rotation_is_turned(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    picture.save(tmp_path / "walk" / "0.png", exif=exif)
    (clip,), _ = scan(str(tmp_path))
    assert (clip.width, clip.height) == (4, 6)
    (frame,) = open_clip(clip).frames()
    assert np.array_equal(frame, np.rot90(pixels, -1))


def test_an_id_that_cannot_be_used_rejects_its_file_alone(tmp_path: Path) -> None:
    video(tmp_path / "new\nline.mp4")
    video(tmp_path / "why?.mp4")
    video(tmp_path / "ok.mp4")
    clips, rejected = scan(str(tmp_path))
    assert [clip.id for clip in clips] == ["ok"]
    assert sorted(item.id for item in rejected) == ["new\\nline", "why?"]
    assert all("rename the file" in item.error and "\n" not in item.error for item in rejected)
