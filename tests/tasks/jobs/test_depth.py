"""The depth stage by a model of whole videos: the whole way to the rendering, and what its key depends on."""

import numpy as np
import pytest
import torch
from support import tiny_video_depth
from support.plans import planned

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.models.depth.edges import SharpEdges
from recapture.tasks.clip.frames_to_video import to_video
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.job import preview_stages

FRAMES = 19


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video_depth")
    tiny_video_depth.save_tiny_video_depth(folder)
    return str(folder)


@pytest.fixture
def config(tmp_path, model):
    """Return a function that configures a job on one procedural clip; words are settings."""

    def configure(*words):
        return load_config(
            arguments=[
                *("--dataset.uri", f"scenes://?count=1&seed=3&frames={FRAMES}&height=40&width=52"),
                *("--store", f"{tmp_path}/artifacts", "--depth.source", "model", "--depth.model", model),
                *("--depth.video.window", "8", "--depth.video.overlap", "3", "--depth.video.steps", "1"),
                *("--trajectories", "[{preset: orbit_right, angle_degrees: 5}]"),
                *words,
            ]
        )

    return configure


def run(config):
    """Run all stages in this process; return stage -> its artifact."""
    store = ArtifactStore(config.store)
    made = {}
    job = planned(config, preview_stages)
    for name in job.stages:
        stage = job.stage(name)
        stage.setup()
        for item in job.items(name):
            outcome = work(stage, item, store, 1)
            assert outcome.status == "ok", outcome.traceback
            made[name] = store.open(name, item.key)
    return made


def test_depth_is_sharpened_with_the_frames_that_it_belongs_to(config):
    """A video model returns frames late, and in other chunks than it was given."""
    soft, sharp = (run(config("--depth.edge_share", share)) for share in ("0", "0.05"))
    video = to_video(soft["ingest"].frames().read(0, FRAMES, ["rgb"])["rgb"])[..., :40, :52]
    depth, found = (
        torch.from_numpy(made["depth"].frames().read(0, FRAMES)["depth"])[:, :40, :52]
        for made in (soft, sharp)
    )
    expected = SharpEdges(0.05).sharpen(depth, video)
    assert not torch.equal(expected, depth)
    # both are rounded when they are stored, and a pixel on the verge may then fall to the other side
    assert float(((found - expected).abs() > 1e-3 * expected).float().mean()) < 0.002


def depth_key(config):
    return planned(config, preview_stages).items("depth")[0].key


def test_a_video_model_gives_depth_for_every_frame_and_the_job_goes_on(config):
    made = run(config("--depth.edge_share", "0"))
    found = made["depth"].frames().read(0, FRAMES)
    depth, known = found["depth"][:, :40, :52], found["known"][:, :40, :52]
    assert known.all() and (depth > 0).all() and np.isfinite(depth).all()
    assert not found["known"][:, 40:].any() and not found["known"][:, :, 52:].any()
    assert float(np.median(depth[0])) == pytest.approx(4.0, rel=1e-3)
    assert made["depth"].meta["frames"] == FRAMES and made["render"].frames().frames == FRAMES


def test_one_frame_is_a_clip_too(config):
    made = run(config("--ingest.max_seconds", "0.01"))
    assert made["depth"].frames().frames == 1


def test_the_key_depends_on_the_seed_and_on_how_the_model_is_applied(config):
    keys = [depth_key(config(*words)) for words in ((), ("--seed", "1"), ("--depth.video.overlap", "2"))]
    assert len(set(keys)) == 3
    frame_model = ("--depth.model", "embedded")
    assert depth_key(config(*frame_model)) == depth_key(config(*frame_model, "--seed", "1"))


def test_windows_that_do_not_advance_are_refused_before_anything_starts(config):
    with pytest.raises(UserError, match=r"depth\.video.*8 frames cannot overlap by 8"):
        config("--depth.video.overlap", "8")
