"""The main job on small datasets: what it leaves, what it reuses, and what goes wrong without stopping it."""

import json
import logging
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from support.plans import planned

from recapture.conf.errors import UserError
from recapture.datasets.media.video import iterate_frames, probe, write_video
from recapture.datasets.store.store import ArtifactStore
from recapture.flows import run_job
from recapture.flows.preview import preview
from recapture.flows.recapture_dataset import recapture
from recapture.flows.run_job import TooManyMissing

pytestmark = pytest.mark.integration
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]


def delivered(tmp_path):
    root = tmp_path / "outputs/small"
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob("recapture.mp4"))


def snapshot(root):
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "objects").rglob("*")) if p.is_file()
    }


@pytest.fixture
def clips(tmp_path):
    """A folder dataset of two short real files."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    for number, name in enumerate(["a.mp4", "sub/b.mp4"]):
        frames = [np.stack([np.roll(ramp, 3 * t + number)[None].repeat(40, 0)] * 3, -1) for t in range(6)]
        write_video(str(folder / name), frames, fps=Fraction(12))
    return folder


def test_every_clip_and_trajectory_becomes_a_video_with_its_pictures(job, tmp_path):
    config = job("--trajectories", "[{preset: orbit_left}, {preset: dolly_in}]", count=2)
    summary = recapture(config)
    assert (summary.delivered, summary.wanted, summary.failures) == (4, 4, [])
    videos = delivered(tmp_path)
    assert len(videos) == 4
    folder = tmp_path / "outputs/small" / videos[0]
    assert {p.name for p in folder.iterdir()} == {
        *(
            "recapture.mp4",
            "side_by_side.mp4",
            "contact_sheet.png",
            "path.png",
            "cameras.npz",
            "recapture.json",
        )
    }
    info = probe(str(folder / "recapture.mp4"))
    assert (info.frames, info.width, info.height) == (5, 64, 48)
    record = json.loads((folder / "recapture.json").read_text())
    assert record["metrics"]["classical/psnr_visible"] > record["metrics"]["copy_source/psnr_visible"] + 3


def test_the_embedded_base_fills_where_nothing_else_is_named(job, tmp_path):
    summary = recapture(job("--fill.method", "base", "--fill.steps", "2"))
    assert (summary.delivered, summary.failures) == (1, [])
    (video,) = delivered(tmp_path)
    metrics = json.loads((tmp_path / "outputs/small" / video / "recapture.json").read_text())["metrics"]
    assert {name.split("/")[0] for name in metrics} == {"base", "base_unpasted", "classical", "copy_source"}
    assert metrics["base/consistency_psnr"] > metrics["base_unpasted/consistency_psnr"] > 15
    assert recapture(job("--fill.method", "base", "--fill.steps", "2")).reused_everything
    other = recapture(job("--fill.method", "base", "--fill.steps", "3"))
    assert [name for name in STAGES if other.counts[name].get("ok")] == ["fill", "measure", "deliver"]


def test_the_solver_keeps_known_pixels_better_than_the_base_alone(job, tmp_path):
    job = partial(job, "--fill.steps", "4", "--fill.feather", "0")
    alone = recapture(job("--fill.method", "base")).metrics
    held = recapture(job("--fill.method", "inverse")).metrics
    (item,) = held
    assert held[item]["inverse/consistency_psnr"] > alone[item]["base/consistency_psnr"] + 0.2
    other = recapture(job("--fill.method", "inverse", "--fill.inverse.mask", "min_pool"))
    assert [name for name in STAGES if other.counts[name].get("ok")] == ["fill", "measure", "deliver"]


def test_a_second_run_reuses_everything_and_a_changed_setting_redoes_what_depends_on_it(job, tmp_path):
    recapture(job())
    before = snapshot(tmp_path / "artifacts")
    again = recapture(job())
    assert again.reused_everything
    assert snapshot(tmp_path / "artifacts") == before
    assert again.metrics  # a reused run still prints its table
    changed = recapture(job("--fill.inpaint_radius", "5"))
    assert [name for name in STAGES if changed.counts[name].get("ok")] == ["fill", "measure", "deliver"]


def test_a_store_that_cannot_be_written_is_named_before_anything_starts(job, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"store .*/file/below cannot be written: .*; set store to a place"):
        recapture(job("--store", f"{tmp_path}/file/below"))


def test_a_deleted_artifact_is_made_again_byte_for_byte(job, tmp_path):
    config = job()
    recapture(config)
    before = snapshot(tmp_path / "artifacts")
    store = ArtifactStore(config.store)
    for stage in ("render", "deliver"):
        for key in store.keys(stage):
            store.delete(stage, key)
    summary = recapture(config)
    assert summary.counts["render"] == {"ok": 1}
    assert summary.counts["fill"] == {"reused": 1}
    assert snapshot(tmp_path / "artifacts") == before


def test_files_that_are_no_videos_are_named_and_the_others_are_finished(job, tmp_path, clips):
    whole = (clips / "a.mp4").read_bytes()
    (clips / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "notes.mp4").write_text("this is not a video")
    (clips / "empty").mkdir()
    summary = recapture(job("--dataset.uri", str(clips), "--execution.max_failure_share", "0.2"))
    assert delivered(tmp_path) == ["a/orbit_right_10", "sub/b/orbit_right_10"]
    named = {failure.item: failure.error for failure in summary.failures}
    assert {"truncated", "notes"} <= named.keys()
    assert all(item in error for item, error in named.items())
    assert not summary.acceptable


def test_a_clip_with_broken_depth_is_quarantined_and_the_others_are_finished(job, tmp_path, clips):
    depth = np.full((6, 40, 64), 3.0, dtype=np.float32)
    depth[4] = np.nan
    np.savez(clips / "a.depth.npz", depth=depth)
    summary = recapture(job("--dataset.uri", str(clips)))
    assert delivered(tmp_path) == ["sub/b/orbit_right_10"]
    (failure,) = summary.failures
    assert (failure.item, failure.stage) == ("a", "depth")
    assert "clip 'a': depth has 1 frames (4)" in failure.error
    assert summary.counts["depth"] == {"ok": 1, "quarantined": 1}
    assert summary.counts["render"] == {"ok": 1, "blocked": 1}
    again = recapture(job("--dataset.uri", str(clips)))
    assert again.counts["depth"] == {"reused": 1, "quarantined": 1}


def test_fps_sound_and_length_of_the_source_reach_the_output(job, tmp_path):
    summary = recapture(
        job(
            "--dataset.uri", "datasets/sample", "--dataset.where", "real/bunny", "--ingest.max_seconds", "0.5"
        )
    )
    assert summary.failures == []
    (video,) = (tmp_path / "outputs").rglob("recapture.mp4")
    info = probe(str(video))
    assert (info.fps, info.frames, info.audio) == (25, 13, True)


def test_odd_sizes_come_out_uncropped_and_unsqueezed(job, tmp_path):
    recapture(
        job(
            "--dataset.uri",
            "scenes://?count=1&seed=1&frames=3&height=50&width=70",
            "--ingest.short_side",
            "null",
        )
    )
    (video,) = (tmp_path / "outputs").rglob("recapture.mp4")
    assert next(iter(iterate_frames(str(video)))).shape == (50, 70, 3)


def test_a_long_clip_goes_through_several_windows(job, tmp_path):
    uri = "scenes://?count=1&seed=1&frames=23&height=32&width=32"
    summary = recapture(job("--dataset.uri", uri, "--fill.window", "9", "--fill.overlap", "2"))
    assert summary.failures == []
    (video,) = (tmp_path / "outputs").rglob("recapture.mp4")
    assert probe(str(video)).frames == 23


def test_bullet_time_shows_one_moment_from_all_around(job, tmp_path):
    config = job("--trajectories", "[{preset: static, mode: bullet_time, freeze_frame: 2}]")
    recapture(config)
    store = ArtifactStore(config.store)
    (key,) = store.keys("fill")
    frames = store.open("fill", key).frames().read(0, 5)["rgb"]
    (source,) = store.keys("ingest")
    frozen = store.open("ingest", source).frames().read(2, 3)["rgb"]
    assert (frames == frozen).all()


def test_everything_a_hole_still_gives_a_video_and_says_so(job, tmp_path):
    config = job("--trajectories", "[{keyframes: [{at: 0, pan: 180}]}]")
    summary = recapture(config)
    assert summary.delivered == 1
    (metrics,) = summary.metrics.values()
    assert metrics["classical/hole_share"] == 1.0
    assert "classical/consistency_psnr" not in metrics


def test_mlflow_being_away_is_said_once_and_stops_nothing(job, caplog):
    config = job("--tracking.enabled", "true", "--tracking.uri", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, logger="recapture"):
        summary = recapture(config)
    assert summary.delivered == 1
    away = [record for record in caplog.records if "is away" in record.getMessage()]
    assert len(away) == 1


def test_mlflow_remembers_the_job_its_stages_and_its_pictures(job, tmp_path):
    from mlflow import MlflowClient

    summary = recapture(job("--tracking.enabled", "true"))
    client = MlflowClient(f"sqlite:///{tmp_path}/state/mlflow.db")
    parent = client.get_run(summary.mlflow_run)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["videos_delivered"] == 1
    assert parent.data.metrics["classical/psnr_hole"] > 0
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert sorted(child.info.run_name for child in children) == sorted(STAGES)
    first, *later = sorted(children, key=lambda child: child.info.start_time)
    for child in later:  # one after the other, so that their durations are the stages' own
        assert first.info.end_time <= child.info.start_time
        first = child
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "summary.md", "measurements.json", "images", "videos"} <= artifacts


def test_a_dataset_without_clips_is_one_message(job, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"nothing.*has no clip to work on"):
        recapture(job("--dataset.uri", str(tmp_path / "nothing")))


def test_a_trajectory_that_does_not_fit_fails_its_items_and_names_the_way_out(job):
    summary = recapture(
        job(
            "--trajectories",
            "[{preset: static, name: ok}, {preset: static, mode: bullet_time, freeze_frame: 99, name: late}]",
        )
    )
    assert summary.delivered == 1
    (failure,) = summary.failures
    assert failure.item.endswith("@late")
    assert "freeze_frame is 99; the clip has frames 0 to 4" in failure.error


def test_the_preview_needs_no_filler_and_shows_holes(job, tmp_path):
    summary = preview(job())
    assert summary.delivered == 1
    (video,) = (tmp_path / "outputs").rglob("preview.mp4")
    assert probe(str(video)).width >= 3 * 64
    assert not (tmp_path / "artifacts/objects/fill").exists()
    (shares,) = tmp_path.glob("outputs/small/*/*/hole_share.json")
    shares = json.loads(shares.read_text())
    assert shares[0] == 0 and len(shares) == 5 and shares[-1] > 0.02


def test_a_deployments_run_fails_when_too_much_is_missing(job, monkeypatch):
    words = (
        "--trajectories",
        "[{preset: static, name: ok}, {preset: static, mode: bullet_time, freeze_frame: 99, name: late}]",
    )
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
    with pytest.raises(TooManyMissing, match="50% of 2 videos are missing"):
        recapture(job(*words))
    assert recapture(job(*words, "--execution.max_failure_share", "0.5")).delivered == 1


def test_neighbouring_shards_that_are_finished_share_a_task_and_one_with_work_has_its_own(job, monkeypatch):
    titles, real = [], run_job.bring_up_to_date

    def noted(plan, batch, context):
        titles.append(f"{plan.title} {batch.title}")
        return real(plan, batch, context)

    monkeypatch.setattr(run_job, "bring_up_to_date", noted)
    config = job("--execution.shard", "1", count=4)
    made = recapture(config)
    assert titles == [f"{stage} {number}: 1 items" for stage in STAGES for number in range(1, 5)]
    titles.clear()
    again = recapture(config)
    assert again.reused_everything and again.counts == {stage: {"reused": 4} for stage in STAGES}
    assert (again.metrics, again.ready) == (made.metrics, made.ready)
    assert titles == [f"{stage} 1-4: 4 items, all complete" for stage in STAGES]
    titles.clear()
    store = ArtifactStore(config.store)
    store.delete("fill", planned(config).items("fill")[2].key)
    mended = recapture(config)
    assert mended.counts["fill"] == {"ok": 1, "reused": 3} and mended.delivered == 4
    assert [title for title in titles if title.startswith("fill")] == [
        "fill 1-2: 2 items, all complete",
        "fill 3: 1 items",
        "fill 4: 1 items, all complete",
    ]


def test_prefect_does_not_walk_through_what_a_summary_holds_of_each_item(job):
    from prefect.utilities.collections import visit_collection

    config = job(count=2)
    recapture(config)
    summary, seen = recapture(config), []
    assert len(summary.metrics) == len(summary.videos) == 2
    visit_collection(summary, visit_fn=seen.append, return_data=False)
    assert summary in seen and summary.counts in seen
    each = [*summary.metrics.values(), *summary.videos.values()]
    assert not [value for value in seen if any(value is one for one in each)]
