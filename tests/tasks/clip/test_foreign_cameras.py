"""Paths of other programs and other clips: every frame has its own pose, in the right axes and unit."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from support.bare_job import configure, run_bare

from recapture.conf.errors import UserError
from recapture.conf.schema import TrajectoryConfig
from recapture.datasets.media.video import write_video
from recapture.datasets.store.store import ArtifactStore
from recapture.models.geometry.cameras import camera_centres, rigid
from recapture.models.geometry.cameras import rotation_degrees as turn
from recapture.tasks.clip.camera_path import Source, camera_path
from recapture.tasks.clip.trajectory_file import find_trajectory_file
from recapture.tasks.jobs.job import preview_stages

PIVOT = 4.0
LENS_60 = np.array([[60 / 36 * 96, 0, 48], [0, 60 / 36 * 96, 24], [0, 0, 1]])  # 60 mm, 96x48 pixels


def source(world_to_camera, width=96, height=48):
    """A clip at its own size."""
    frames = len(world_to_camera)
    lens = torch.from_numpy(LENS_60).repeat(frames, 1, 1)
    return Source(lens, world_to_camera, True, (width, height), (width, height), frames, 0, Fraction(25))


def still(frames):
    return source(torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1))


def drive(frames=81):
    """A camera that drives forward, half a unit per frame, on a road that winds."""
    turns = turn("y", 12 * torch.sin(torch.linspace(0, 6, frames, dtype=torch.float64)))
    centres = torch.stack(
        [0 * torch.arange(frames), 0 * torch.arange(frames), 0.5 * torch.arange(frames)], -1
    )
    return rigid(turns, -(turns @ centres.double()[..., None])[..., 0])


def path(clip, **settings):
    trajectory = TrajectoryConfig(**settings)
    return camera_path(trajectory, find_trajectory_file(trajectory), clip, PIVOT, "clip@path")


@pytest.mark.parametrize("mode", ["gradual", "direct"])
def test_left_of_a_forward_drive_is_left_of_every_frame_and_turns_nowhere(mode):
    clip = source(drive())
    made = path(clip, preset="left", distance=0.2, mode=mode).world_to_camera
    share = torch.linspace(0, 1, 81).double() if mode == "gradual" else torch.ones(81).double()
    for t in range(81):
        offset = torch.eye(4, dtype=torch.float64)
        offset[0, 3] = 0.2 * PIVOT * share[t]  # a camera further left sees everything further right
        torch.testing.assert_close(made[t], offset @ clip.world_to_camera[t], rtol=0, atol=1e-6)
    torch.testing.assert_close(made[:, :3, :3], clip.world_to_camera[:, :3, :3], rtol=0, atol=1e-12)


def test_multicamvideo_has_a_pose_of_its_own_for_each_of_81_frames_in_metres(tmp_path):
    """One pose in four, or centimetres taken for metres, would be another drive."""
    frames = {}
    for t in range(81):  # Unreal: x forward, in centimetres; yaw of t degrees, forward towards right
        y = np.radians(t)
        rows = [
            [np.cos(y), np.sin(y), 0, 0],
            [-np.sin(y), np.cos(y), 0, 0],
            [0, 0, 1, 0],
            [100.0 * t, 0, 0, 1],
        ]
        frames[f"frame{t}"] = {
            "cam01": "".join("[" + " ".join(map(repr, map(float, r))) + "] " for r in rows)
        }
    (tmp_path / "camera_extrinsics.json").write_text(json.dumps(frames))
    made = path(still(81), file=str(tmp_path / "camera_extrinsics.json")).world_to_camera
    centres = camera_centres(made)
    expected = torch.stack([torch.zeros(81), torch.zeros(81), torch.arange(81.0)], -1).double()
    torch.testing.assert_close(centres, expected, rtol=0, atol=1e-9)
    to_right = made[:, 2, :3]  # the direction of view, in the first camera's axes
    angle = torch.deg2rad(torch.arange(81.0).double())
    torch.testing.assert_close(
        to_right, torch.stack([angle.sin(), 0 * angle, angle.cos()], -1), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("relative_to", ["source", "first", "world"])
def test_a_scale_multiplies_the_distances_of_a_file_and_nothing_else(tmp_path, relative_to):
    motion = rigid(
        turn("y", torch.linspace(0, 9, 5).double()), torch.linspace(0, 1, 15).reshape(5, 3).double()
    )
    np.savez(tmp_path / "c.npz", world_to_camera=motion.numpy(), intrinsics=LENS_60)
    once, twice = (
        path(still(5), file=str(tmp_path / "c.npz"), relative_to=relative_to, scale=scale)
        for scale in (1.0, 2.0)
    )
    torch.testing.assert_close(
        camera_centres(twice.world_to_camera), 2 * camera_centres(once.world_to_camera)
    )
    torch.testing.assert_close(twice.world_to_camera[:, :3, :3], once.world_to_camera[:, :3, :3])
    torch.testing.assert_close(twice.intrinsics, once.intrinsics)


def write_clip(folder, frames, poses, lens):
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (frames, 48, 96, 3), dtype=np.uint8)
    write_video(folder / "walk.mp4", iter(pictures), Fraction(25))
    np.savez(folder / "walk.cameras.npz", world_to_camera=poses, intrinsics=lens)
    np.savez(folder / "walk.depth.npz", depth=np.full((frames, 48, 96), 4.0, dtype=np.float32))
    return folder


def test_a_path_of_50_frames_fits_a_clip_of_80_only_where_it_is_stretched(tmp_path):
    poses = np.broadcast_to(np.eye(4), (50, 4, 4)).copy()
    poses[:, 0, 3] = -(np.arange(50) ** 2) / 49.0  # it speeds up to the right
    of = {"file": str(write_clip(tmp_path / "clips", 50, poses, LENS_60)), "file_format": "clip"}
    with pytest.raises(
        ValueError, match=r"has 50 cameras for 80 frames; give one per frame, or set fit_length"
    ):
        path(still(80), **of)
    centres = camera_centres(path(still(80), **of, fit_length=True).world_to_camera)
    at = np.linspace(0, 49, 80)
    expected = np.interp(at, np.arange(50), np.arange(50) ** 2 / 49.0)
    assert centres.shape == (80, 3) and abs(float(centres[-1, 0]) - 49.0) < 1e-9
    np.testing.assert_allclose(centres[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(centres[:, 1:], 0, atol=1e-9)


def test_a_clip_filmed_with_a_long_lens_is_filmed_again_with_that_lens(tmp_path):
    """60 mm is 33 degrees wide; a fixed focal length of 500 pixels would be another lens."""
    clips = write_clip(tmp_path / "clips", 5, np.broadcast_to(np.eye(4), (5, 4, 4)), LENS_60)
    moves = "[{preset: left}, {preset: orbit_right}, {preset: static}]"
    config = configure(
        tmp_path, "--dataset.uri", str(clips), "--trajectories", moves, "--ingest.short_side", "24"
    )
    outcomes = run_bare(config, preview_stages(config))
    renders = [outcome for outcome in outcomes["render"] if outcome.status == "ok"]
    assert len(renders) == 3
    for outcome in renders:
        cameras = ArtifactStore(config.store).open("render", outcome.key).read_npz("cameras.npz")
        scaled = np.diag([0.5, 0.5, 1.0]) @ LENS_60  # from 96x48 to 48x24
        np.testing.assert_allclose(cameras["intrinsics"], np.broadcast_to(scaled, (5, 3, 3)), atol=1e-9)


def test_the_vertical_angle_of_a_nerfstudio_file_is_its_vertical_focal_length(tmp_path):
    """Square pixels are assumed only where nothing else is stated."""
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    fields = {"camera_angle_x": 1.0, "camera_angle_y": 0.4, "w": 100, "h": 50, "frames": [frame] * 5}
    (tmp_path / "transforms.json").write_text(json.dumps(fields))
    clip = source(torch.eye(4, dtype=torch.float64).repeat(5, 1, 1), 100, 50)
    lens = path(clip, file=str(tmp_path / "transforms.json"), relative_to="world").intrinsics[0]
    np.testing.assert_allclose([lens[0, 0], lens[1, 1]], [50 / np.tan(0.5), 25 / np.tan(0.2)], rtol=1e-12)


@pytest.mark.parametrize("name", ["distortion", "k1"])
def test_a_distorted_lens_in_a_file_of_matrices_is_refused_and_not_dropped(tmp_path, name):
    fields = {"world_to_camera": [np.eye(4).tolist()] * 5, name: [0.1] if name == "distortion" else 0.1}
    (tmp_path / "c.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=rf"it has {name}, and matrices cannot express a distorted lens"):
        path(still(5), file=str(tmp_path / "c.json"))
