"""RealEstate10K, DAVIS, COLMAP and nerfstudio folders, written as their specifications word them."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from support.spots import brightest, opened, pixel, save, spot

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.index import read_index, write_index
from recapture.datasets.readers.scan import open_clip, scan

FRAMES = 3
SIZE = (48, 32)


def poses(path: Path, frames: int = FRAMES) -> None:
    """A camera that starts at the origin and goes 0.5 to the right each frame; lens 40 px wide of 48."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["https://www.youtube.com/watch?v=Qx_1-abc"]
    for index in range(frames):
        matrix = f"1 0 0 {-0.5 * index} 0 1 0 0 0 0 1 0"
        lines.append(f"{(index + 1) * 40000} {40 / 48} 1.25 0.5 0.5 0 0 {matrix}")
    path.write_text("\n".join(lines) + "\n")


def moving(index: int) -> np.ndarray:
    """What that camera sees of a bright point at (1, 0, 4)."""
    return spot(*SIZE, 24 + 40 * (1 - 0.5 * index) / 4, 16)


def test_realestate10k_finds_its_clips_in_every_place_and_says_which_have_none(tmp_path: Path) -> None:
    root = tmp_path / "re10k"
    for name in ("beside", "sorted", "times", "alone", "short"):
        poses(root / "pose_files" / f"{name}.txt")
    frames = [moving(index) for index in range(FRAMES)]
    sound = str(Path(__file__).parents[3] / "datasets" / "sample" / "real" / "bunny.mp4")
    write_video(str(root / "pose_files" / "beside.mp4"), frames, Fraction(25), crf=1, audio_from=sound)
    (root / "README.txt").write_text("About this copy.\n")
    (root / "frames" / "times").mkdir(parents=True)
    (root / "frames" / "times" / "fps.txt").write_text("25")
    (root / "video_clips" / "Qx_1-abc").mkdir(parents=True)
    write_video(str(root / "video_clips" / "Qx_1-abc" / "sorted.mp4"), frames, Fraction(25), crf=1)
    write_video(str(root / "video_clips" / "short.mp4"), frames[:2], Fraction(25))
    for index in range(FRAMES):
        save(root / "frames" / "times" / f"{(index + 1) * 40000}.png", moving(index))
    save(root / "frames" / "times" / "999000.png", moving(0))  # a frame without a pose
    clips, rejected = scan(str(root))
    assert [clip.id for clip in clips] == ["pose_files/beside", "pose_files/sorted", "pose_files/times"]
    for clip in clips:
        assert (clip.kind, clip.fps, clip.frames) == ("realestate10k", "25", FRAMES)
        assert not clip.audio  # sound is taken from a clip's uri, which is its pose file
        source = open_clip(clip)
        for index, frame in enumerate(source.frames()):
            u, v, z = pixel(source, index, [1, 0, 4])
            assert z == 4
            assert np.hypot(*np.subtract(brightest(frame), (u, v))) < 1.5
    reasons = {item.id: item.error for item in rejected}
    assert set(reasons) == {"README", "pose_files/alone", "pose_files/short"}
    assert "cannot be read as RealEstate10K text" in reasons["README"]
    assert "no video 'alone.mp4' and no folder of frames next to it" in reasons["pose_files/alone"]
    assert "3 cameras for 2 frames" in reasons["pose_files/short"]


def test_davis_gives_object_ids_of_the_palette_and_honours_a_list(tmp_path: Path) -> None:
    root = tmp_path / "DAVIS"
    for name, annotated in (("bear", FRAMES), ("bmx-trees", FRAMES), ("test-seq", 1)):
        for index in range(FRAMES):
            save(root / "JPEGImages" / "480p" / name / f"{index:05d}.jpg", spot(*SIZE, 8, 8))
            if index < annotated:
                ids = np.zeros((SIZE[1], SIZE[0]), np.uint8)
                ids[4:8, index : index + 5], ids[20:24, 2:4] = 1, 2
                picture = Image.fromarray(ids, "P")
                picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
                (root / "Annotations" / "480p" / name).mkdir(parents=True, exist_ok=True)
                picture.save(root / "Annotations" / "480p" / name / f"{index:05d}.png")
    save(root / "JPEGImages" / "Full-Resolution" / "bear" / "00000.jpg", spot(96, 64, 8, 8))
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("bear\nlost\n")
    clips = opened(root)
    assert list(clips) == ["bear", "bmx-trees", "test-seq"]
    clip, source = clips["bear"]
    assert (clip.frames, clip.width, clip.fps, source.cameras(), source.depth()) == (
        FRAMES,
        48,
        "24",
        None,
        None,
    )
    found = source.objects(2, 3)
    assert found is not None and np.unique(found).tolist() == [0, 1, 2]
    assert (found[0] == 1).sum() == 20 and found[0, 5, 2] == 1 and found[0, 5, 1] == 0
    assert clips["test-seq"][1].objects() is None
    listed, (missing,) = scan(str(lists / "val.txt"), "davis")
    assert [item.id for item in listed] == ["bear"]
    assert missing.id == "lost" and "no picture" in missing.error


def colmap_project(project: Path, model: str = "PINHOLE 48 32 40 40 24 16") -> None:
    """The camera of `poses`, its pictures registered in another order, one of them not at all."""
    (project / "sparse" / "0").mkdir(parents=True)
    (project / "sparse" / "0" / "cameras.txt").write_text(f"7 {model}\n")
    lines = [f"{9 - i} 1 0 0 0 {-0.5 * i} 0 0 7 frame_{8 + i}.png\n10 10 -1\n" for i in (2, 0, 1)]
    (project / "sparse" / "0" / "images.txt").write_text("# comment\n" + "".join(lines))
    for index in range(FRAMES):
        save(project / "images" / f"frame_{8 + index}.png", moving(index))
    save(project / "images" / "frame_11.png", moving(0))


def test_colmap_pictures_follow_their_names_and_meet_their_cameras(tmp_path: Path) -> None:
    project = tmp_path / "walk"
    colmap_project(project)
    (project / "images" / "fps.txt").write_text("30000/1001")
    clip, source = opened(project)["walk"]
    assert (clip.kind, clip.frames, clip.fps) == ("colmap", FRAMES, "30000/1001")
    for index, frame in enumerate(source.frames()):
        u, v, z = pixel(source, index, [1, 0, 4])
        assert (brightest(frame), z) == ((int(u) + 0.5, int(v) + 0.5), 4)
    shutil.copytree(project, tmp_path / "many" / "two")
    assert list(opened(tmp_path / "many", "colmap")) == ["two"]
    (project / "images" / "frame_9.png").unlink()
    _, (rejected,) = scan(str(project))
    assert (
        "frame_9.png' of the model is missing, and 0 more; put the pictures into the project's"
        in rejected.error
    )


@pytest.mark.parametrize("model", ["OPENCV 48 32 40 40 24 16 {}", "OPENCV_FISHEYE 48 32 40 40 24 16 {}"])
def test_a_distorted_lens_is_straightened(tmp_path: Path, model: str) -> None:
    # A lattice of world points, drawn where the model's own formula puts them.
    terms = [0.1, -0.02, 0.003, -0.002] if "FISHEYE" not in model else [0.05, -0.01, 0.002, 0.001]
    project = tmp_path / "bent"
    colmap_project(project, model.format(" ".join(map(str, terms))))
    picture = np.zeros((32, 48, 3))
    v, u = np.mgrid[:32, :48] + 0.5
    points = [(-1.2, -0.6), (0.9, 0.7), (1.3, -0.7), (-1.4, 0.6)]
    for x, y in (np.array(point) / 4 for point in points):
        r2 = x * x + y * y
        if "FISHEYE" in model:
            theta = np.arctan(np.sqrt(r2))
            bent = theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(terms))) / np.sqrt(r2)
            xd, yd = x * bent, y * bent
        else:
            k1, k2, p1, p2 = terms
            radial = 1 + k1 * r2 + k2 * r2 * r2
            xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        near = np.exp(-((u - 24 - 40 * xd) ** 2 + (v - 16 - 40 * yd) ** 2) / 2)
        picture += 255 * near[..., None]
    save(project / "images" / "frame_8.png", picture.clip(0, 255).astype(np.uint8))
    _, source = opened(project)["bent"]
    straight = next(source.frames()).astype(float)[..., 0]
    for x, y in points:
        px, py, _ = pixel(source, 0, [x, y, 4])
        window = straight * (np.hypot(u - px, v - py) < 3)
        centre = (window * u).sum() / window.sum(), (window * v).sum() / window.sum()
        assert np.hypot(centre[0] - px, centre[1] - py) < 0.15
    known = source.known(0, 2)
    assert known is not None and known.shape == (2, 32, 48) and known.mean() > 0.8


@pytest.fixture
def nerfstudio(tmp_path: Path) -> Path:
    """A camera at (0.5 i, 0, 0) that looks along +y with z up, as nerfstudio's worlds are."""
    project = tmp_path / "garden"
    frames = []
    for index in range(FRAMES):
        to_world = [[1, 0, 0, 0.5 * index], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
        frames.append({"file_path": f"./images/frame_{8 + index}.png", "transform_matrix": to_world})
        frames[-1] |= {"depth_file_path": f"depth/{index}.png", "mask_path": f"masks/{index}.png"}
        save(project / "images" / f"frame_{8 + index}.png", moving(index))
        save(project / "depth" / f"{index}.png", np.full((32, 48), 4000 + 500 * index, np.uint16))
        mask = np.full((32, 48), 255, np.uint8)
        mask[:, :12] = 0
        save(project / "masks" / f"{index}.png", mask)
    fields = {"w": 96, "h": 64, "fl_x": 80, "fl_y": 80, "cx": 48, "cy": 32, "camera_model": "OPENCV"}
    (project / "transforms.json").write_text(json.dumps(fields | {"frames": frames[::-1]}))
    return project


def test_nerfstudio_brings_depth_masks_and_a_lens_for_another_size(nerfstudio: Path) -> None:
    for uri in (nerfstudio, nerfstudio / "transforms.json"):
        clip, source = opened(uri)["garden"]
        assert (clip.kind, clip.frames) == ("nerfstudio", FRAMES)
        for index, frame in enumerate(source.frames()):
            u, v, z = pixel(source, index, [1, 4, 0])  # 4 ahead along +y, 1 to the right
            assert (brightest(frame), z) == ((int(u) + 0.5, int(v) + 0.5), 4)
        depth, known = source.depth(1), source.known(0, 1)
        assert depth is not None and known is not None
        np.testing.assert_allclose(depth[:, 0, 0], [4.5, 5.0])
        assert known.mean() == 0.75 and not known[0, :, :12].any()


def test_nerfstudio_takes_scaled_pictures_where_no_others_are(nerfstudio: Path) -> None:
    (nerfstudio / "images").rename(nerfstudio / "images_4")
    assert opened(nerfstudio)["garden"][0].width == 48
    shutil.rmtree(nerfstudio / "images_4")
    _, (rejected,) = scan(str(nerfstudio))
    assert "picture './images/frame_8.png' is missing next to transforms.json" in rejected.error


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"w": 64}, "64x64 pictures, the frames are 48x32, a different aspect"),
        ({"frames": []}, "no list 'frames'"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"fl_x": float("nan")}, "intrinsics is not finite in frames"),
        ({"fl_x": -80}, "focal length of frame 0"),
    ],
)
def test_cameras_that_cannot_be_used_reject_the_clip_by_name(
    nerfstudio: Path, change: dict[str, object], reason: str
) -> None:
    file = nerfstudio / "transforms.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    clips, (rejected,) = scan(str(nerfstudio))
    assert not clips
    assert rejected.error.startswith("clip 'garden': ") and reason in rejected.error


@pytest.mark.parametrize("wrong", ["left-handed", "not orthonormal", "not finite"])
def test_poses_that_are_none_reject_the_clip_by_name(nerfstudio: Path, wrong: str) -> None:
    file = nerfstudio / "transforms.json"
    fields = json.loads(file.read_text())
    matrix = np.array(fields["frames"][1]["transform_matrix"])
    matrix[:3, 0] *= {"left-handed": -1, "not orthonormal": 2, "not finite": np.nan}[wrong]
    fields["frames"][1]["transform_matrix"] = matrix.tolist()
    file.write_text(json.dumps(fields))
    _, (rejected,) = scan(str(nerfstudio))
    assert rejected.error.startswith("clip 'garden': cameras ") and wrong in rejected.error
    assert "frame 1" in rejected.error or "frames [1]" in rejected.error


def test_layouts_are_read_on_any_store_and_kept_in_an_index(nerfstudio: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(nerfstudio), "/layouts/garden", recursive=True)
    clip, source = opened("memory://layouts/garden")["garden"]
    local = opened(nerfstudio)["garden"]
    assert clip.content_hash == local[0].content_hash
    for mine, theirs in zip(source.frames(), local[1].frames(), strict=True):
        assert np.array_equal(mine, theirs)
    for name in ("index.parquet", "index.csv"):
        write_index(str(tmp_path / name), [local[0]])
        assert read_index(str(tmp_path / name)) == [local[0]]
        assert scan(str(tmp_path / name)) == ([local[0]], [])


def test_the_hash_follows_every_file_that_a_clip_is_made_of(nerfstudio: Path) -> None:
    seen = {opened(nerfstudio)["garden"][0].content_hash}
    save(nerfstudio / "depth" / "1.png", np.full((32, 48), 9000, np.uint16))
    seen.add(opened(nerfstudio)["garden"][0].content_hash)
    save(nerfstudio / "masks" / "2.png", np.full((32, 48), 255, np.uint8))
    seen.add(opened(nerfstudio)["garden"][0].content_hash)
    file = nerfstudio / "transforms.json"
    file.write_text(file.read_text().replace('"fl_x": 80', '"fl_x": 81'))
    seen.add(opened(nerfstudio)["garden"][0].content_hash)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "kind",
    ["multicamvideo", "kubric4d", "dycheck", "realestate10k", "davis", "colmap", "nerfstudio", "motionbench"],
)
def test_a_folder_of_another_layout_and_none_at_all_are_errors(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ClipError, match=r"data.*(holds nothing in the layout|has no JPEGImages)"):
        scan(str(tmp_path / "data"), kind)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="absent"):
        scan(str(tmp_path / "absent"), kind)  # type: ignore[arg-type]
