import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from recapture.datasets.cameras.cameras import CameraFileError
from recapture.datasets.cameras.files import read_cameras, write_cameras


def path(frames: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(frames, 3, 3, generator=generator, dtype=torch.float64)).Q
    pose = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    pose[:, :3, :3] = rotation * torch.linalg.det(rotation)[:, None, None]
    pose[:, :3, 3] = torch.randn(frames, 3, generator=generator, dtype=torch.float64)
    intrinsics = torch.tensor([[100.0, 0, 64], [0, 101, 48], [0, 0, 1]], dtype=torch.float64)
    return pose, intrinsics.repeat(frames, 1, 1)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("root", ["local", "memory"])
def test_what_is_written_is_read_back_exactly(tmp_path: Path, suffix: str, root: str) -> None:
    uri = str(tmp_path / f"c{suffix}") if root == "local" else f"memory://cameras/c{suffix}"
    pose, intrinsics = path()
    write_cameras(uri, pose, intrinsics)
    read_pose, read_intrinsics = read_cameras(uri)
    assert read_intrinsics is not None
    assert torch.equal(read_pose, pose) and torch.equal(read_intrinsics, intrinsics)
    write_cameras(uri, pose)
    assert read_cameras(uri)[1] is None


def test_files_written_by_hand_are_read(tmp_path: Path) -> None:
    pose, intrinsics = path(2)
    text = {"convention": "opencv", "world_to_camera": pose.tolist(), "intrinsics": intrinsics[0].tolist()}
    (tmp_path / "c.json").write_text(json.dumps(text))
    read_pose, read_intrinsics = read_cameras(str(tmp_path / "c.json"))
    assert read_pose.dtype == torch.float64
    assert read_intrinsics is not None
    assert torch.equal(read_pose, pose) and torch.equal(read_intrinsics, intrinsics)
    np.savez(tmp_path / "c.npz", world_to_camera=pose.float().numpy())
    torch.testing.assert_close(read_cameras(str(tmp_path / "c.npz"))[0], pose, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"convention": "directx"}, "'directx'.*convert"),
        ({"world_to_camera": None}, r"world_to_camera is \[\], it must be \[T,4,4\]"),
        ({"camera_to_world": np.eye(4)[None].tolist()}, "exactly one of world_to_camera"),
        ({"world_to_camera": [[1, 2], [3]]}, "regular array"),
        ({"world_to_camera": np.eye(3)[None].tolist()}, r"is \[1, 3, 3\], it must be \[T,4,4\]"),
        ({"world_to_camera": []}, r"is \[0\]"),
        ({"world_to_camera": np.full((2, 4, 4), np.nan).tolist()}, r"not finite in frames \[0, 1\]"),
        ({"world_to_camera": (np.eye(4) + np.eye(4)[3:].T).T[None].tolist()}, "last row.*transposed"),
        ({"intrinsics": np.eye(3)[None].repeat(3, 0).tolist()}, "3 intrinsics for 2"),
        ({"intrinsics": [[1, 2, 3]]}, r"intrinsics is \[1, 3\]"),
        (
            {"intrinsics": np.diag([-5.0, 5, 1]).tolist()},
            r"focal length of frame 0 is \[-5.0, 5.0\].*positive",
        ),
        ({"world_to_camera": [np.diag([1.0, 1, -1, 1]).tolist()] * 2}, "frame 0 is left-handed.*convert"),
        ({"world_to_camera": [np.diag([2.0, 2, 2, 1]).tolist()]}, "frame 0 is not orthonormal .*3.*take"),
        ({"size": [0, 4]}, "size is 0x4"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_the_value(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    fields: dict[str, object] = {"world_to_camera": np.eye(4)[None].repeat(2, 0).tolist()} | change
    uri = tmp_path / "c.json"
    uri.write_text(json.dumps(fields))
    with pytest.raises(CameraFileError, match=rf"c\.json.*{reason}"):
        read_cameras(str(uri))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("c.txt", b"0 0 0", r"'\.txt' does not identify the dialect; name the format: opencv, realestate10k"),
        ("c.json", b"", "cannot be read as json"),
        ("c.json", b"{", "cannot be read as json"),
        ("c.json", b"[1]", "not a JSON object"),
        ("c.json", b"{}", "it has nothing.*world_to_camera"),
        ("c.npz", b"", "cannot be read as npz"),
        ("c.npz", b"PK\x03\x04 and no more", "cannot be read as npz"),
        ("absent.json", None, "no such file"),
    ],
)
def test_a_broken_or_missing_file_is_named(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CameraFileError, match=f"{name}.*{reason}"):
        read_cameras(str(tmp_path / name))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_pickle_in_an_npz_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("c.npz", world_to_camera=np.array([Evil()], dtype=object))
    with pytest.raises(CameraFileError, match=r"c\.npz"):
        read_cameras("c.npz")
    assert [child.name for child in tmp_path.iterdir()] == ["c.npz"]
