"""A job on clips without cameras: what is measured, where it is said, and what it decides."""

import numpy as np
import pytest
from PIL import Image
from support import plans
from support.photo_scene import Motion, intrinsics, shoot

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.worker import work

FRAMES, HEIGHT, WIDTH = 13, 64, 80
MOTIONS = {
    "tripod": (Motion("tripod"), "still", 1.0),
    "pan": (Motion("pan", pan=1.0), "moving", 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder dataset: frames and exact depth, no cameras; `given` is the pan with its cameras."""
    root = tmp_path_factory.mktemp("clips")
    lens = intrinsics(HEIGHT, WIDTH, FRAMES)
    for name, motion in [(name, motion) for name, (motion, *_) in MOTIONS.items()] + [
        ("given", MOTIONS["pan"][0])
    ]:
        cameras = motion.cameras(FRAMES)
        video, depth = shoot(lens, cameras, HEIGHT, WIDTH)
        (root / name).mkdir()
        for t, frame in enumerate(((video.movedim(1, -1).numpy() + 1) * 127.5).round().astype(np.uint8)):
            Image.fromarray(frame).save(root / f"{name}/{t:02}.png")
        np.savez(root / f"{name}.depth.npz", depth=depth.numpy())
        if name == "given":
            np.savez(root / "given.cameras.npz", world_to_camera=cameras.numpy(), intrinsics=lens.numpy())
    return root


def made(folder, store, *words):
    config = load_config(
        arguments=[
            *("--dataset.uri", str(folder), "--store", str(store), "--depth.source", "given"),
            *("--trajectories", "[{preset: orbit_right, angle_degrees: 25}]", "--fill.method", "classical"),
            *words,
        ]
    )
    job, artifacts, metrics = plans.planned(config), {}, {}
    for name in ("ingest", "depth", "cameras", "render", "fill"):
        job.stage(name).setup()
        for item in job.items(name):
            outcome = work(job.stage(name), item, ArtifactStore(config.store), 1)
            assert outcome.status == "ok", outcome.error
            clip = item.name.partition("@")[0]
            artifacts[name, clip] = ArtifactStore(config.store).open(name, item.key)
            metrics[name, clip] = outcome.metrics
    return artifacts, metrics


def rgb(artifact):
    return artifact.frames().read(0, FRAMES)["rgb"]


NEVER_SURE = ("--cameras.least_confidence", "1")


def test_a_panning_clip_of_unsure_cameras_takes_nothing_from_other_frames_and_says_so(folder, tmp_path):
    artifacts, metrics = made(folder, tmp_path / "a", *NEVER_SURE)
    alone, _ = made(folder, tmp_path / "a", *NEVER_SURE, "--fill.propagate", "false")
    assert ("cameras", "given") not in artifacts
    assert not artifacts["cameras", "pan"].meta["cameras_known"]
    assert "confidence" in artifacts["cameras", "pan"].meta["reasons"][0]
    own = artifacts["cameras", "pan"].read_npz("cameras.npz")
    assert (own["world_to_camera"] == np.eye(4)).all()
    assert own["pose_group"].tolist() == list(range(FRAMES))
    assert metrics["cameras", "pan"]["camera_known"] == 0
    for name, (_, verdict, share) in MOTIONS.items():
        assert artifacts["ingest", name].meta["cameras"] == verdict
        assert metrics["ingest", name]["camera_still"] == share
        assert not artifacts["ingest", name].meta["cameras_known"]
    assert artifacts["ingest", "given"].meta["cameras"] == "given"
    assert "camera_still" not in metrics["ingest", "given"]
    groups = {
        name: artifacts["ingest", name].read_npz("cameras.npz")["pose_group"] for name in (*MOTIONS, "given")
    }
    assert groups["pan"].tolist() == list(range(FRAMES))
    assert not groups["tripod"].any() and not groups["given"].any()
    assert (rgb(artifacts["fill", "pan"]) == rgb(alone["fill", "pan"])).all()
    assert (rgb(artifacts["fill", "given"]) != rgb(alone["fill", "given"])).any()


def test_a_panning_clip_without_cameras_is_filled_from_other_frames_by_estimated_ones(folder, tmp_path):
    artifacts, metrics = made(folder, tmp_path / "a")
    alone, _ = made(folder, tmp_path / "a", "--fill.propagate", "false")
    found, truth = (
        artifacts[stage, name].read_npz("cameras.npz")
        for stage, name in (("cameras", "pan"), ("ingest", "given"))
    )
    assert not found["pose_group"].any()
    assert metrics["cameras", "pan"]["camera_known"] == 1
    relative = truth["world_to_camera"] @ np.linalg.inv(truth["world_to_camera"][0])
    turned = found["world_to_camera"][:, :3, :3] @ relative[:, :3, :3].swapaxes(1, 2)
    angle = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angle.max() < 0.07 * (FRAMES - 1)  # of a degree per frame, in pictures of 80 pixels
    assert (rgb(artifacts["fill", "pan"]) != rgb(alone["fill", "pan"])).any()


def test_a_tripod_stands_exactly_still_and_is_filled_as_before(folder, tmp_path):
    artifacts, metrics = made(folder, tmp_path / "a")
    found = artifacts["cameras", "tripod"].read_npz("cameras.npz")
    assert (found["world_to_camera"] == np.eye(4)).all()
    assert (found["intrinsics"] == artifacts["ingest", "tripod"].read_npz("cameras.npz")["intrinsics"]).all()
    assert metrics["cameras", "tripod"]["camera_still"] == 1
    assert artifacts["cameras", "tripod"].meta["motion"] == ["still"]
