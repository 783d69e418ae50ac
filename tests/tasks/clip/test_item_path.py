"""Paths about a subject, of found amounts and through time, on procedural clips whose bodies are known."""

import numpy as np
import pytest
import torch
from support.bare_job import configure, run_bare

from recapture.conf.errors import ConfigError, UserError
from recapture.datasets.readers.scan import open_clip, scan
from recapture.datasets.store.store import ArtifactStore
from recapture.models.geometry.rasterize import render
from recapture.tasks.clip.item_path import item_path
from recapture.tasks.jobs.job import ClipJob, preview_stages
from recapture.tasks.jobs.render import RenderStage, surface_settings
from recapture.tasks.jobs.source_stages import source_stages

SCENE = "scenes://?count=1&seed=5&frames=9&height=96&width=128"
BODY = "subject: {objects: [2], smooth_seconds: 0}"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The artifacts of ingest and depth of one clip, by settings of its job."""
    root = tmp_path_factory.mktemp("source")
    config = configure(root, "--dataset.uri", SCENE, "--ingest.short_side", "96")
    made = run_bare(config, source_stages(config))
    store = ArtifactStore(config.store)
    artifacts = {stage: store.open(stage, outcomes[0].key) for stage, outcomes in made.items()}
    return root, artifacts


def planned(source, trajectory, *words):
    """The path of a trajectory in that clip, its metrics, and the settings."""
    root, artifacts = source
    words = ("--dataset.uri", SCENE, "--ingest.short_side", "96", "--trajectories", f"[{trajectory}]", *words)
    config = configure(root, *words)
    stage = RenderStage(config.render)
    params = ClipJob.of(config, [*source_stages(config), stage]).params(stage)[0]
    return item_path(params, artifacts, surface_settings(config.render))


def body(artifacts):
    """Which pixels show object 2: bool [T,H,W]."""
    return open_clip(scan(SCENE)[0][0]).objects(0, 9) == 2


def filmed(artifacts, shown, path):
    """The body as the new cameras see it [T,H,W]."""
    return (rendered(artifacts, shown, path).video[:, 0] > 0.5).numpy()


def rendered(artifacts, shown, path):
    """Pictures [T,H,W] of the clip as the new cameras see them."""
    arrays = artifacts["depth"].frames().read(0, 9)
    cameras = artifacts["ingest"].read_npz("cameras.npz")
    frame = path.source_frame.numpy()
    video = torch.from_numpy(shown[frame]).float()[:, None].expand(-1, 3, -1, -1)
    return render(
        video,
        torch.from_numpy(arrays["depth"][frame]),
        torch.from_numpy(cameras["intrinsics"][frame]).float(),
        torch.from_numpy(cameras["world_to_camera"][frame]).double(),
        path.intrinsics.float(),
        path.world_to_camera,
        surface=surface_settings(configure("unused").render),
        known=torch.from_numpy(arrays["known"][frame]),
    )


def centroids(masks):
    return np.array([np.argwhere(one).mean(axis=0)[::-1] + 0.5 for one in masks])


def test_an_orbit_keeps_the_bodys_centroid_within_a_pixel_of_where_the_source_has_it(source):
    path = planned(source, f"{{preset: orbit_right, angle_degrees: 6, {BODY}}}").path
    shown = body(source[1])
    moved = centroids(filmed(source[1], shown, path)) - centroids(shown)
    assert np.abs(moved).max() < 1


def test_without_the_subject_the_same_orbit_loses_it(source):
    path = planned(source, "{preset: orbit_right, angle_degrees: 6}").path
    shown = body(source[1])
    moved = centroids(filmed(source[1], shown, path)) - centroids(shown)
    assert np.abs(moved).max() > 2


def test_a_path_may_hold_the_body_in_the_middle_or_where_the_first_frame_has_it(source):
    shown = body(source[1])
    place = centroids(shown)
    for framing, wanted in (("centre", np.array([64.0, 48.0])), ("first", place[0])):
        held = BODY.replace("}", f", framing: {framing}}}")
        path = planned(source, f"{{preset: left, distance: 0.05, {held}}}").path
        assert np.abs(centroids(filmed(source[1], shown, path)) - wanted).max() < 1


def test_a_lead_aims_ahead_of_a_body_that_moves(source):
    now = planned(source, "{preset: static, subject: {objects: [2], framing: centre}}").path
    leads = "{objects: [2], framing: centre, lead_seconds: 0.1}"
    later = planned(source, f"{{preset: static, subject: {leads}}}").path
    shown = body(source[1])
    motion = np.diff(centroids(shown), axis=0).mean(axis=0)
    shift = centroids(filmed(source[1], shown, now)) - centroids(filmed(source[1], shown, later))
    axis = int(np.abs(motion).argmax())
    assert (np.sign(shift[:6, axis]) == np.sign(motion[axis])).all()  # the body trails where the camera looks


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("{mode: reverse}", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("{mode: bounce, speed: 2}", [0, 2, 4, 6, 8, 6, 4, 2, 0]),
        ("{mode: forward, speed: 0.5}", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]),
        ("{mode: freeze, frame: 3}", [3] * 9),
    ],
)
def test_time_goes_as_asked_along_any_camera_move(source, time, expected):
    made = planned(source, f"{{preset: orbit_left, angle_degrees: 10, time: {time}}}").path
    assert made.source_frame.tolist() == expected
    assert len(made.world_to_camera) == len(made.intrinsics) == len(expected)
    last = made.world_to_camera[-1] @ torch.linalg.inv(made.world_to_camera[0])
    assert not torch.allclose(last, torch.eye(4).double(), atol=0.05)  # the camera moved on to its end


def test_an_orbit_about_the_body_in_reverse_still_keeps_it_framed(source):
    path = planned(source, f"{{preset: orbit_right, angle_degrees: 6, {BODY}, time: {{mode: reverse}}}}").path
    shown = body(source[1])
    moved = centroids(filmed(source[1], shown, path)) - centroids(shown)[::-1]
    assert np.abs(moved).max() < 1


def test_a_found_amount_is_within_its_bound_and_grows_with_it(source):
    amounts = []
    for bound in (0.1, 0.3):
        made = planned(source, f"{{preset: orbit_right, amount: auto, bound: {{hole_share: {bound}}}}}")
        assert made.found.strain.hole_share <= bound
        assert made.metrics["amount"] == made.found.amount
        again = planned(source, f"{{preset: orbit_right, angle_degrees: {made.found.amount}}}")
        torch.testing.assert_close(again.path.world_to_camera, made.path.world_to_camera)
        seen = rendered(source[1], np.ones((9, 96, 128)), made.path)
        holes = 1 - seen.visible.double().mean(dim=(1, 2))
        assert float(holes.max()) == pytest.approx(made.found.strain.hole_share, abs=0.02)
        amounts.append(made.found.amount)
    assert amounts[0] < amounts[1]


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        ("{preset: static, subject: {objects: [99]}}", r"subject\.objects shows no subject with depth"),
        (
            "{preset: orbit_left, amount: auto, bound: {hole_share: 0.0001}}",
            r"@orbit_left_auto: amount auto: even 0\.703 .* raise them",
        ),
        (
            "{preset: static, subject: {box: [0, 0, 0.02, 0.02], frame: 20}}",
            r"subject\.frame is 20; the frames 0 to 8 are processed",
        ),
    ],
)
def test_what_a_clip_cannot_have_is_one_error_with_the_way_out(source, trajectory, message):
    with pytest.raises(ValueError, match=message) as caught:
        planned(source, trajectory)
    assert str(caught.value).startswith("scene")


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        ("{preset: static, time: {mode: ramp, pairs: [[0, 0], [1, 9]]}}", "show second 9 of the clip at 1"),
        ("{preset: static, time: {mode: freeze, frame: 9}}", r"time\.frame is 9; the clip has frames 0 to 8"),
        ("{preset: static, subject: {uri: /nowhere}}", r"subject\.uri '/nowhere' does not exist"),
    ],
)
def test_what_no_clip_can_have_is_refused_before_any_work(source, trajectory, message):
    with pytest.raises(UserError, match=message):
        planned(source, trajectory)


def test_a_subject_that_nothing_names_is_refused_and_the_jobs_mask_names_it(source, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing says which; set its subject\.uri, objects, box or point"):
        planned(source, "{preset: static, subject: {}}")
    words = ("--trajectories", "[{preset: orbit_left, subject: {}}]", "--mask.replace", "true")
    config = configure(tmp_path, *words, "--mask.objects", "[2]", count=1)
    assert run_bare(config, preview_stages(config)[:-1])["render"][0].metrics["subject_unseen_share"] == 0


def test_a_followed_point_stays_framed(source):
    shown = body(source[1])
    x, y = centroids(shown[:1])[0] / np.array([128, 96])
    path = planned(source, f"{{preset: static, subject: {{point: [{x}, {y}], framing: first}}}}").path
    moved = centroids(filmed(source[1], shown, path)) - centroids(shown[:1])
    assert np.abs(moved).max() < 6
    assert np.abs(centroids(shown) - centroids(shown[:1])).max() > 6
