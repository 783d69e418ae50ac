"""What is read can be written, and comes back as it was."""

from pathlib import Path

import numpy as np
import pytest

from recapture.datasets.cameras.angles import ANGLE_FORMATS, SCALED, Angles, read_angles, write_angles
from recapture.datasets.cameras.cameras import CameraFileError, Cameras, intrinsics_for, pinhole, rigid
from recapture.datasets.cameras.files import (
    WRITABLE,
    camera_file_hash,
    convert_cameras,
    load_cameras,
    store_cameras,
)

NAMES = {
    "opencv": "c.npz",
    "realestate10k": "c.txt",
    "multicamvideo": "c.json",
    "colmap": "model",
    "colmap_binary": "model.bin",
    "nerfstudio": "transforms.json",
    "vista4d": "v.npz",
    "neoverse": "n.json",
    "vipe": "pose/v.npz",
}
NO_LENS = ("multicamvideo", "neoverse")
LENSLESS_TARGETS = (*NO_LENS, "opencv")
READ_AS = {"colmap_binary": "colmap"}


def path(frames: int = 12, distortion: np.ndarray | None = None, fisheye: bool = False) -> Cameras:
    random = np.random.default_rng(0)
    rotation = np.linalg.qr(random.normal(size=(frames, 3, 3)))[0]
    rotation *= np.linalg.det(rotation)[:, None, None]
    zoom = np.stack([pinhole(300 + i, 310 + i, 320.5, 179) for i in range(frames)])
    pose = rigid(rotation, random.normal(size=(frames, 3)))
    return Cameras(pose, zoom, (640, 360), None, distortion, fisheye)


@pytest.mark.parametrize("root", ["local", "memory"])
@pytest.mark.parametrize("dialect", WRITABLE)
def test_every_dialect_gives_back_what_was_written(tmp_path: Path, dialect: str, root: str) -> None:
    folder = str(tmp_path) if root == "local" else "memory://conversion"
    uri, own = f"{folder}/{NAMES[dialect]}", path()
    store_cameras(uri, own, dialect)
    back = load_cameras(uri, READ_AS.get(dialect, dialect))
    np.testing.assert_allclose(back.world_to_camera, own.world_to_camera, atol=1e-12)
    lens = intrinsics_for(back, 640, 360)
    if dialect in NO_LENS:
        assert lens is None
    else:
        assert lens is not None and own.intrinsics is not None
        np.testing.assert_allclose(lens, own.intrinsics, rtol=1e-12)


@pytest.mark.parametrize(
    "dialect",
    ["opencv", "multicamvideo", "nerfstudio", "colmap", "colmap_binary", "vista4d", "neoverse"],
)
def test_auto_knows_every_dialect_but_text(tmp_path: Path, dialect: str) -> None:
    uri = str(tmp_path / NAMES[dialect])
    store_cameras(uri, path(), dialect)
    np.testing.assert_allclose(load_cameras(uri).world_to_camera, path().world_to_camera, atol=1e-12)


@pytest.mark.parametrize("first", WRITABLE)
@pytest.mark.parametrize("second", WRITABLE)
def test_any_dialect_becomes_any_other(tmp_path: Path, first: str, second: str) -> None:
    start, end = str(tmp_path / NAMES[first]), str(tmp_path / "to" / NAMES[second])
    store_cameras(start, path(), first)
    source_format = READ_AS.get(first, first)
    if first in NO_LENS and second not in LENSLESS_TARGETS:
        with pytest.raises(CameraFileError, match="needs intrinsics; add them"):
            convert_cameras(start, end, source_format=source_format, target_format=second)
        return
    size = (640, 360) if first in ("opencv", "realestate10k", "vista4d", "vipe") else None
    convert_cameras(start, end, source_format=source_format, target_format=second, size=size)
    back = load_cameras(end, READ_AS.get(second, second))
    np.testing.assert_allclose(back.world_to_camera, path().world_to_camera, atol=1e-12)
    if not {first, second} & set(NO_LENS):
        lens, expected = intrinsics_for(back, 640, 360), path().intrinsics
        assert lens is not None and expected is not None
        np.testing.assert_allclose(lens, expected, rtol=1e-12)


@pytest.mark.parametrize("dialect", ["nerfstudio", "colmap", "colmap_binary"])
@pytest.mark.parametrize(
    ("terms", "fisheye"), [([0.1, -0.02, 0.003, 0.004], False), ([0.1, -0.02, 0.003, 0.004], True)]
)
def test_a_distorted_lens_is_kept(tmp_path: Path, dialect: str, terms: list[float], fisheye: bool) -> None:
    uri = str(tmp_path / NAMES[dialect])
    store_cameras(uri, path(2, np.array([terms] * 2), fisheye), dialect)
    back = load_cameras(uri, READ_AS.get(dialect, dialect))
    assert back.distortion is not None and back.fisheye == fisheye
    np.testing.assert_allclose(back.distortion[:, :4], [terms] * 2)


def test_a_dialect_that_cannot_say_something_refuses_it(tmp_path: Path) -> None:
    distorted = path(2, np.full((2, 4), 0.1))
    for dialect in ("opencv", "realestate10k", "multicamvideo"):
        with pytest.raises(CameraFileError, match="cannot express a distorted lens; write colmap"):
            store_cameras(str(tmp_path / NAMES[dialect]), distorted, dialect)
    with pytest.raises(CameraFileError, match="needs the pictures' size; give width and height"):
        store_cameras(str(tmp_path / "m"), Cameras(path().world_to_camera, path().intrinsics), "colmap")
    with pytest.raises(CameraFileError, match="'kubric' cannot be written; use opencv"):
        store_cameras(str(tmp_path / "k.json"), path(), "kubric")
    with pytest.raises(CameraFileError, match=r"v\.npz.*name a target pose/NAME\.npz"):
        store_cameras(str(tmp_path / "v.npz"), path(), "vipe")
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_the_three_lines_is_declared_and_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("0 10\n0 30\n0 0.1 0.2\n")
    uri = str(tmp_path / "t.txt")
    assert read_angles(uri, "theta_phi_r") == Angles((0, 10), (0, 30), (0, 0.1, 0.2))
    assert read_angles(uri, "phi_theta_r") == Angles((0, 30), (0, 10), (0, 0.1, 0.2))
    # ViewCrafter: +theta moves the camera down, -r forward; here +theta lifts, +r approaches.
    assert read_angles(uri, "viewcrafter") == Angles((0, -30), (0, 10), (0, -0.1, -0.2))
    with pytest.raises(
        CameraFileError, match=r"'\.txt' does not identify the dialect; name the format.*theta_phi_r"
    ):
        load_cameras(uri)


APPROACHING = [dialect for dialect in ANGLE_FORMATS if dialect not in SCALED]


@pytest.mark.parametrize("first", APPROACHING)
@pytest.mark.parametrize("second", APPROACHING)
def test_three_line_files_become_one_another(tmp_path: Path, first: str, second: str) -> None:
    own = Angles((0.0, 5.0, 1 / 3), (0.0, -20.0), (0.0, 0.1, 0.2, 0.3))
    write_angles(str(tmp_path / "a.txt"), own, first)
    convert_cameras(
        str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), source_format=first, target_format=second
    )
    assert read_angles(str(tmp_path / "b.txt"), second) == own
    with pytest.raises(CameraFileError, match="pivot whose depth only a clip knows; preview"):
        convert_cameras(str(tmp_path / "a.txt"), str(tmp_path / "b.npz"), source_format=first)


def test_up_to_three_values_are_joined_by_lines_and_more_are_all_met() -> None:
    angles = Angles((0.0, 10.0, 0.0), (30.0,), (0.0, 0.3, 0.1, 0.2, 0.0))
    at = angles.at_frames(9)
    np.testing.assert_allclose(at["theta"], [0, 2.5, 5, 7.5, 10, 7.5, 5, 2.5, 0])
    np.testing.assert_allclose(at["phi"], 30)
    np.testing.assert_allclose(at["r"][::2], [0, 0.3, 0.1, 0.2, 0])
    assert at["r"].max() <= 0.3 and at["r"].min() >= 0
    assert {name: values.shape for name, values in angles.at_frames(1).items()} == dict.fromkeys(
        ("theta", "phi", "r"), (1,)
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"0 1\n0 2", "has 2 lines with numbers, theta_phi_r has three: theta, phi, r"),
        (b"0 1\n0 2\n0 3\n0 4", "has 4 lines"),
        (b"", "has 0 lines"),
        (b"0 up\n0 2\n0 3", "theta has 'up'; write finite numbers"),
        (b"0 1\n0 nan\n0 3", "phi has 'nan'"),
        (b"0 1\n0 2\n0 inf", "r has 'inf'"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_a_three_line_file_that_is_none_is_named_with_the_value(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(CameraFileError, match=rf"t\.txt'.*{reason}"):
        read_angles(str(tmp_path / "t.txt"), "theta_phi_r")


def test_the_hash_of_a_model_follows_its_cameras(tmp_path: Path) -> None:
    uri = str(tmp_path / "model")
    store_cameras(uri, path(), "colmap")
    first = camera_file_hash(uri)
    (tmp_path / "model" / "points3D.txt").write_text("7 1 2 3 0 0 0 0\n")
    assert camera_file_hash(uri) == first
    store_cameras(uri, path(5), "colmap")
    assert camera_file_hash(uri) != first
