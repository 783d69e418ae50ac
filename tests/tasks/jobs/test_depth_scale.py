"""Depth that a model predicts comes to the scale of the clip's cameras, or the render says what to give."""

import numpy as np
import pytest
import torch
from support.plans import planned
from support.travelling import travelling, turning_about, wavy

from recapture.conf.load import load_config
from recapture.conf.schema import RenderConfig
from recapture.datasets.scenes.render import render_scene
from recapture.datasets.store.store import ArtifactStore
from recapture.models.geometry.rasterize import render
from recapture.tasks.clip.scene_reader import SceneReader
from recapture.tasks.engine.worker import work
from recapture.tasks.jobs.depth_scale import DepthSpool
from recapture.tasks.jobs.job import preview_stages
from recapture.tasks.jobs.render import surface_settings

STABILISE = "[{stabilise_seconds: 0.2}]"
PRESET = "[{preset: orbit_right, angle_degrees: 5}]"
STORED = 1e-5 + 2.0**-14  # depth is kept to 13 bits of mantissa


class Predicting:
    """A model that predicts what it is given, chunk by chunk."""

    consistent = True

    def __init__(self, prediction, kind):
        self.prediction, self.kind, self.focal = torch.from_numpy(prediction).float(), kind, None

    def predict(self, chunks, focal=None):
        self.focal, start = focal, 0
        for chunk in chunks:
            yield self.prediction[start : start + len(chunk)]
            start += len(chunk)


@pytest.fixture
def run(tmp_path):
    """Return a function: clip and prediction -> artifacts, and the outcome of the render."""

    def run(clip, prediction, kind="metric", *, trajectories=PRESET, words=()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        clip.save(folder / "clips")
        config = load_config(
            arguments=[
                *("--dataset.uri", str(folder / "clips"), "--store", str(folder / "artifacts")),
                *("--ingest.short_side", "96", "--trajectories", trajectories, *words),
            ]
        )
        store, made = ArtifactStore(config.store), {}
        job = planned(config, preview_stages)
        for name in ("ingest", "depth", "render"):
            item, stage = job.items(name)[0], job.stage(name)
            if name == "depth":
                stage._model = Predicting(prediction, kind)
            outcome = work(stage, item, store, 1)
            if name != "render":
                assert outcome.status == "ok", outcome.traceback
            if outcome.status == "ok":
                made[name] = store.open(name, item.key)
        return made, outcome

    return run


def depth_of(made, clip):
    height, width = clip.depth.shape[1:]
    return made["depth"].frames().read(0, len(clip.rgb))["depth"][:, :height, :width]


def from_the_side(clip, depth):
    """PSNR of visible pixels 0.6 to the side, against the scene seen from there."""
    lens, pose = torch.from_numpy(clip.intrinsics), torch.from_numpy(clip.world_to_camera)
    target = pose.clone()
    target[:, 0, 3] -= 0.6
    time = torch.arange(len(clip.rgb)).float()
    truth = render_scene(clip.scene, lens.float(), target.float(), time, *clip.depth.shape[1:]).video
    video = torch.from_numpy(clip.rgb).permute(0, 3, 1, 2) / 127.5 - 1
    given = torch.from_numpy(np.ascontiguousarray(depth)).float()
    surface = surface_settings(RenderConfig())
    seen = render(video, given, lens.float(), pose, lens.float(), target, surface=surface)
    error = ((seen.video - truth) / 2).square().mean(1)[seen.visible]
    return -10 * float(error.mean().log10())


@pytest.mark.parametrize("seed", [100, 103, 106])
def test_depth_at_median_four_renders_as_depth_at_the_scale_of_the_cameras(run, seed):
    clip = travelling(seed, 9, 96, 96)
    wrong = clip.depth * 4 / np.median(clip.depth[0])
    if abs(np.median(clip.depth[0]) / 4 - 1) < 0.2:
        wrong = clip.depth * 0.6
    made, _ = run(clip, wrong)
    found = depth_of(made, clip)
    assert made["depth"].meta["depth_units"] == "matched"
    reached = [from_the_side(clip, depth) for depth in (clip.depth, wrong, found)]
    assert reached[2] > reached[0] - 2 and reached[2] > reached[1] + 6, reached
    assert made["depth"].meta["pivot_depth"] == pytest.approx(
        float(np.median(clip.depth[0, 32:64, 32:64])), rel=0.1
    )
    assert made["depth"].metrics["scale_matched"] == 1 and made["depth"].metrics["scale_points"] > 50


@pytest.mark.parametrize("seed", [104, 107])
def test_inverse_depth_with_a_models_errors_comes_close_to_exact_depth(run, seed):
    clip = travelling(seed, 17, 96, 128)
    factor = wavy(clip.depth.shape[1:], np.random.default_rng(seed), 0.03)
    made, _ = run(clip, 3 / (clip.depth * factor) + 0.4, "inverse")
    assert made["depth"].meta["depth_units"] == "matched"
    reached = [from_the_side(clip, depth) for depth in (clip.depth * factor, depth_of(made, clip))]
    assert reached[1] > reached[0] - 2, reached


@pytest.fixture(scope="module")
def turning():
    """A clip whose camera only turns, with the small errors of estimated poses."""
    first = travelling(100, 1, 96, 128).world_to_camera[0]
    clip = travelling(100, 9, 96, 128, cameras=turning_about(first, np.linspace(0, 8, 9)))
    clip.world_to_camera[1:, :3, 3] += np.random.default_rng(0).normal(size=(8, 3)) * 1e-3
    return clip


@pytest.mark.parametrize("way_out", [False, True])
def test_without_evidence_a_path_that_needs_the_scale_is_refused_and_says_what_to_give(run, turning, way_out):
    words = ("--depth.match_cameras", "false") if way_out else ()
    made, outcome = run(turning, turning.depth * 2, trajectories=STABILISE, words=words)
    assert made["depth"].meta["depth_units"] == ("kept" if way_out else "unmatched")
    assert (outcome.status == "ok") is way_out
    if not way_out:
        for said in ("'clip", "NAME.depth.npz", "depth.match_cameras", "standard error"):
            assert said.strip("'") in outcome.error
        assert made["depth"].metrics["scale_matched"] == 0


def test_without_evidence_presets_go_on_and_no_frame_takes_from_another(run, turning):
    made, outcome = run(turning, turning.depth * 2)
    assert outcome.status == "ok", outcome.traceback
    np.testing.assert_allclose(depth_of(made, turning), turning.depth * 2, rtol=STORED)
    view, source = SceneReader(made, torch.device("cpu")).read(np.arange(9))
    assert len(set(source.pose_group.tolist())) == len(set(view.pose_group.tolist())) == 9


def test_where_cameras_do_not_travel_depth_keeps_its_own_scale(run, turning):
    clip = travelling(100, 9, 96, 128, cameras=turning_about(turning.world_to_camera[0], np.arange(9.0)))
    made, outcome = run(clip, clip.depth * 2, trajectories=STABILISE)
    assert outcome.status == "ok", outcome.traceback
    assert made["depth"].meta["depth_units"] == "free"
    np.testing.assert_allclose(depth_of(made, clip), clip.depth * 2, rtol=STORED)


def test_metres_stay_metres_and_inverse_depth_has_the_median_of_the_settings(run, turning):
    words = ("--depth.match_cameras", "false", "--depth.median_depth", "7")
    metric, _ = run(turning, turning.depth * 2, "metric", words=words)
    inverse, _ = run(turning, 1 / turning.depth, "inverse", words=words)
    np.testing.assert_allclose(depth_of(metric, turning), turning.depth * 2, rtol=STORED)
    assert np.median(depth_of(inverse, turning)[0]) == pytest.approx(7, rel=1e-3)


def test_the_model_is_told_the_focal_length_of_a_clip_with_cameras(run, turning):
    made, _ = run(turning, turning.depth)
    assert made["ingest"].meta["cameras_known"]
    from recapture.tasks.jobs.depth import DepthStage

    stage = DepthStage(load_config(arguments=[]).depth)
    stage._model = Predicting(turning.depth, "metric")
    list(stage._aligned(made["ingest"]))
    np.testing.assert_allclose(stage._model.focal, turning.intrinsics[:, 0, 0] / 128)


def test_a_spool_returns_what_it_was_given_in_order():
    depth = torch.rand(37, 5, 7)
    depth[3, 2, 1] = float("nan")
    with DepthSpool() as spool:
        for part in depth.split(9):
            spool.add(part)
        torch.testing.assert_close(torch.cat(list(spool)), depth, equal_nan=True, rtol=0, atol=0)
