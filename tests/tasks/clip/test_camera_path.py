"""Configured trajectories on a clip: every dialect leads where it says; errors name item, file and value."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from recapture.conf.errors import UserError
from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.cameras.angles import Angles, write_angles
from recapture.datasets.cameras.cameras import Cameras
from recapture.datasets.cameras.files import store_cameras
from recapture.datasets.readers.scan import open_clip, scan
from recapture.models.geometry.cameras import camera_centres, default_intrinsics, invert_rigid, rigid
from recapture.models.geometry.cameras import rotation_degrees as turn
from recapture.tasks.clip.camera_path import Source, camera_path, trajectory_identity
from recapture.tasks.clip.trajectory_file import find_trajectory_file

FRAMES, PIVOT = 5, 4.0


def moving(frames=FRAMES):
    rotation = turn("y", torch.linspace(0, 8, frames))
    return rigid(rotation, torch.stack([torch.linspace(0, 1, frames)] * 3, -1).double())


def other(frames=FRAMES):
    """Another camera, elsewhere in its own world: 0.5 to its right and 3 degrees a frame, zooming in."""
    start = rigid(turn("x", 70.0), torch.tensor([9.0, 8, 7]).double())
    steps = torch.arange(float(frames))
    motion = rigid(turn("y", 3.0 * steps), torch.stack([-0.5 * steps, 0 * steps, 0 * steps], -1).double())
    lens = default_intrinsics(90, 160).double().repeat(frames, 1, 1)
    lens[:, [0, 1], [0, 1]] *= 1 + 0.1 * steps[:, None]
    return Cameras((motion @ start).numpy(), lens.numpy(), (160, 90)), motion


@pytest.fixture
def source():
    """A clip of 192x96 at a working size of 64x32, of which frames 2 to 6 of 9 are worked on."""
    lens = default_intrinsics(32, 64).double().repeat(FRAMES, 1, 1)
    return Source(lens, moving(), True, (64, 32), (192, 96), 9, 2, Fraction(10))


def path(source, **settings):
    trajectory = TrajectoryConfig(**settings)
    return camera_path(trajectory, find_trajectory_file(trajectory), source, PIVOT, "bmx@path")


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("realestate10k", "c.txt"),
        ("multicamvideo", "c.json"),
        ("colmap", "model"),
        ("nerfstudio", "transforms.json"),
    ],
)
def test_a_foreign_path_is_made_from_the_sources_first_camera_on(tmp_path, source, dialect, name):
    cameras, motion = other()
    store_cameras(str(tmp_path / name), cameras, dialect)
    made = path(source, file=str(tmp_path / name), file_format=dialect)
    torch.testing.assert_close(made.world_to_camera, motion @ source.world_to_camera[0])
    focal = source.intrinsics[0, 0, 0]
    zoom = 1 + 0.1 * torch.arange(5.0) if dialect != "multicamvideo" else torch.ones(5)
    torch.testing.assert_close(made.intrinsics[:, 0, 0], focal * zoom.double())
    twice = path(source, file=str(tmp_path / name), file_format=dialect, scale=2.0)
    travelled = [
        (camera_centres(one.world_to_camera) - camera_centres(one.world_to_camera)[0]).norm(dim=1)
        for one in (made, twice)
    ]
    torch.testing.assert_close(travelled[1], 2 * travelled[0])


def test_matrices_are_offsets_from_the_source_or_cameras_of_its_world(tmp_path, source):
    offsets = rigid(turn("x", torch.linspace(0, 5, FRAMES)), torch.zeros(FRAMES, 3).double())
    lens = default_intrinsics(96, 192).double().repeat(FRAMES, 1, 1)  # in the clip's own pixels
    store_cameras(str(tmp_path / "c.npz"), Cameras(offsets.numpy(), lens.numpy()), "opencv")
    relative = path(source, file=str(tmp_path / "c.npz"))
    torch.testing.assert_close(relative.world_to_camera, offsets @ source.world_to_camera)
    torch.testing.assert_close(relative.intrinsics, source.intrinsics)
    world = path(source, file=str(tmp_path / "c.npz"), relative_to="world")
    torch.testing.assert_close(world.world_to_camera, offsets)


def test_what_a_job_writes_is_the_same_path_when_it_is_read(tmp_path, source):
    first = path(source, preset="dolly_zoom_in", distance=0.3)
    np.savez(
        tmp_path / "cameras.npz",
        intrinsics=first.intrinsics.numpy(),
        world_to_camera=first.world_to_camera.numpy(),
        source_frame=first.source_frame.numpy(),
        size=np.array(source.content),
    )
    again = path(source, file=str(tmp_path / "cameras.npz"), relative_to="world")
    torch.testing.assert_close(again.intrinsics, first.intrinsics)
    torch.testing.assert_close(again.world_to_camera, first.world_to_camera)


def test_a_path_for_the_whole_clip_is_cut_and_any_other_length_is_stretched_when_asked(tmp_path, source):
    for frames in (9, 17, 4):
        cameras, _ = other(frames)
        store_cameras(str(tmp_path / f"{frames}.json"), cameras, "nerfstudio")
    whole = path(source, file=str(tmp_path / "9.json"), relative_to="world")
    np.testing.assert_allclose(whole.world_to_camera, other(9)[0].world_to_camera[2:7], atol=1e-9)
    stretched = path(source, file=str(tmp_path / "17.json"), relative_to="world", fit_length=True)
    np.testing.assert_allclose(stretched.world_to_camera, other(17)[0].world_to_camera[::4], atol=1e-9)
    with pytest.raises(ValueError, match=r"bmx@path: .*4\.json' has 4 cameras for 5 frames.*set fit_length"):
        path(source, file=str(tmp_path / "4.json"))


@pytest.mark.parametrize("dialect", ["theta_phi_r", "phi_theta_r", "viewcrafter"])
def test_three_lines_lift_swing_and_approach_in_every_order(tmp_path, source, dialect):
    still = Source(source.intrinsics, torch.eye(4).double().repeat(FRAMES, 1, 1), *_rest(source))
    uri = str(tmp_path / "t.txt")
    for angles, check in (
        (Angles((0, 20), (0,), (0,)), lambda c: c[1] < -1 and abs(c[0]) < 1e-9),  # up is -y
        (Angles((0,), (0, 20), (0,)), lambda c: c[0] > 1 and abs(c[1]) < 1e-9),  # right is +x
        (Angles((0,), (0,), (0, 0.25)), lambda c: abs(c[2] - 1.0) < 1e-9),  # a quarter of the pivot's depth
    ):
        write_angles(uri, angles, dialect)
        made = path(still, file=uri, file_format=dialect)
        centres = camera_centres(made.world_to_camera)
        assert centres[0].norm() < 1e-9 and check(centres[-1])
    bullet = path(still, file=uri, file_format=dialect, mode="bullet_time", freeze_frame=1)
    assert bullet.source_frame.tolist() == [1] * FRAMES


def test_a_line_of_one_value_a_frame_is_taken_frame_by_frame(tmp_path, source):
    write_angles(str(tmp_path / "t.txt"), Angles((0, 3, 1, 2, 0), (0, 10), (0,)), "theta_phi_r")
    made = path(source, file=str(tmp_path / "t.txt"), file_format="theta_phi_r")
    keys = [
        {"at": i / 4, "theta": theta, "phi": 2.5 * i} for i, theta in enumerate((0.0, 3.0, 1.0, 2.0, 0.0))
    ]
    expected = path(source, keyframes=keys, interpolation="linear")
    torch.testing.assert_close(made.world_to_camera, expected.world_to_camera)


def test_another_clips_cameras_are_taken_over_whatever_its_layout(source):
    uri = "scenes://?count=2&seed=3&frames=5&height=32&width=64&camera=moving"
    made = path(source, file=uri, file_format="clip", file_camera="scene-000004")
    taken = torch.from_numpy(open_clip(scan(uri)[0][1]).cameras()[1])
    for frame in range(FRAMES):
        torch.testing.assert_close(
            made.world_to_camera[frame] @ invert_rigid(source.world_to_camera[0]),
            taken[frame] @ invert_rigid(taken[0]),
        )
    with pytest.raises(ValueError, match=r"names 2 clips .*scene-000003, scene-000004.*name one"):
        path(source, file=uri, file_format="clip")


def test_the_sources_own_path_is_steadied_only_where_it_is_known(source):
    shaken = source.world_to_camera.clone()
    shaken[2, 0, 3] += 0.5
    known = Source(source.intrinsics, shaken, *_rest(source))
    steady = path(known, stabilise_seconds=0.3)
    raw, calm = (
        camera_centres(cameras).diff(n=2, dim=0).norm() for cameras in (shaken, steady.world_to_camera)
    )
    assert calm < 0.3 * raw
    assert torch.equal(steady.intrinsics, source.intrinsics)
    unknown = Source(source.intrinsics, shaken, False, *_rest(source)[1:])
    with pytest.raises(ValueError, match=r"bmx@path: .*has no cameras.*provide cameras"):
        path(unknown, stabilise_seconds=0.3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.__setitem__((2, 0, 3), float("nan")), r"not finite in frames \[2\]"),
        (lambda m: m.__setitem__((1, slice(3), 0), -m[1, :3, 0]), "frame 1 is left-handed"),
        (lambda m: m.__setitem__((3, slice(3), slice(3)), 2 * m[3, :3, :3]), "frame 3 is not orthonormal"),
        (lambda m: m.__setitem__(slice(None), m.transpose(0, 2, 1).copy()), "is it transposed"),
    ],
)
def test_a_bad_file_is_one_error_that_names_item_file_and_value(tmp_path, source, change, reason):
    matrices = moving().numpy()
    change(matrices)
    (tmp_path / "c.json").write_text(json.dumps({"world_to_camera": matrices.tolist()}))
    with pytest.raises(ValueError, match=rf"^trajectory 'c': .*c\.json.*cannot be used .*{reason}"):
        path(source, file=str(tmp_path / "c.json"))


def identity_of(file, **settings):
    trajectory = TrajectoryConfig(file=str(file), **settings)
    return trajectory_identity(trajectory, find_trajectory_file(trajectory))


def test_the_identity_follows_the_files_content_and_not_its_place(tmp_path):
    cameras, _ = other()
    store_cameras(str(tmp_path / "a" / "model"), cameras, "colmap")
    store_cameras(str(tmp_path / "b" / "model"), cameras, "colmap")
    first = identity_of(tmp_path / "a" / "model")
    assert identity_of(tmp_path / "b" / "model") == first
    store_cameras(str(tmp_path / "b" / "model"), other(4)[0], "colmap")
    assert identity_of(tmp_path / "b" / "model") != first
    with pytest.raises(UserError, match=r"trajectory 'gone': file .*gone\.json' cannot be used.*check"):
        identity_of(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"file": "a.json", "preset": "static"}, "exactly one of preset, keyframes, file, stabilise_seconds"),
        ({"file": "a.json", "mode": "bullet_time"}, "file fixes every camera; mode 'bullet_time'"),
        ({"stabilise_seconds": 1.0, "mode": "direct"}, "stabilise_seconds fixes every camera"),
        ({"preset": "static", "fit_length": True}, "fit_length is for a trajectory file.*set file"),
        (
            {"file": "a.txt", "file_format": "viewcrafter", "scale": 2.0},
            "scale does not apply to viewcrafter",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        TrajectoryConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"file": "s3://b/paths/crane.json"}, "crane"),
        ({"file": "scenes://?count=1", "file_format": "clip"}, "count_1"),
        ({"stabilise_seconds": 0.5}, "stabilise_0.5"),
    ],
)
def test_the_label_is_fit_for_a_file_name(settings, label):
    assert TrajectoryConfig(**settings).label == label


def _rest(source):
    return (
        source.cameras_known,
        source.content,
        source.clip_size,
        source.clip_frames,
        source.first_frame,
        source.fps,
    )


def test_a_clip_without_cameras_has_no_world_in_which_a_path_could_be(tmp_path, source):
    """Its poses are all the identity: a path of a world would have been taken for one of this clip's."""
    offsets = rigid(turn("x", torch.linspace(0, 5, FRAMES)), torch.zeros(FRAMES, 3).double())
    store_cameras(str(tmp_path / "c.npz"), Cameras(offsets.numpy()), "opencv")
    eye = torch.eye(4).double().expand(FRAMES, 4, 4)
    unknown = Source(source.intrinsics, eye, False, *_rest(source)[1:])
    for relative_to in ("source", "first"):
        found = path(unknown, file=str(tmp_path / "c.npz"), relative_to=relative_to)
        torch.testing.assert_close(found.world_to_camera, offsets)
    with pytest.raises(ValueError, match=r"bmx@path.*has none; provide cameras, or use relative_to first"):
        path(unknown, file=str(tmp_path / "c.npz"), relative_to="world")
