"""The cameras stage in a job: which clips have an item, what is refused, and what later stages make of it."""

import numpy as np
import pytest
from PIL import Image
from support import plans
from support.photo_scene import Motion, intrinsics, shoot

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.worker import work

FRAMES, HEIGHT, WIDTH = 9, 64, 80


def write(root, name, pictures, depth):
    (root / name).mkdir()
    for t, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / f"{name}/{t:02}.png")
    np.savez(root / f"{name}.depth.npz", depth=depth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder dataset without cameras: a pan, a cut, one picture, and a plain wall."""
    root = tmp_path_factory.mktemp("clips")
    video, depth = shoot(
        intrinsics(HEIGHT, WIDTH, FRAMES), Motion("pan", pan=1.0).cameras(FRAMES), HEIGHT, WIDTH
    )
    pan = ((video.movedim(1, -1).numpy() + 1) * 127.5).round().astype(np.uint8)
    depth = depth.numpy()
    write(root, "pan", pan, depth)
    write(root, "cut", [*pan[:5], *pan[:4, ::-1, :, ::-1]], np.concatenate([depth[:5], depth[:4, ::-1]]))
    write(root, "one", pan[:1], depth[:1])
    noise = np.random.default_rng(0).integers(0, 255, pan.shape, np.uint8)
    write(root, "noise", noise, depth)
    return root


def job_of(folder, store, *words):
    return plans.planned(
        load_config(
            arguments=[
                *("--dataset.uri", str(folder), "--store", str(store), "--depth.source", "given"),
                *("--trajectories", "[{name: steady, stabilise_seconds: 0.2}]", "--fill.method", "classical"),
                *words,
            ]
        )
    )


def outcomes(job, store, *names):
    found = {}
    for name in names:
        job.stage(name).setup()
        for item in job.items(name):
            found[name, item.clip_id] = work(job.stage(name), item, ArtifactStore(str(store)), 1), item
    return found


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    found = outcomes(job_of(folder, store), store, "ingest", "depth", "cameras", "render")
    return ArtifactStore(str(store)), found


def cameras(made, clip):
    store, found = made
    outcome, item = found["cameras", clip]
    assert outcome.status == "ok", outcome.error
    return store.open("cameras", item.key)


def test_a_clip_can_be_steadied_by_estimated_cameras(made):
    store, found = made
    outcome, item = found["render", "pan"]
    assert outcome.status == "ok", outcome.error
    path = store.open("render", item.key).read_npz("cameras.npz")
    own = cameras(made, "pan").read_npz("cameras.npz")
    assert cameras(made, "pan").meta["cameras_known"]
    assert (path["intrinsics"] == own["intrinsics"]).all()
    steps = [
        np.abs(np.diff(pose[:, 0, 2], n=2)).max()
        for pose in (path["world_to_camera"], own["world_to_camera"])
    ]
    assert steps[0] < steps[1]


def test_the_shots_of_a_clip_with_a_cut_are_not_related(made):
    artifact = cameras(made, "cut")
    assert artifact.meta["shots"] == [0, 5]
    groups = artifact.read_npz("cameras.npz")["pose_group"]
    assert set(groups[:5]).isdisjoint(groups[5:])
    assert not artifact.meta["cameras_known"]


def test_what_cannot_be_told_fails_only_what_needs_it(made):
    _, found = made
    for clip in ("noise", "cut"):
        outcome, _ = found["render", clip]
        assert outcome.status == "error"
        assert clip in outcome.error and "no motion to stabilise" in outcome.error
    assert cameras(made, "noise").meta["cameras"] == "unknown"
    assert cameras(made, "noise").meta["reasons"]
    assert found["cameras", "noise"][0].metrics["camera_known"] == 0


def test_one_picture_stands_still(made):
    assert cameras(made, "one").meta["motion"] == ["still"]
    assert (cameras(made, "one").read_npz("cameras.npz")["world_to_camera"] == np.eye(4)).all()


def test_a_cut_is_refused_if_wanted(folder, tmp_path):
    job = job_of(folder, tmp_path, "--cameras.cuts", "refuse", "--dataset.where", "cut")
    outcome, _ = outcomes(job, tmp_path, "ingest", "depth", "cameras")["cameras", "cut"]
    assert outcome.status == "error"
    assert "cut at frame 5" in outcome.error and "cameras.cuts to split" in outcome.error


def test_given_refuses_a_clip_without_cameras(folder, tmp_path):
    job = job_of(folder, tmp_path, "--cameras.source", "given", "--dataset.where", "one")
    outcome, _ = outcomes(job, tmp_path, "ingest", "depth", "cameras")["cameras", "one"]
    assert "cameras.source is given" in outcome.error and "one.cameras.npz" in outcome.error


def test_still_takes_every_camera_for_a_tripod(folder, tmp_path):
    job = job_of(folder, tmp_path, "--cameras.source", "still", "--dataset.where", "pan")
    _, item = outcomes(job, tmp_path, "ingest", "depth", "cameras")["cameras", "pan"]
    found = ArtifactStore(str(tmp_path)).open("cameras", item.key).read_npz("cameras.npz")
    assert (found["world_to_camera"] == np.eye(4)).all() and not found["pose_group"].any()


def test_clips_with_cameras_have_no_item_and_a_job_of_them_no_stage():
    config = load_config(arguments=["--dataset.uri", "scenes://?count=1&seed=0&frames=5&height=32&width=32"])
    job = plans.planned(config)
    assert all("cameras" not in item.inputs for item in job.items("render"))
    with pytest.raises((KeyError, StopIteration, LookupError)):
        job.stage("cameras")
    again = plans.planned(
        config.model_copy(update={"cameras": config.cameras.model_copy(update={"source": "estimate"})})
    )
    assert all("cameras" in item.inputs for item in again.items("render"))
