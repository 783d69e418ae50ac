"""`recapture cameras convert`: the same cameras in every dialect; a mistake is one message."""

import sys
from typing import get_args

import pytest
import torch

from recapture.conf.trajectory import CameraFormat
from recapture.datasets.cameras.files import (
    ANGLE_FORMATS,
    WRITABLE,
    read_cameras,
    write_cameras,
)
from recapture.flows.cli import main
from recapture.flows.commands import cameras as cli_cameras

SUFFIX = {
    "opencv": ".json",
    "realestate10k": ".txt",
    "nerfstudio": ".json",
    "colmap": "",
    "colmap_binary": "",
}
SIZE = (64, 48)


def run(monkeypatch, *words):
    """Return the exit code of `recapture cameras convert`."""
    monkeypatch.setattr(sys, "argv", ["recapture", "cameras", "convert", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0


def path(frames=4):
    generator = torch.Generator().manual_seed(7)
    turn = torch.linalg.qr(torch.randn(frames, 3, 3, generator=generator, dtype=torch.float64)).Q
    pose = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    pose[:, :3, :3] = turn * torch.linalg.det(turn)[:, None, None]
    pose[:, :3, 3] = torch.randn(frames, 3, generator=generator, dtype=torch.float64)
    lens = torch.tensor([[60.0, 0, 31], [0, 61, 25], [0, 0, 1]], dtype=torch.float64)
    return pose, lens.repeat(frames, 1, 1)


@pytest.mark.parametrize(("source", "target"), [("realestate10k", "nerfstudio"), ("colmap_binary", "colmap")])
def test_cameras_come_through_any_pair_of_dialects(tmp_path, monkeypatch, capsys, source, target):
    pose, lens = path()
    begun, ended = tmp_path / f"a{SUFFIX[source]}", tmp_path / f"b{SUFFIX[target]}"
    write_cameras(str(begun), pose, lens, size=SIZE, dialect=source)
    read_as = {"colmap_binary": "colmap"}
    words = ["--from", read_as.get(source, source), "--to", target, "--size", "64x48"]
    assert run(monkeypatch, begun, ended, *words) == 0
    assert capsys.readouterr().out == f"{ended}: {target}\n"
    found, found_lens = read_cameras(str(ended), read_as.get(target, target), size=SIZE)
    torch.testing.assert_close(found, pose, rtol=0, atol=1e-9)
    torch.testing.assert_close(found_lens, lens, rtol=0, atol=1e-9)


def test_the_dialect_of_a_source_is_told_by_its_keys_and_the_target_is_opencv(tmp_path, monkeypatch):
    pose, lens = path()
    write_cameras(str(tmp_path / "transforms.json"), pose, lens, size=SIZE, dialect="nerfstudio")
    assert run(monkeypatch, tmp_path / "transforms.json", tmp_path / "b.npz") == 0
    torch.testing.assert_close(read_cameras(str(tmp_path / "b.npz"))[0], pose, rtol=0, atol=1e-9)


def test_one_camera_of_several_is_taken(tmp_path, monkeypatch, capsys):
    pose, _ = path()
    several = tmp_path / "camera_extrinsics.json"
    write_cameras(str(several), pose, dialect="multicamvideo", camera="cam05")
    assert run(monkeypatch, several, tmp_path / "b.npz", "--camera", "cam05") == 0
    torch.testing.assert_close(read_cameras(str(tmp_path / "b.npz"))[0], pose, rtol=0, atol=1e-6)
    assert run(monkeypatch, several, tmp_path / "c.npz", "--camera", "cam99") == 2
    assert "cam99" in capsys.readouterr().err
    assert not (tmp_path / "c.npz").exists()


def test_angles_change_their_order_and_signs(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("0 10\n0 -20\n0 0.3\n")
    words = ["--from", "theta_phi_r", "--to", "viewcrafter"]
    assert run(monkeypatch, tmp_path / "a.txt", tmp_path / "b.txt", *words) == 0
    lines = [list(map(float, line.split())) for line in (tmp_path / "b.txt").read_text().splitlines()]
    assert lines == [[0, -20], [0, -10], [0, -0.3]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.npz", "b.npz"], "absent.npz"),
        (["a.txt", "b.npz"], "suffix '.txt' does not identify the dialect; name the format"),
        (["a.txt", "b.npz", "--from", "theta_phi_r"], "theta_phi_r cannot become opencv"),
        (["a.txt", "b.npz", "--from", "realestate10k"], "a.txt"),
        (
            ["a.json", "b.json", "--to", "dycheck"],
            "format 'dycheck' is unknown here; use opencv, realestate10k",
        ),
        (["a.json", "b.json", "--from", "blender"], "format 'blender' is unknown here; use auto, opencv"),
        (["a.json", "b.txt", "--to", "realestate10k"], "give width and height"),
        (["a.json", "b.json", "--size", "64*48"], "--size 64*48: write WIDTHxHEIGHT"),
        (["a.json", "b.json", "--size", "0x48"], "--size 0x48: write WIDTHxHEIGHT"),
        (["a.json", "b.json", "--camera", "cam01"], "files of opencv hold one camera; leave out 'cam01'"),
        (["a.json", "a.txt/b.json"], "a.txt"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("0 10\n0 -20\n0 0.3\n")
    write_cameras("a.json", *path())
    assert run(monkeypatch, *words) == 2
    said = capsys.readouterr()
    assert message in said.err and "Traceback" not in said.err and said.out == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.txt"]


def test_the_help_names_every_dialect():
    readable = [*get_args(CameraFormat), *ANGLE_FORMATS]
    assert cli_cameras.FROM_HELP.partition(".")[0].split(", ") == readable
    assert cli_cameras.TO_HELP.rstrip(".").split(", ") == [*WRITABLE, *ANGLE_FORMATS]
