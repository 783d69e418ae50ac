"""The studio without its viewer, against a job's own render, closed forms, and what other tools read back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from support.bare_job import configure, run_bare

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.conf.trajectory import ANGLE_DIALECTS
from recapture.datasets.cameras.files import WRITABLE
from recapture.datasets.store.store import ArtifactStore
from recapture.models.geometry.rasterize import render
from recapture.models.geometry.trajectories import keyframe_path, pose_offset
from recapture.tasks.clip.frames_to_video import to_frames, to_video
from recapture.tasks.clip.scene_reader import read_frames
from recapture.tasks.jobs.job import preview_stages
from recapture.tasks.jobs.render import surface_settings
from recapture.tasks.studio.export import DIALECTS, angles_of, default_target, export
from recapture.tasks.studio.key_pose import pose_of
from recapture.tasks.studio.session import StudioSession

MOVES = (
    "[{preset: orbit_left, amount: auto}, {keyframes: [{at: 0}, {at: 1, x: 0.2, pan: -9}], easing: smooth}, \
{preset: right, distance: 0.3, time: {mode: reverse}}]"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return configure(tmp_path_factory.mktemp("studio"), "--trajectories", MOVES)


@pytest.fixture(scope="module")
def opened(settings):
    return StudioSession.open(settings)


@pytest.fixture
def session(settings, opened):
    """A session of the same clip, without moves."""
    fresh = StudioSession.__new__(StudioSession)
    fresh.__dict__.update(opened.__dict__)
    fresh.kept = {}
    fresh.set_preset("static")
    return fresh


@pytest.fixture(scope="module")
def rendered(settings, opened):
    """Trajectory -> the artifact of the stage render of a preview; it reuses what the studio has made."""
    made = run_bare(settings, preview_stages(settings)[:4])
    assert [one.status for one in made["depth"] if one.clip_id == opened.clip] == ["reused"]
    store = ArtifactStore(settings.store)
    found = [one for one in made["render"] if one.clip_id == opened.clip]
    return [(move, one, store.open("render", one.key)) for move, one in zip(settings.trajectories, found)]


def test_pictures_holes_and_amounts_are_those_of_the_jobs_own_render(session, rendered):
    assert len(rendered) == 3
    for move, outcome, artifact in rendered:
        session.set(move)
        stored = read_frames(artifact, np.arange(session.frames))
        seen = [session.frame(at) for at in range(session.frames)]
        np.testing.assert_array_equal(np.stack([one.rgb for one in seen]), stored["rgb"])
        np.testing.assert_array_equal(np.stack([one.visible for one in seen]), stored["visible"])
        shares = artifact.read_npz("per_frame.npz")["hole_share"]
        assert np.array(list(session.hole_shares())).tobytes() == shares.tobytes()
        assert dict(session.metrics) == {name: outcome.metrics[name] for name in session.metrics}
    session.set_preset("orbit_left", 5)
    assert session.safe_amount() == rendered[0][1].metrics["amount"]


def test_a_smaller_picture_is_the_render_of_every_second_pixel(session):
    session.set_preset("orbit_right", 15)
    seen = session.frame(4, side=16)
    assert seen.step == 2 and seen.rgb.shape == (16, 24, 3)
    inputs, source, path = session._inputs, session.source, session.path
    read = read_frames(inputs["ingest"], np.array([4])) | read_frames(inputs["depth"], np.array([4]))
    halved = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]], dtype=torch.float64)
    # Pixel i of the half is pixel 2 i + 1, its centre at 2 i + 1.5: u' = (u - 1.5) / 2 + 0.5 = u / 2 - 0.25.
    surface = surface_settings(session._stage.config)
    twin = render(
        to_video(np.ascontiguousarray(read["rgb"][:, 1::2, 1::2])),
        torch.from_numpy(np.ascontiguousarray(read["depth"][:, 1::2, 1::2])),
        (halved @ source.intrinsics[4:5].double()).float(),
        source.world_to_camera[4:5].double(),
        (halved @ path.intrinsics[4:5]).float(),
        path.world_to_camera[4:5],
        surface=replace(surface, break_ratio=2 * surface.break_ratio),
        known=torch.from_numpy(np.ascontiguousarray(read["known"][:, 1::2, 1::2])),
    )
    np.testing.assert_array_equal(seen.rgb, to_frames(twin.video)[0])
    assert seen.hole_share == 1 - twin.visible.double().mean().item()
    assert abs(seen.hole_share - session.frame(4).hole_share) < 0.1  # of 16 rows


def test_a_camera_placed_by_hand_becomes_the_key_frame_that_gives_this_camera(session):
    pose = {"x": 0.2, "y": -0.1, "z": 0.3, "pan": 12.0, "tilt": -7.0, "roll": 4.0}
    offset = pose_offset({name: np.array([value]) for name, value in pose.items()}, session.pivot, 1)[0]
    assert pose_of(offset, session.pivot) == pytest.approx(pose)
    placed = offset @ session.source.world_to_camera[3].double()
    session.set_preset("orbit_left", 10, easing="smooth")
    key = session.add_key_frame(3, placed, focal=1.25)
    assert key == pytest.approx({"at": 0.75, "focal": 1.25, **pose})
    torch.testing.assert_close(session.path.world_to_camera[3], placed, rtol=0, atol=1e-6)
    session.add_key_frame(0, session.source.world_to_camera[0])
    session.add_key_frame(3, placed)  # in place of the first
    assert [one["at"] for one in session.trajectory.keyframes] == [0.0, 0.75]
    by_hand = keyframe_path([{"at": 0}, {"at": 0.75, **pose}], *session.source.cameras, session.pivot)
    torch.testing.assert_close(session.path.world_to_camera, by_hand.world_to_camera, rtol=0, atol=1e-6)
    session.remove_key_frame(0)
    session.remove_key_frame(0)
    assert session.trajectory.preset == "static"


@pytest.mark.parametrize("way", [{"time": {"mode": "reverse"}}, {"mode": "bullet_time", "freeze_frame": 1}])
def test_a_key_frame_is_of_the_moment_that_its_frame_shows(session, way):
    session.set_preset("static", **({} if "time" not in way else way))
    if "mode" in way:
        session.set_preset("orbit_left", 8, **way)
    shown = int(session.path.source_frame[1])
    placed = pose_offset({"x": np.array([0.1])}, session.pivot, 1)[0]
    session.add_key_frame(1, placed @ session.source.world_to_camera[shown].double())
    assert session.trajectory.keyframes == ({"at": 0.25, "x": pytest.approx(0.1)},)
    assert int(session.path.source_frame[1]) == shown == (3 if "time" in way else 1)


def test_the_cloud_is_where_the_source_camera_sees_its_pixels(session):
    points, colours = session.film.cloud(2, most=10_000)
    read = read_frames(session._inputs["ingest"], np.array([2]))
    depth = read_frames(session._inputs["depth"], np.array([2]))
    assert len(points) == depth["known"].sum()
    pose, lens = session.source.world_to_camera[2].double().numpy(), session.source.intrinsics[2].numpy()
    seen = (points.astype(float) @ pose[:3, :3].T + pose[:3, 3]) @ lens.T
    pixels = np.floor(seen[:, :2] / seen[:, 2:]).astype(int)
    np.testing.assert_allclose(seen[:, 2], depth["depth"][0][pixels[:, 1], pixels[:, 0]], rtol=1e-5)
    np.testing.assert_array_equal(colours, read["rgb"][0][pixels[:, 1], pixels[:, 0]])
    assert 50 < len(session.film.cloud(2, most=100)[0]) <= 130


def test_every_dialect_of_cameras_is_read_back_as_the_same_path(session, tmp_path):
    session.set({"keyframes": [{"at": 0}, {"at": 1, "x": 0.2, "pan": -9, "roll": 3}]})
    path = session.path
    assert set(DIALECTS) == {"yaml", *WRITABLE, *ANGLE_DIALECTS}
    for dialect in WRITABLE:
        session.set({"keyframes": [{"at": 0}, {"at": 1, "x": 0.2, "pan": -9, "roll": 3}]})
        session.set(export(session, str(tmp_path / default_target(session, dialect)), dialect))
        read = session.path
        torch.testing.assert_close(read.world_to_camera, path.world_to_camera, rtol=0, atol=1e-5)
        torch.testing.assert_close(read.intrinsics, path.intrinsics, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dialect", ANGLE_DIALECTS)
def test_orbits_are_read_back_from_the_three_line_dialects(session, tmp_path, dialect):
    target = str(tmp_path / "angles.txt")
    four = [{"at": at / 3, "theta": 3.0 * at, "phi": -2.0 * at * at} for at in range(4)]
    for move in ({"preset": "arc_up", "angle_degrees": 12}, {"preset": "orbit_left"}, {"keyframes": four}):
        session.set(move)
        path = session.path.world_to_camera
        assert export(session, target, dialect) is None
        session.set({"file": target, "file_format": dialect})
        torch.testing.assert_close(session.path.world_to_camera, path, rtol=0, atol=1e-9)


def test_a_dialect_that_cannot_say_the_move_is_refused(session, tmp_path):
    for move in (
        {"preset": "dolly_in"},
        {"preset": "orbit_up", "easing": "smooth"},
        {"keyframes": [{"at": 0}, {"at": 0.4, "phi": 3.0}, {"at": 1}]},
        {"keyframes": [{"at": 0}, {"at": 0.5, "phi": 3.0}, {"at": 1}]},  # a spline; the dialects draw lines
    ):
        session.set(move)
        with pytest.raises(UserError, match="holds orbits, and key frames of theta, phi and r at even steps"):
            angles_of(session.trajectory, "theta_phi_r")
    session.set_preset("orbit_up", mode="bullet_time")
    with pytest.raises(UserError, match="opencv holds cameras and not which moments they show; write yaml"):
        export(session, str(tmp_path / "path.npz"), "opencv")
    with pytest.raises(UserError, match="dialect 'usd' is unknown; use yaml, opencv"):
        export(session, str(tmp_path / "path"), "usd")


def test_kept_moves_are_settings_of_a_job_by_file_and_by_command(session, settings, tmp_path):
    session.set_preset("orbit_left", 12.5, mode="bullet_time", freeze_frame=2)
    session.keep("slow turn".replace(" ", "_"))
    session.set_preset("dolly_in", 0.25)
    session.keep()
    export(session, str(tmp_path / "moves.yaml"), "yaml")
    of_file = load_config(dataset=str(tmp_path / "moves.yaml"))
    assert [one.label for one in of_file.trajectories] == ["slow_turn", "dolly_in_0.25"]
    assert of_file.trajectories == session.chosen
    session._words = ("--dataset.uri=clips [new]", "--trajectories=[{preset: static}]")
    words = session.command(whole=False)
    assert words[:2] == ["recapture", "run"]
    of_words = load_config(arguments=words[2:])
    assert of_words.trajectories == session.chosen
    assert of_words.dataset.uri == "clips [new]" and of_words.dataset.where == session.clip
    assert load_config(arguments=session.command(whole=True)[2:]).dataset.where == "*"
    assert yaml.safe_load(session.settings())["trajectories"][0]["freeze_frame"] == 2


def test_what_cannot_be_is_refused_and_changes_nothing(session, settings):
    session.set_preset("orbit_left", 12)
    before = session.trajectory
    for change, message in (
        (lambda: session.set_preset("dolly_in", 1.5), "would pass the pivot; stay below 1"),
        (lambda: session.set_preset("orbit_left", 5, subject={}), "about a subject, and nothing says which"),
        (lambda: session.set_preset("static", mode="bullet_time", freeze_frame=99), "freeze_frame is 99"),
        (lambda: session.add_key_frame(9, torch.eye(4)), "the new video has frames 0 to 4"),
        (lambda: session.add_key_frame(0, _past_the_pivot(session)), "of the way to the pivot"),
        (lambda: session.remove_key_frame(0), "no key frame 0; the move has 0"),
    ):
        with pytest.raises(UserError, match=message):
            change()
        assert session.trajectory is before
    session.set_preset("static")
    with pytest.raises(UserError, match="static: a safe amount is for a preset with an amount"):
        session.safe_amount()
    with pytest.raises(UserError, match=f"no clip is called 'absent'; choose one of {session.clip}, "):
        StudioSession.open(settings, "absent")


def _past_the_pivot(session):
    ahead = torch.eye(4, dtype=torch.float64)
    ahead[2, 3] = -1.2 * session.pivot
    return ahead @ session.source.world_to_camera[0].double()
