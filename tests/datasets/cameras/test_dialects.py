"""Each dialect as its specification words it: a known point must fall on a known pixel."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from support.golden_cameras import project, proper, turned

from recapture.datasets.cameras.cameras import CameraFileError
from recapture.datasets.cameras.files import load_cameras, read_cameras
from recapture.datasets.cameras.kubric import ray_to_z_depth
from recapture.datasets.cameras.multicamvideo import focal_pixels


def test_realestate10k_is_world_to_camera_with_normalised_intrinsics(tmp_path: Path) -> None:
    # The second camera stands 1 to the right of the first and is turned 90 degrees to the left.
    rotation = turned("y", 90)
    translation = -rotation @ [1.0, 0, 0]
    rows = [
        "https://www.youtube.com/watch?v=abc",
        "1000 0.5 0.8 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0",
        "2000 0.5 0.8 0.5 0.5 0 0 "
        + " ".join(f"{v:.9f}" for v in np.column_stack([rotation, translation]).ravel()),
    ]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    pose, intrinsics = read_cameras(str(tmp_path / "a.txt"), "realestate10k", size=(200, 100))
    assert intrinsics is not None
    # 2 ahead and 0.4 right of the first: u = 100 + 0.5*200*0.4/2, v = 50 + 0.8*100*(-0.1)/2
    np.testing.assert_allclose(project(intrinsics[0], pose[0], [0.4, -0.1, 2]), [120, 46, 2], atol=1e-6)
    # 3 to the left of the second lies on its axis.
    np.testing.assert_allclose(project(intrinsics[1], pose[1], [-2, 0, 0]), [100, 50, 3], atol=1e-6)
    proper(pose.numpy())
    assert load_cameras(str(tmp_path / "a.txt"), "realestate10k").names == ("1000", "2000")
    with pytest.raises(CameraFileError, match=r"a\.txt.*normalised; give a size"):
        read_cameras(str(tmp_path / "a.txt"), "realestate10k")


def unreal(location: list[float], yaw: float, pitch: float) -> str:
    """A camera of Unreal as the dataset writes it: x forward, y right, z up, left-handed; rows are its axes.

    Positive yaw turns forward towards right, positive pitch turns forward up.
    """
    y, p = np.radians(yaw), np.radians(pitch)
    forward = [np.cos(p) * np.cos(y), np.cos(p) * np.sin(y), np.sin(p)]
    right = [-np.sin(y), np.cos(y), 0.0]
    up = [-np.sin(p) * np.cos(y), -np.sin(p) * np.sin(y), np.cos(p)]
    rows = [[*forward, 0], [*right, 0], [*up, 0], [*location, 1]]
    return "".join("[" + " ".join(f"{value:.10f}" for value in row) + "] " for row in rows)


def test_multicamvideo_is_left_handed_and_in_centimetres(tmp_path: Path) -> None:
    places = [([100.0, 200, 150], 0.0, 0.0), ([100.0, 300, 150], 90.0, 0.0), ([100.0, 200, 350], 0.0, -45.0)]
    frames = {
        f"frame{i}": {"cam01": unreal([0, 0, 0], 5, 0), "cam02": unreal(*p)} for i, p in enumerate(places)
    }
    (tmp_path / "c.json").write_text(json.dumps(frames))
    cameras = load_cameras(str(tmp_path / "c.json"), camera="cam02")
    proper(cameras.world_to_camera)
    focal = focal_pixels(24, 1280)
    assert focal == pytest.approx(1292.93, abs=0.01)
    lens = np.array([[focal, 0, 640], [0, focal, 640], [0, 0, 1]])

    def seen(frame: int, x: float, y: float, z: float) -> np.ndarray:
        # Unreal's point in centimetres; the mirrored world has -y, in metres.
        return project(lens, cameras.world_to_camera[frame], [x / 100, -y / 100, z / 100])

    # 500 cm ahead, 100 cm to the right, 50 cm up: right is +u, up is -v.
    expected = [640 + focal * 100 / 500, 640 - focal * 50 / 500, 5]
    np.testing.assert_allclose(seen(0, 600, 300, 200), expected, atol=1e-5)
    # Turned right by 90 degrees, forward is Unreal's +y and its right -x.
    np.testing.assert_allclose(seen(1, 0, 800, 150), [640 + focal * 100 / 500, 640, 5], atol=1e-5)
    # Pitched down by 45 degrees, it looks at what is as far ahead as below.
    np.testing.assert_allclose(seen(2, 300, 200, 150), [640, 640, np.sqrt(8)], atol=1e-5)


def test_relative_multicamvideo_poses_are_those_of_the_published_conversion(tmp_path: Path) -> None:
    # inv(c2w_0) c2w_i of parse(s).T with columns 1 2 0 3, the second negated, and centimetres to metres.
    strings = [unreal([10.0 * i, 5.0 * i, 3.0 * i], 7.0 * i, -4.0 * i) for i in range(4)]
    (tmp_path / "c.json").write_text(json.dumps({f"frame{i}": {"cam01": s} for i, s in enumerate(strings)}))
    to_world = []
    for text in strings:
        rows = text.strip().replace("[", "").split("]")[:4]
        matrix = np.array([[float(v) for v in row.split()] for row in rows]).T[:, [1, 2, 0, 3]]
        matrix[:3, 1] *= -1
        matrix[:3, 3] /= 100
        to_world.append(matrix)
    assert np.linalg.det(to_world[1][:3, :3]) == pytest.approx(-1)
    ours = load_cameras(str(tmp_path / "c.json")).world_to_camera
    for index in range(4):
        published = np.linalg.inv(to_world[0]) @ to_world[index]
        np.testing.assert_allclose(ours[0] @ np.linalg.inv(ours[index]), published, atol=1e-8)


def test_nerfstudio_is_camera_to_world_with_y_up_and_z_backward(tmp_path: Path) -> None:
    # World z is up. The camera stands at (0, -4, 1) and looks along +y: its backward axis is -y.
    to_world = [[1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]]
    frames = [
        {"file_path": "images/frame_10.png", "transform_matrix": np.eye(4).tolist(), "fl_x": 50},
        {"file_path": "images/frame_9.png", "transform_matrix": to_world},
    ]
    fields = {"w": 200, "h": 100, "fl_x": 100, "fl_y": 100, "cx": 100, "cy": 50, "frames": frames}
    (tmp_path / "transforms.json").write_text(
        json.dumps(fields | {"applied_transform": np.eye(4)[:3].tolist()})
    )
    cameras = load_cameras(str(tmp_path / "transforms.json"))
    assert cameras.names == ("images/frame_9.png", "images/frame_10.png")
    assert cameras.intrinsics is not None and cameras.intrinsics[:, 0, 0].tolist() == [100, 50]
    # 4 ahead at the camera's height, 1 right and 0.5 up.
    seen = project(cameras.intrinsics[0], cameras.world_to_camera[0], [1, 0, 1.5])
    np.testing.assert_allclose(seen, [125, 37.5, 4], atol=1e-9)
    proper(cameras.world_to_camera)
    half, _ = read_cameras(str(tmp_path / "transforms.json"), size=(100, 50))
    lens = read_cameras(str(tmp_path / "transforms.json"), size=(100, 50))[1]
    assert lens is not None
    np.testing.assert_allclose(project(lens[0], half[0], [1, 0, 1.5]), np.array([62.5, 18.75, 4]), atol=1e-9)


def colmap_text(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(
        "# Camera list\n1 PINHOLE 200 100 100 110 100 50\n2 SIMPLE_RADIAL 200 100 90 100 50 0.1\n"
    )
    # (w x y z) of 90 degrees about y; the picture 9 has no points: its second line is empty.
    half = np.sqrt(0.5)
    (folder / "images.txt").write_text(
        f"# Image list\n2 {half} 0 {half} 0 0 0 3 1 frame_10.jpg\n1.5 2.5 7 3.5 4.5 -1\n"
        "1 1 0 0 0 0.5 0 0 1 frame 9.jpg\n\n"
    )


def colmap_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "cameras.bin").write_bytes(
        struct.pack("<Q", 1) + struct.pack("<iiQQ", 1, 1, 200, 100) + struct.pack("<4d", 100, 110, 100, 50)
    )
    half = np.sqrt(0.5)
    (folder / "images.bin").write_bytes(
        struct.pack("<Q", 2)
        + struct.pack("<i7di", 2, half, 0, half, 0, 0, 0, 3, 1)
        + b"frame_10.jpg\0"
        + struct.pack("<Q", 2)
        + struct.pack("<ddqddq", 1.5, 2.5, 7, 3.5, 4.5, -1)
        + struct.pack("<i7di", 1, 1, 0, 0, 0, 0.5, 0, 0, 1)
        + b"frame 9.jpg\0"
        + struct.pack("<Q", 0)
    )


@pytest.mark.parametrize("write", [colmap_text, colmap_binary])
@pytest.mark.parametrize("below", ["", "sparse/0"])
def test_colmap_is_world_to_camera_with_scalar_first_quaternions(tmp_path: Path, write, below: str) -> None:
    write(tmp_path / "project" / below)
    cameras = load_cameras(str(tmp_path / "project"))
    assert cameras.names == ("frame 9.jpg", "frame_10.jpg")
    assert cameras.size == (200, 100) and cameras.intrinsics is not None and cameras.distortion is None
    # The first camera's world is moved by 0.5 to the right.
    seen = project(cameras.intrinsics[0], cameras.world_to_camera[0], [0.5, 0.2, 2])
    np.testing.assert_allclose(seen, [150, 61, 2], atol=1e-9)
    # 90 degrees about y bring x to -z and z to x: what lay 1 to the left is 1 + 3 ahead.
    seen = project(cameras.intrinsics[1], cameras.world_to_camera[1], [-1, 0, 0.4])
    np.testing.assert_allclose(seen, [110, 50, 4], atol=1e-9)


def test_kubric_looks_along_minus_z_and_has_shares_of_either_sign(tmp_path: Path) -> None:
    # World z is up; the camera at (0, -10, 1) looks along +y: 90 degrees about x turn -z to y.
    half = float(np.sqrt(0.5))
    fields = {
        "scene": {"resolution": [576, 384], "num_frames": 2},
        "camera": {
            "K": [[1.09375, 0, -0.5], [0, -1.640625, -0.5], [0, 0, -1]],
            "positions": [[0, -10, 1]] * 2,
            "quaternions": [[half, half, 0, 0]] * 2,
        },
    }
    (tmp_path / "scn00000_p0_v4.json").write_text(json.dumps(fields))
    cameras = load_cameras(str(tmp_path / "scn00000_p0_v4.json"))
    assert cameras.intrinsics is not None
    np.testing.assert_allclose(cameras.intrinsics[0], [[630, 0, 288], [0, 630, 192], [0, 0, 1]])
    seen = project(cameras.intrinsics[0], cameras.world_to_camera[0], [1, 0, 2])
    np.testing.assert_allclose(seen, [288 + 63, 192 - 63, 10], atol=1e-9)
    proper(cameras.world_to_camera)


def test_distances_along_rays_become_z_depth_exactly() -> None:
    lens = np.array([[50.0, 0, 40], [0, 60, 30], [0, 0, 1]])
    v, u = np.mgrid[:60, :80] + 0.5
    rays = np.stack([(u - 40) / 50, (v - 30) / 60, np.ones_like(u)], axis=-1)
    depth = 3 + 0.01 * u  # any surface
    distance = np.linalg.norm(rays * depth[..., None], axis=-1)
    assert np.abs(distance - depth).max() > 0.5
    np.testing.assert_allclose(ray_to_z_depth(distance, lens), depth, rtol=1e-12)


def test_dycheck_has_the_rotation_of_world_to_camera_and_the_centre(tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    # The camera at (2, 0, 0) looks along world -x: its rows are right = z, down = y, forward = -x.
    orientation = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    fields = {
        "focal_length": 800.0,
        "principal_point": [360.0, 480.0],
        "image_size": [720, 960],
        "orientation": orientation,
        "position": [2.0, 0, 0],
        "skew": 0.0,
        "pixel_aspect_ratio": 1.0,
        "radial_distortion": [0.0, 0.0, 0.0],
        "tangential_distortion": [0.0, 0.0],
    }
    for name in ("0_00000", "0_00010", "0_00002", "1_00000"):
        (folder / f"{name}.json").write_text(json.dumps(fields))
    cameras = load_cameras(str(folder))
    assert cameras.names == ("0_00000", "0_00002", "0_00010")
    assert cameras.intrinsics is not None and cameras.size == (720, 960) and cameras.distortion is None
    seen = project(cameras.intrinsics[0], cameras.world_to_camera[0], [-2, -0.5, 1])
    np.testing.assert_allclose(seen, [360 + 200, 480 - 100, 4], atol=1e-9)
    assert len(load_cameras(str(folder), "dycheck", "1")) == 1


def test_opengl_axes_and_camera_to_world_are_converted_where_they_are_declared(tmp_path: Path) -> None:
    to_world = np.eye(4)
    to_world[:3, 3] = [0, 0, 5]  # looks along -z from 5: the origin is 5 ahead, up is +y
    np.savez(tmp_path / "c.npz", camera_to_world=to_world[None], convention="opengl")
    pose = read_cameras(str(tmp_path / "c.npz"))[0][0].numpy()
    np.testing.assert_allclose(pose @ [0, 1, 0, 1], [0, -1, 5, 1], atol=1e-12)
    np.savez(tmp_path / "d.npz", world_to_camera=np.linalg.inv(to_world)[None], convention="opengl")
    np.testing.assert_allclose(read_cameras(str(tmp_path / "d.npz"))[0][0].numpy(), pose, atol=1e-12)


IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"


@pytest.mark.parametrize(
    ("dialect", "name", "content", "reason"),
    [
        ("realestate10k", "a.txt", "url\n1 .5 .5 .5 .5 0 0 1 0 0", "frame 0 has 10 numbers, it must have 19"),
        ("realestate10k", "a.txt", "", "no line for any frame"),
        ("realestate10k", "a.txt", f"url\n1 .5 .5 .5 .5 0 0 {IDENTITY[:-1]}nan", "not finite in frames .0."),
        ("realestate10k", "a.txt", f"url\n1 .5 .5 .5 .5 0 0 -{IDENTITY}", "frame 0 is left-handed"),
        (
            "realestate10k",
            "a.txt",
            f"url\n1 .5 .5 .5 .5 0 0 2{IDENTITY[1:]}",
            "frame 0 is not orthonormal .off by 3",
        ),
        ("multicamvideo", "a.json", '{"frame0": {"cam01": "[1 0 0 0]"}}', "frame0 of cam01 is .1, 4."),
        ("multicamvideo", "a.json", '{"frame0": {"a": "", "b": ""}}', "has the cameras a, b, name one"),
        ("nerfstudio", "a.json", '{"frames": []}', "no list 'frames'"),
        (
            "nerfstudio",
            "a.json",
            '{"frames": [{"file_path": "a", "transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}',
            "neither fl_x",
        ),
        (
            "nerfstudio",
            "a.json",
            '{"camera_model": "EQUIRECTANGULAR", "frames": [{"file_path": "a"}]}',
            "EQUIRECT",
        ),
        ("kubric", "a.json", '{"camera": {}}', "KeyError: 'scene'"),
        ("colmap", "a.txt", "x", "no COLMAP model"),
        ("dycheck", "a.txt", "x", "in a folder"),
        ("opengl", "a.txt", "x", "format 'opengl' is unknown; use auto, opencv"),
    ],
)
def test_a_broken_file_is_one_error_that_names_it_and_the_value(
    tmp_path: Path, dialect: str, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CameraFileError, match=f"{name}'.*{reason}"):
        load_cameras(str(tmp_path / name), dialect)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_binary_model_cut_short_is_noticed_wherever_it_ends(tmp_path: Path, name: str) -> None:
    colmap_binary(tmp_path / "m")
    content = (tmp_path / "m" / name).read_bytes()
    for length in range(0, len(content), max(1, len(content) // 10)):
        (tmp_path / "m" / name).write_bytes(content[:length])
        with pytest.raises(CameraFileError, match=r"cannot be read as a COLMAP model.*ends early"):
            load_cameras(str(tmp_path / "m"))
