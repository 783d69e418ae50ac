"""MultiCamVideo, Kubric-4D and DyCheck, written as specified: known points must fall on known pixels."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.spots import brightest, opened, pixel, save, spot

from recapture.datasets.clips.clip import ClipError
from recapture.datasets.media.video import write_video
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.readers.view_groups import groups, paired_frames
from recapture.datasets.readers.views import ViewSource

FRAMES = 3


def unreal_row(values: Sequence[float]) -> str:
    return "[" + " ".join(str(value) for value in values) + "] "


@pytest.fixture
def multicam(tmp_path: Path) -> Path:
    """Two cameras that look along Unreal's x: cam01 at the origin, cam02 100 cm to its right."""
    scene = tmp_path / "train" / "f24_aperture5" / "scene1"
    axes = "".join(unreal_row(row) for row in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]))
    places = {"cam01": [0, 0, 0, 1], "cam02": [0, 100, 0, 1]}
    poses = {name: axes + unreal_row(place) for name, place in places.items()}
    (scene / "cameras").mkdir(parents=True)
    extrinsics = {f"frame{index}": poses for index in range(FRAMES)}
    (scene / "cameras" / "camera_extrinsics.json").write_text(json.dumps(extrinsics))
    (scene / "videos").mkdir()
    for name in places:
        frames = [np.zeros((64, 64, 3), np.uint8)] * FRAMES
        write_video(str(scene / "videos" / f"{name}.mp4"), frames, Fraction(15))
    return tmp_path / "train"


def test_multicamvideo_gives_both_views_in_one_world(multicam: Path) -> None:
    clips = opened(multicam, "multicamvideo")
    first, second = (f"f24_aperture5/scene1/videos/cam0{number}" for number in (1, 2))
    assert list(clips) == [first, second]
    focal = 24 / 23.76 * 64
    # 400 cm ahead, 100 cm right, 100 cm up in Unreal's left-handed world, whose y is mirrored here.
    point = [4.0, -1.0, 1.0]
    np.testing.assert_allclose(pixel(clips[first][1], 2, point), [32 + focal / 4, 32 - focal / 4, 4])
    np.testing.assert_allclose(pixel(clips[second][1], 2, point), [32, 32 - focal / 4, 4], atol=1e-9)
    views = groups([clip for clip, _ in clips.values()])
    assert [[clip.id for clip in group] for group in views.values()] == [[first, second]]
    pair = paired_frames(clips[first][0], clips[second][0])
    assert pair.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert clips[first][0].fps == "15"
    assert scan(str(multicam))[0] == [clip for clip, _ in clips.values()]


def test_one_bad_view_never_stops_the_others(multicam: Path) -> None:
    videos = multicam / "f24_aperture5" / "scene1" / "videos"
    (videos / "cam02.mp4").write_bytes((videos / "cam02.mp4").read_bytes()[:300])
    write_video(str(videos / "cam03.mp4"), [np.zeros((64, 64, 3), np.uint8)] * FRAMES, Fraction(15))
    write_video(str(videos / "cam01b.mp4"), [np.zeros((64, 64, 3), np.uint8)], Fraction(15))
    clips, rejected = scan(str(multicam))
    assert [clip.id for clip in clips] == ["f24_aperture5/scene1/videos/cam01"]
    reasons = {item.id.rsplit("/", 1)[-1]: item.error for item in rejected}
    assert "no camera 'cam03', it has cam01, cam02" in reasons["cam03"]
    assert "cam02.mp4" in reasons["cam02"] and "replace" in reasons["cam02"]
    assert "no camera 'cam01b'" in reasons["cam01b"]
    other = multicam / "plain"
    (multicam / "f24_aperture5").rename(other)
    assert all("names the lens; keep" in item.error for item in scan(str(multicam), "multicamvideo")[1])


@pytest.fixture
def kubric(tmp_path: Path) -> Path:
    """A view at (0, -10, 1) that looks along +y (z is up) at a wall 10 ahead; a second one 2 to its right."""
    scene = tmp_path / "data" / "scn00007"
    width, height, half = 48, 32, float(np.sqrt(0.5))
    v, u = np.mgrid[:height, :width] + 0.5
    focal = 1.25 * width
    rays = np.sqrt(((u - width / 2) / focal) ** 2 + ((v - height / 2) / focal) ** 2 + 1)
    for view, x in enumerate((0.0, 2.0)):
        camera = {
            "K": [[1.25, 0, -0.5], [0, -1.25 * width / height, -0.5], [0, 0, -1]],
            "positions": [[x, -10, 1]] * FRAMES,
            "quaternions": [[half, half, 0, 0]] * FRAMES,
        }
        stated = {"scene": {"resolution": [width, height], "num_frames": FRAMES}, "camera": camera}
        folder = scene / f"frames_p0_v{view}"
        folder.mkdir(parents=True)
        (scene / f"scn00007_p0_v{view}.json").write_text(json.dumps(stated))
        for index in range(FRAMES):
            pixels = spot(width, height, width / 2 + focal * (1 - x) / 10, height / 2 - focal * 0.5 / 10)
            rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
            Image.fromarray(rgba).save(folder / f"rgba_{index:05d}.png")
            Image.fromarray((10 * rays).astype(np.float32)).save(folder / f"depth_{index:05d}.tiff")
            ids = np.zeros((height, width), np.uint8)
            ids[:8] = index + 1
            palette = Image.fromarray(ids, "P")
            palette.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, 10, 10, 200])
            palette.save(folder / f"segmentation_{index:05d}.png")
    return tmp_path / "data"


def test_kubric_distances_become_z_depth_and_points_fall_on_their_pixels(kubric: Path) -> None:
    clips = opened(kubric)
    assert list(clips) == ["scn00007/frames_p0_v0", "scn00007/frames_p0_v1"]
    for clip, source in clips.values():
        assert (clip.kind, clip.fps, clip.frames) == ("kubric4d", "24", FRAMES)
        depth = source.depth(1, 3)
        assert depth is not None and depth.shape == (2, 32, 48) and depth.dtype == np.float32
        np.testing.assert_allclose(depth, 10, rtol=1e-5)  # the wall stands square to the view
        u, v, z = pixel(source, 1, [1, 0, 1.5])
        assert z == pytest.approx(10)
        frame = list(source.frames())[1]
        assert brightest(frame) == (int(u) + 0.5, int(v) + 0.5)
        ids = source.objects(2)
        assert ids is not None and ids.dtype == np.int64
        assert ids[0, 0, 0] == 3 and ids[0, -1, 0] == 0
    assert len(groups([clip for clip, _ in clips.values()])) == 1


def test_kubric_files_that_are_missing_reject_their_view_alone(kubric: Path) -> None:
    (kubric / "scn00007" / "frames_p0_v0" / "depth_00001.tiff").unlink()
    clips, (rejected,) = scan(str(kubric))
    assert [clip.id for clip in clips] == ["scn00007/frames_p0_v1"]
    assert "2 files of depth for 3 frames; give one per frame" in rejected.error
    (kubric / "scn00007" / "scn00007_p0_v1.json").unlink()
    _, rejected_now = scan(str(kubric))
    assert "no camera file '*_p0_v1.json'" in rejected_now[1].error


@pytest.fixture
def dycheck(tmp_path: Path) -> Path:
    """Camera 0 stands at the origin and looks along z, camera 1 is 1 to its right; pictures at half size."""
    sequence = tmp_path / "iphone" / "spin"
    for folder in ("camera", "rgb/2x", "depth/2x", "covisible/2x/val"):
        (sequence / folder).mkdir(parents=True)
    for camera, times in ((0, (0, 1, 2, 3)), (1, (1, 3))):
        stated = {
            "focal_length": 80.0,
            "principal_point": [36.0, 48.0],
            "image_size": [72, 96],
            "orientation": np.eye(3).tolist(),
            "position": [float(camera), 0, 0],
            "skew": 0.0,
            "pixel_aspect_ratio": 1.0,
            "radial_distortion": [0.0, 0.0, 0.0],
            "tangential_distortion": [0.0, 0.0],
        }
        for time in times:
            name = f"{camera}_{time:05d}"
            (sequence / "camera" / f"{name}.json").write_text(json.dumps(stated))
            pixels = spot(36, 48, 18 + 40 * (0.5 - camera) / 2, 24)
            save(sequence / "rgb" / "2x" / f"{name}.png", pixels)
            if camera == 0:
                depth = np.full((48, 36, 1), 2 + time, np.float32)
                depth[0, 0] = 0
                np.save(sequence / "depth" / "2x" / f"{name}.npy", depth)
            else:
                seen = np.zeros((48, 36), np.uint8)
                seen[:, :9] = 255
                save(sequence / "covisible" / "2x" / "val" / f"{name}.png", seen)
    (sequence / "extra.json").write_text(json.dumps({"fps": 60, "factor": 2}))
    (sequence / "scene.json").write_text(
        json.dumps({"center": [5, 5, 5], "scale": 0.1, "near": 0.1, "far": 1})
    )
    return tmp_path / "iphone"


def test_dycheck_divides_the_lens_by_the_factor_and_pairs_moments(dycheck: Path) -> None:
    clips = opened(dycheck, "dycheck")
    assert list(clips) == ["spin/camera0", "spin/camera1"]
    (carried, source), (fixed, other) = clips.values()
    assert (carried.fps, carried.frames, fixed.frames) == ("60", 4, 2)
    for view, camera in ((source, 0), (other, 1)):
        u, v, z = pixel(view, 1, [0.5, 0, 2])
        assert (u, v, z) == (18 + 40 * (0.5 - camera) / 2, 24, 2)
        assert brightest(next(iter(view.frames()))) == (int(u) + 0.5, int(v) + 0.5)
    depth = source.depth(1, 3)
    assert depth is not None
    assert depth[:, 5, 5].tolist() == [3, 4] and depth[:, 0, 0].tolist() == [0, 0]
    assert other.depth() is None
    assert isinstance(other, ViewSource)
    covisible = other.covisible()
    assert covisible is not None and covisible.mean() == 0.25 and covisible[:, :, :9].all()
    assert paired_frames(carried, fixed).tolist() == [[1, 0], [3, 1]]
    assert source.truth(*source.cameras(), np.arange(4), 48, 36) is None  # type: ignore[misc, call-arg]


def test_views_that_share_no_scene_are_not_paired(dycheck: Path, kubric: Path) -> None:
    spin, scene = opened(dycheck, "dycheck"), opened(kubric)
    with pytest.raises(
        ClipError, match=r"'spin/camera0' and 'scn00007/frames_p0_v0' are not views of one scene"
    ):
        paired_frames(spin["spin/camera0"][0], scene["scn00007/frames_p0_v0"][0])


def test_a_camera_file_that_is_broken_after_the_scan_names_the_clip(dycheck: Path) -> None:
    clip = opened(dycheck, "dycheck")["spin/camera0"][0]
    (dycheck / "spin" / "camera" / "0_00002.json").write_text("{")
    with pytest.raises(ClipError, match=r"clip 'spin/camera0': cameras .*0_00002\.json.*replace it"):
        open_clip(clip)
