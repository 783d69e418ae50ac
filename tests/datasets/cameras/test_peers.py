"""Files of Vista4D, NeoVerse, PostCam and InSpatio-World lead where their own words say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden_cameras import project, proper, turned

from recapture.datasets.cameras.angles import read_angles, write_angles
from recapture.datasets.cameras.cameras import CameraFileError, rigid
from recapture.datasets.cameras.files import convert_cameras, load_cameras
from recapture.models.geometry.cameras import camera_centres, default_intrinsics
from recapture.models.geometry.trajectories import keyframe_path

LENS = [[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]


def test_vista4d_is_camera_to_world_with_four_numbers_per_lens(tmp_path: Path) -> None:
    # 1 to the right, turned 90 degrees to the left: what is 3 to its left is straight ahead
    pose = rigid(turned("y", -90), np.array([1.0, 0, 0]))
    uri = str(tmp_path / "cameras.npz")
    np.savez(uri, cam_c2w=np.stack([np.eye(4), pose]), intrinsics=np.array([[100.0, 110, 50, 40]] * 2))
    cameras = load_cameras(uri)
    proper(cameras.world_to_camera)
    assert cameras.intrinsics is not None and cameras.intrinsics[1, 1, 1] == 110
    seen = project(cameras.intrinsics[1], cameras.world_to_camera[1], [-2, 0, 0])
    np.testing.assert_allclose(seen, [50, 40, 3], atol=1e-9)
    np.savez(uri, cam_c2w=np.eye(4)[None])
    with pytest.raises(CameraFileError, match="it has no intrinsics"):
        load_cameras(uri, "vista4d")


def neoverse(tmp_path: Path, **fields: object) -> str:
    (tmp_path / "n.json").write_text(json.dumps({"num_frames": 5, **fields}))
    return str(tmp_path / "n.json")


def last(tmp_path: Path, *operations: dict[str, dict[str, float]]) -> np.ndarray:
    """The last camera to world of operations from rest."""
    keys = [{"0": [{"static": {}}]}, {"4": list(operations)}]
    return np.asarray(np.linalg.inv(load_cameras(neoverse(tmp_path, keyframes=keys)).world_to_camera[-1]))


@pytest.mark.parametrize(
    ("operation", "centre", "ahead"),
    [
        ({"pan_right": {"angle": 90}}, [0, 0, 0], [1, 0, 0]),
        ({"pan_left": {"angle": 90}}, [0, 0, 0], [-1, 0, 0]),
        ({"tilt_up": {"angle": 90}}, [0, 0, 0], [0, -1, 0]),
        ({"tilt_down": {"angle": 90}}, [0, 0, 0], [0, 1, 0]),
        ({"move_right": {"distance": 2}}, [2, 0, 0], [0, 0, 1]),
        ({"move_left": {"distance": 2}}, [-2, 0, 0], [0, 0, 1]),
        ({"boom_up": {"distance": 2}}, [0, -2, 0], [0, 0, 1]),
        ({"boom_down": {"distance": 2}}, [0, 2, 0], [0, 0, 1]),
        ({"push_in": {"distance": 2}}, [0, 0, 2], [0, 0, 1]),
        ({"pull_out": {"distance": 2}}, [0, 0, -2], [0, 0, 1]),
        ({"orbit_right": {"angle": 90, "orbit_radius": 3}}, [3, 0, 3], [-1, 0, 0]),
        ({"orbit_left": {"angle": 90, "orbit_radius": 3}}, [-3, 0, 3], [1, 0, 0]),
        ({"static": {}}, [0, 0, 0], [0, 0, 1]),
    ],
)
def test_every_operation_of_neoverse_goes_its_way(
    tmp_path: Path, operation: dict[str, dict[str, float]], centre: list[float], ahead: list[float]
) -> None:
    pose = last(tmp_path, operation)
    np.testing.assert_allclose(pose[:3, 3], centre, atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], ahead, atol=1e-12)


def test_operations_of_neoverse_accumulate_in_their_order_and_are_interpolated(tmp_path: Path) -> None:
    pose = last(tmp_path, {"pan_left": {"angle": 90}}, {"push_in": {"distance": 1}})
    np.testing.assert_allclose(pose[:3, 3], [-1, 0, 0], atol=1e-12)  # forward, in the turned frame
    keys = [{"0": []}, {"2": [{"move_right": {"distance": 1}}]}, {"4": [{"move_right": {"distance": 2}}]}]
    cameras = load_cameras(neoverse(tmp_path, keyframes=keys))
    np.testing.assert_allclose(-cameras.world_to_camera[:, 0, 3], [0, 0.5, 1, 2, 3])
    assert cameras.offsets


def test_sparse_matrices_of_neoverse_may_be_beside_it_and_global(tmp_path: Path) -> None:
    poses = np.stack([np.eye(4), rigid(turned("y", 90), np.array([0.0, 0, 2]))])
    np.savez(tmp_path / "sparse.npz", frame_indices=np.array([0, 4]), frame_matrices=poses)
    cameras = load_cameras(neoverse(tmp_path, mode="global", trajectory={"file": "sparse.npz"}))
    assert not cameras.offsets
    middle = np.linalg.inv(cameras.world_to_camera[2])
    np.testing.assert_allclose(middle, rigid(turned("y", 45), np.array([0.0, 0, 1])), atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keyframes": [{"0": [{"fly": {}}]}, {"4": []}]}, "operation 'fly' is unknown"),
        ({"keyframes": [{"0": []}, {"3": []}]}, "from frame 0 to 3, and num_frames is 5"),
        ({"keyframes": [{"0": []}, {"4": []}], "zoom_ratio": 2}, "zoom_ratio is 2; use keyframes with focal"),
        ({"keyframes": [{"0": []}, {"4": []}], "mode": "far"}, "mode is 'far'"),
        ({"trajectory": {"frame_indices": [0], "frame_matrices": [np.eye(4).tolist()]}}, "give two or more"),
    ],
)
def test_a_neoverse_file_that_cannot_be_used_says_why(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(CameraFileError, match=message):
        load_cameras(neoverse(tmp_path, **fields), "neoverse")


def sphere(x_up: float, y_left: float, q: float) -> np.ndarray:
    """Where PostCam's and InSpatio's camera is, with their foreground at distance 1."""
    up, left = np.radians(x_up), np.radians(y_left)
    return q * np.array([-np.cos(up) * np.sin(left), -np.sin(up), 1 - np.cos(up) * np.cos(left)])


@pytest.mark.parametrize("dialect", ["postcam", "inspatio"])
@pytest.mark.parametrize(
    ("lines", "scale", "expected"),
    [
        ("0 30\n0 0\n1 1", 1.0, sphere(30, 0, 1)),
        ("0 0\n0 30\n1 1", 1.0, sphere(0, 30, 1)),
        ("0 -20\n0 -30\n1 1", 1.0, sphere(-20, -30, 1)),
        ("0 10\n0 30\n0.5 0.5", 1.0, sphere(10, 30, 0.5)),
        ("0 10\n0 30\n1 1", 0.5, sphere(10, 30, 0.5)),
        ("0 0\n0 0\n0 0.75", 1.0, np.array([0, 0, 0.75])),
        ("0 0\n0 0\n0 0.75", 0.5, np.array([0, 0, 0.375])),
    ],
)
def test_three_lines_of_postcam_raise_swing_left_and_travel_by_its_own_formula(
    tmp_path: Path, dialect: str, lines: str, scale: float, expected: np.ndarray
) -> None:
    (tmp_path / "t.txt").write_text(lines)
    parts = read_angles(str(tmp_path / "t.txt"), dialect).scaled(scale).at_frames(2)
    keys = [{"at": float(t)} | {name: float(values[t]) for name, values in parts.items()} for t in range(2)]
    lens = default_intrinsics(8, 8).double().repeat(2, 1, 1)
    made = keyframe_path(keys, lens, torch.eye(4).double().repeat(2, 1, 1), 4.0, interpolation="linear")
    np.testing.assert_allclose(camera_centres(made.world_to_camera)[-1] / 4.0, expected, atol=1e-12)


def test_postcam_becomes_other_lines_where_they_can_say_it(tmp_path: Path) -> None:
    first, second = str(tmp_path / "a.txt"), str(tmp_path / "b.txt")
    (tmp_path / "a.txt").write_text("0 10\n0 30\n1 1\n")
    convert_cameras(first, second, source_format="postcam", target_format="theta_phi_r")
    assert Path(second).read_text() == "0 10\n0 -30\n0\n"
    convert_cameras(second, first, source_format="theta_phi_r", target_format="inspatio")
    assert read_angles(first, "postcam").phi == (0, -30)
    (tmp_path / "a.txt").write_text("0 10\n0 30\n0.5 0.5\n")
    with pytest.raises(CameraFileError, match="cannot turn about another point than the pivot"):
        convert_cameras(first, second, source_format="postcam", target_format="viewcrafter")
    write_angles(first, read_angles(second, "theta_phi_r"), "viewcrafter")
    (tmp_path / "b.txt").write_text("0 10\n0 30\n0 0.5\n")
    with pytest.raises(CameraFileError, match="postcam cannot turn and approach in one path"):
        convert_cameras(second, first, source_format="theta_phi_r", target_format="postcam")
