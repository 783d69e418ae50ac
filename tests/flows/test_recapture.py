"""The main job on small datasets: what it leaves, and what MLflow is told."""

import json
import logging
import shutil
from functools import partial

import av
import numpy as np
import pytest

from recapture.datasets.media.video import iterate_frames, probe
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.plan import forecast
from recapture.flows.jobs import surveyed
from recapture.flows.preview import preview
from recapture.flows.recapture_dataset import recapture
from recapture.tasks.clip.filled_frames import read_filled

pytestmark = pytest.mark.integration
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]


def delivered(tmp_path):
    root = tmp_path / "outputs/small"
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob("recapture.mp4"))


def made_anew(config):
    """Return the stages of which a run would make anything."""
    return [row.stage for row in forecast(*surveyed(config)) if row.new]


def test_every_clip_and_trajectory_becomes_a_video_with_its_pictures(job, tmp_path):
    config = job(
        *("--trajectories", "[{preset: orbit_left}, {preset: dolly_in}]"),
        *("--measure.baselines", "true", "--deliver.side_by_side", "true"),
        count=2,
    )
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
            "page.mp4",
            "page.jpg",
            "page.js",
        )
    }
    info = probe(str(folder / "recapture.mp4"))
    assert (info.frames, info.width, info.height) == (5, 64, 48)
    record = json.loads((folder / "recapture.json").read_text())
    assert record["metrics"]["classical/psnr_visible"] > record["metrics"]["copy_source/psnr_visible"] + 3


def test_the_embedded_base_fills_where_nothing_else_is_named(job, tmp_path):
    words = ("--fill.method", "base", "--measure.baselines", "true", "--fill.steps")
    summary = recapture(job(*words, "2"))
    assert (summary.delivered, summary.failures) == (1, [])
    (video,) = delivered(tmp_path)
    metrics = json.loads((tmp_path / "outputs/small" / video / "recapture.json").read_text())["metrics"]
    assert {name.split("/")[0] for name in metrics} == {"base", "base_unpasted", "classical", "copy_source"}
    assert metrics["base/consistency_psnr"] > metrics["base_unpasted/consistency_psnr"] > 15
    assert made_anew(job(*words, "2")) == []
    assert made_anew(job(*words, "3")) == ["fill", "measure", "deliver"]


def test_the_solver_keeps_known_pixels_better_than_the_base_alone(job, tmp_path):
    job = partial(job, "--fill.steps", "4", "--fill.compositing", "none")
    alone = recapture(job("--fill.method", "base")).metrics
    held = recapture(job("--fill.method", "inverse")).metrics
    (item,) = held
    assert held[item]["inverse/consistency_psnr"] > alone[item]["base/consistency_psnr"] + 0.2
    other = job("--fill.method", "inverse", "--fill.inverse.mask", "min_pool")
    assert made_anew(other) == ["fill", "measure", "deliver"]


def test_fps_sound_and_length_of_the_source_reach_the_output(job, tmp_path):
    half_a_second = ("--ingest.max_seconds", "0.5", "--ingest.short_side", "64")
    summary = recapture(
        job("--dataset.uri", "datasets/sample", "--dataset.where", "real/bunny", *half_a_second)
    )
    assert summary.failures == []
    (video,) = (tmp_path / "outputs").rglob("recapture.mp4")
    info = probe(str(video))
    assert (info.fps, info.frames, info.audio) == (25, 13, True)


@pytest.mark.parametrize("damaged", [range(5, 9), range(10**6)], ids=["some", "all"])
def test_damaged_sound_costs_no_video_and_is_said_in_the_report(job, tmp_path, damaged):
    (tmp_path / "clips").mkdir()
    with (
        av.open("datasets/sample/real/bunny.mp4") as old,
        av.open(str(tmp_path / "clips/bunny.mp4"), "w") as new,
    ):
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        sounds = 0
        for packet in old.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "audio":
                copy = av.Packet(b"\x6b" * 9 if sounds in damaged else bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                sounds += 1
            copy.stream = streams[packet.stream.index]
            new.mux(copy)
    settings = ("--ingest.max_seconds", "0.5", "--ingest.short_side", "64")
    summary = recapture(job("--dataset.uri", str(tmp_path / "clips"), *settings))
    assert (summary.delivered, summary.failures) == (1, [])
    (video,) = (tmp_path / "outputs").rglob("recapture.mp4")
    (warning,) = summary.warnings
    assert warning.startswith("bunny@") and warning in summary.markdown()
    assert ("no sound" in warning) is (damaged.stop > 1000)
    assert probe(str(video)).audio is not (damaged.stop > 1000)


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
    (rendered,) = store.keys("render")
    frames = read_filled(store.open("fill", key), store.open("render", rendered), np.arange(5))["rgb"]
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


def test_mlflow_being_unreachable_is_said_once_and_stops_nothing(job, finished, caplog):
    config = job("--tracking.enabled", "true", "--tracking.uri", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, logger="recapture"):
        summary = recapture(config)
    assert summary.delivered == 1
    away = [record for record in caplog.records if "is unreachable" in record.getMessage()]
    assert len(away) == 1


def test_mlflow_remembers_the_job_its_stages_and_its_pictures(job, tmp_path, migrated_mlflow):
    from mlflow import MlflowClient

    (tmp_path / "state").mkdir()
    shutil.copy(migrated_mlflow, tmp_path / "state/mlflow.db")
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
    began = {child.info.run_name: child.info.start_time for child in children}
    assert sorted(STAGES, key=lambda stage: began[stage]) == list(STAGES)  # they overlap, in this order
    assert all(child.info.status == "FINISHED" for child in children)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "summary.md", "measurements.json", "images", "videos"} <= artifacts


def test_the_preview_needs_no_filler_and_shows_holes(job, tmp_path):
    summary = preview(job())
    assert summary.delivered == 1
    (video,) = (tmp_path / "outputs").rglob("preview.mp4")
    assert probe(str(video)).width >= 3 * 64
    assert not (tmp_path / "artifacts/objects/fill").exists()
    (shares,) = tmp_path.glob("outputs/small/*/*/hole_share.json")
    shares = json.loads(shares.read_text())
    assert shares[0] == 0 and len(shares) == 5 and shares[-1] > 0.02
