"""Cameras of estimators and of recordings, each as its specification words it: a point falls on its pixel."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.golden_cameras import project, proper, turned

from recapture.datasets.cameras.cameras import CameraFileError
from recapture.datasets.cameras.files import convert_cameras, load_cameras, read_cameras

LENS = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
QUARTER = np.sqrt(0.5)  # a quaternion's entries of a turn by 90 degrees


def second() -> np.ndarray:
    """camera_to_world of a camera 2 to the right that looks along the world's +x."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned("y", 90), [2.0, 0, 0]
    return pose


def test_tum_is_camera_to_world_with_the_quaternions_w_last(tmp_path: Path) -> None:
    # The second camera is 2 to the right, turned about y so that it looks along +x.
    (tmp_path / "a.txt").write_text(
        f"# time tx ty tz qx qy qz qw\n0.2 2 0 0 0 {QUARTER} 0 {QUARTER}\n0.1 0 0 0 0 0 0 1\n"
    )
    found = load_cameras(str(tmp_path / "a.txt"), "tum")
    proper(found.world_to_camera)
    assert found.names == ("0.1", "0.2") and found.intrinsics is None
    np.testing.assert_allclose(found.world_to_camera[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(found.world_to_camera[1] @ [5, 0, 0, 1], [0, 0, 3, 1], atol=1e-12)
    np.testing.assert_allclose(found.world_to_camera[1] @ [2, 1, -1, 1], [1, 1, 0, 1], atol=1e-12)


def test_record3d_has_opengl_axes_and_its_lens_column_by_column(tmp_path: Path) -> None:
    fields = {
        "w": 100,
        "h": 80,
        "K": LENS.T.ravel().tolist(),
        "poses": [[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 2, 1, 0, 0]],
    }
    (tmp_path / "metadata.json").write_text(json.dumps(fields))
    pose, lens = read_cameras(str(tmp_path / "metadata.json"), size=(200, 160))
    proper(pose.numpy())
    assert lens is not None
    # ARKit's camera looks along -z with y up: 2 ahead, 0.2 up, in pictures twice as large
    np.testing.assert_allclose(project(lens[0], pose[0], [0, 0.2, -2]), [100, 60, 2], atol=1e-9)
    np.testing.assert_allclose(project(lens[1], pose[1], [1, 0, -2]), [100, 80, 2], atol=1e-9)
    each = fields | {"perFrameIntrinsicCoeffs": [[100, 100, 50, 40], [200, 200, 50, 40]]}
    (tmp_path / "metadata.json").write_text(json.dumps(each))
    found = load_cameras(str(tmp_path / "metadata.json"), "record3d")
    assert found.intrinsics is not None and found.intrinsics[1, 0, 0] == 200 and found.size == (100, 80)


def test_vipe_is_camera_to_world_with_a_row_of_the_lens_per_frame(tmp_path: Path) -> None:
    for folder in ("pose", "intrinsics"):
        (tmp_path / folder).mkdir()
    np.savez(tmp_path / "pose/a.npz", data=np.stack([second(), np.eye(4)]), inds=[1, 0])
    np.savez(tmp_path / "intrinsics/a.npz", data=[[100, 100, 50, 40], [200, 200, 50, 40]], inds=[0, 1])
    found = load_cameras(str(tmp_path / "pose/a.npz"), "vipe")
    proper(found.world_to_camera)
    assert found.intrinsics is not None and found.intrinsics[:, 0, 0].tolist() == [100, 200]
    np.testing.assert_allclose(found.world_to_camera[1] @ [5, 0, 0, 1], [0, 0, 3, 1], atol=1e-12)
    convert_cameras(
        str(tmp_path / "pose/a.npz"),
        str(tmp_path / "b/pose/a.npz"),
        source_format="vipe",
        target_format="vipe",
    )
    with np.load(tmp_path / "b/intrinsics/a.npz") as lens, np.load(tmp_path / "b/pose/a.npz") as pose:
        np.testing.assert_allclose(pose["data"], [np.eye(4), second()], atol=1e-12)
        assert lens["data"].tolist() == [[100, 100, 50, 40], [200, 200, 50, 40]]
        assert pose["inds"].tolist() == lens["inds"].tolist() == [0, 1]
    (tmp_path / "intrinsics/a.npz").unlink()
    assert load_cameras(str(tmp_path / "pose/a.npz"), "vipe").intrinsics is None
    np.savez(tmp_path / "pose/b.npz", data=np.stack([np.eye(4), second()]), inds=[0, 5])
    with pytest.raises(CameraFileError, match=r"b\.npz.*skips frames after 0"):
        load_cameras(str(tmp_path / "pose/b.npz"), "vipe")


@pytest.mark.parametrize(
    "arrays",
    [
        {"cam_c2w": np.stack([np.eye(4), second()]), "intrinsic": LENS, "images": np.zeros((2, 80, 100, 3))},
        {"cam_c2w": np.stack([np.eye(4), second()]), "intrinsics": np.stack([LENS, LENS]), "size": [100, 80]},
        {
            "extrinsic": np.linalg.inv(np.stack([np.eye(4), second()]))[None, :, :3],
            "intrinsic": np.stack([LENS, LENS])[None],
            "images": np.zeros((1, 2, 3, 80, 100)),
        },
        {
            "extrinsics": np.linalg.inv(np.stack([np.eye(4), second()]))[:, :3],
            "intrinsics": np.stack([LENS, LENS]),
            "depth": np.zeros((2, 80, 100)),
        },
    ],
    ids=["MegaSaM", "Vista4D", "VGGT", "Depth Anything 3"],
)
def test_what_estimators_write_is_read_by_its_names(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    pose, lens = read_cameras(str(tmp_path / "a.npz"), size=(200, 160))
    assert lens is not None
    np.testing.assert_allclose(project(lens[0], pose[0], [0.2, 0, 2]), [120, 80, 2], atol=1e-9)
    np.testing.assert_allclose(project(lens[1], pose[1], [5, 0, 0]), [100, 80, 3], atol=1e-9)


def test_they_become_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n")
    convert_cameras(str(tmp_path / "a.txt"), str(tmp_path / "clip.cameras.npz"), source_format="tum")
    pose, lens = read_cameras(str(tmp_path / "clip.cameras.npz"))
    assert pose[1, 0, 3] == -1 and lens is None


@pytest.mark.parametrize(
    ("dialect", "name", "content", "said"),
    [
        ("tum", "a.txt", "1 2 3\n", "frame 0 has 3 numbers"),
        ("tum", "a.txt", "# nothing\n", "no line for any frame"),
        ("tum", "a.txt", "0 0 0 0 0 0 0 0\n", "quaternion of frame 0 is 0"),
        ("record3d", "a.json", '{"poses": [[1, 2]], "K": []}', r"poses is \[1, 2\]"),
        ("vipe", "a.npz", "no npz", "cannot be read as ViPE"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, dialect: str, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CameraFileError, match=said):
        load_cameras(str(tmp_path / name), dialect)
