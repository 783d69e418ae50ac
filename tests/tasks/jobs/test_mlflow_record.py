"""A job's MLflow runs tell its settings, what each stage did and what was measured."""

import io
import json
import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image
from support.scripted import Scripted, items

from recapture.conf.load import load_config
from recapture.datasets.store.store import ArtifactStore
from recapture.models.metrics.suite import METRICS
from recapture.tasks.engine.mlflow_link import code_version
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.engine.summary import Failure
from recapture.tasks.jobs.mlflow_record import FIRST_FIGURES, JobRecord
from recapture.tasks.jobs.summary import JobSummary

SECRET = "hunter2"


@pytest.fixture
def stage(tmp_path):
    return Scripted(str(tmp_path / "log"), name="deliver")


@pytest.fixture
def todo():
    return items("ok", "ok", "fail", stage="deliver")


@pytest.fixture
def config():
    return load_config(
        arguments=[
            *("--dataset.name", "small", "--dataset.uri", f"https://me:{SECRET}@host/videos"),
            *("--tracking.videos", "1"),
            *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
        ]
    )


@pytest.fixture
def job(config, stage, todo):
    """Settings and the plan of the last stage."""
    return config, StagePlan(stage, tuple(todo), stage.name)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(str(tmp_path / "store"))


def outcome(item, status="ok", **more):
    return Outcome(item.name, item.clip_id, item.key, "deliver", status, **more)


def remembered(job, home, store, outcomes, ready=(), metrics=None, failures=(), clips=(), **more):
    """Go through a job as a flow does and return its summary and the id of its run."""
    config, plan = job
    given = {"metrics": metrics or {}, "ready": set(ready), "failures": list(failures), **more}
    summary = JobSummary("small", clips=3, **given)
    with JobRecord(config, "r1", home, flow="recapture", clips=clips) as record:
        record.begin(plan)
        for shard in outcomes:
            record.add(plan, shard)
        items = [item for item in plan.items if item.name in summary.ready]
        record.job(summary, plan.stage.name, items, store)
    return summary


def read(client, run_id, file):
    return Path(client.download_artifacts(run_id, file)).read_text()


def test_captions_are_a_table_with_a_row_per_clip_and_their_origin(todo, store, caplog):
    said = {"text": "a cat", "origin": "written", "by": "/models/blip"}
    first, second, lost = todo
    for item, caption in ((first, said), (second, {**said, "text": "", "origin": "none", "by": None})):
        with store.create("deliver", item.key) as artifact:
            artifact.meta["caption"] = caption
    tables = {}
    record = JobRecord.__new__(JobRecord)
    record.run = SimpleNamespace(table=lambda rows, file: tables.setdefault(file, rows))
    record._captions("deliver", [first, replace(first, name="another trajectory"), second, lost], store)
    assert tables["captions.json"] == [
        {"clip": first.clip_id, **said},
        {"clip": second.clip_id, "text": "", "origin": "none", "by": None},
    ]
    assert f"the caption of {lost.clip_id} is not logged" in caplog.text


def children(client, run):
    found = client.search_runs([run.info.experiment_id])
    return {r.info.run_name: r for r in found if r.data.tags.get("mlflow.parentRunId") == run.info.run_id}


@pytest.mark.integration
def test_settings_counts_costs_and_measurements_are_remembered(job, todo, mlflow_home, client, store):
    done = [
        [
            outcome(todo[0], seconds=1.0, bytes=10, gpu_seconds=0.5),
            outcome(todo[1], seconds=4.0, bytes=30, vram_peak_mb=7),
        ],
        [outcome(todo[2], "quarantined", error_type="ValueError", error="no depth")],
    ]
    metrics = {"a": {"classical/psnr": 20.0}, "b": {"classical/psnr": 30.0, "classical/ssim": math.nan}}
    failures = [Failure(todo[2].name, "deliver", "no depth")]
    busy = {"gpu_share": 0.75, "gpu_shares": {"deliver": 0.9, "other": 0.1}}
    summary = remembered(job, mlflow_home, store, done, metrics=metrics, failures=failures, **busy)

    run = client.get_run(summary.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.params["dataset.name"] == "small"
    assert run.data.params["trajectories"] == job[0].trajectories[0].label
    assert run.data.tags["recapture_run"] == "r1"
    assert run.data.metrics["classical/psnr"] == 25.0
    assert "classical/ssim" not in run.data.metrics
    assert yaml.safe_load(read(client, run.info.run_id, "config.yaml"))["seed"] == job[0].seed
    assert "no depth" in read(client, run.info.run_id, "summary.md")

    child = children(client, run)["deliver"]
    assert child.info.status == "FINISHED"
    assert child.data.tags["stage_version"] == "1"
    expected = {"items_ok": 2, "items_quarantined": 1, "seconds_median": 2.5, "seconds_total": 5.0}
    assert expected.items() <= child.data.metrics.items()
    assert run.data.metrics["gpu_busy_share"] == 0.75
    assert (child.data.metrics["gpu_busy_share"], child.data.metrics["gpu_seconds_total"]) == (0.9, 0.5)
    assert "GPUs were busy for 75% of the job, 90% of deliver, 10% of other." in read(
        client, run.info.run_id, "summary.md"
    )
    assert (child.data.metrics["bytes_total"], child.data.metrics["vram_peak_mb"]) == (40, 7)
    steps = [point.step for point in client.get_metric_history(child.info.run_id, "items_ok")]
    assert sorted(steps) == [2, 3]
    table = json.loads(read(client, child.info.run_id, "deliver.json"))
    rows = [dict(zip(table["columns"], row)) for row in table["data"]]
    assert [row["item"] for row in rows] == [item.name for item in todo]
    assert [row["status"] for row in rows] == ["ok", "ok", "quarantined"]
    assert rows[2]["error"] == "no depth"


@pytest.mark.integration
def test_a_job_is_read_at_a_glance(job, todo, mlflow_home, client, store):
    config, _ = job
    clips = [SimpleNamespace(content_hash=name, frames=9) for name in ("b", "a")]
    method = config.fill.method
    metrics = {"a": {f"{method}/psnr": 20.0, "copy_source/psnr": 12.0, f"{method}/flow_px": 1.0}}
    summary = remembered(job, mlflow_home, store, [[outcome(todo[0])]], metrics=metrics, clips=clips)
    run = client.get_run(summary.mlflow_run)
    assert re.fullmatch(rf"small, {method}, \d{{4}}-\d\d-\d\d \d\d:\d\d", run.info.run_name)
    assert (run.data.tags["flow"], run.data.tags["dataset"]) == ("recapture", "small")
    assert run.data.metrics["result/psnr"] == run.data.metrics[f"{method}/psnr"] == 20.0
    assert {name for name in run.data.metrics if name.startswith("result/")} == {"result/psnr"}
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, json.loads(given.dataset.profile)) == ("small", {"clips": 2, "frames": 18})
    assert json.loads(given.dataset.source) == {"uri": "https://host/videos"}
    assert [tag.value for tag in given.tags] == ["recapture"]
    again = remembered(job, mlflow_home, store, [[outcome(todo[0])]], metrics=metrics, clips=clips[::-1])
    assert client.get_run(again.mlflow_run).inputs.dataset_inputs[0].dataset.digest == given.dataset.digest

    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(experiment.tags["mlflow.sharedViewState.recapture"])
    figures = [column[9:-1] for column in view["selectedColumns"] if column.startswith("metrics.`")]
    assert figures == list(FIRST_FIGURES) and len(figures) == 5
    note = experiment.tags["mlflow.note.content"]
    link = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    assert f"{link}&viewStateShareKey=recapture" in note
    assert f"| `psnr` | dB | {METRICS['psnr'].definition} |" in note

    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "my own words")
    client.set_experiment_tag(experiment.experiment_id, "mlflow.experimentKind", "genai_development_inferred")
    remembered(job, mlflow_home, store, [[outcome(todo[0])]])
    tags = client.get_experiment(experiment.experiment_id).tags
    assert tags["mlflow.note.content"] == "my own words"
    assert tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.integration
def test_secrets_of_the_configuration_and_of_errors_stay_out(job, todo, mlflow_home, client, store):
    error = f"cannot read https://me:{SECRET}@host/videos/a.mp4"
    failures = [Failure(todo[0].name, "deliver", error)]
    done = [[outcome(todo[0], "quarantined", error=error)]]
    summary = remembered(job, mlflow_home, store, done, failures=failures)
    run = client.get_run(summary.mlflow_run)
    child = children(client, run)["deliver"]
    assert run.data.params["dataset.uri"] == "https://host/videos"
    for each in (run, child):
        assert SECRET not in str(each.to_dictionary())
        folder = Path(client.download_artifacts(each.info.run_id, ""))
        for file in (path for path in folder.rglob("*") if path.is_file()):
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.integration
def test_pictures_of_so_many_finished_videos_are_kept_as_configured(job, todo, mlflow_home, client, store):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "png")
    for item in todo[:2]:
        with store.create("deliver", item.key) as output:
            output.write_bytes("contact_sheet.png", picture.getvalue())
            output.write_bytes("video.mp4", b"video")
            output.write_json("numbers.json", {})
    summary = remembered(job, mlflow_home, store, [], ready=[item.name for item in todo[:2]])
    videos = client.list_artifacts(summary.mlflow_run, "videos")
    assert [entry.path for entry in videos] == ["videos/clip"]
    files = [entry.path for entry in client.list_artifacts(summary.mlflow_run, "videos/clip/0")]
    assert sorted(files) == ["videos/clip/0/contact_sheet.png", "videos/clip/0/video.mp4"]
    assert "images" in [entry.path for entry in client.list_artifacts(summary.mlflow_run)]


@pytest.mark.integration
def test_a_picture_that_is_gone_stops_nothing(job, todo, mlflow_home, client, store, caplog):
    summary = remembered(job, mlflow_home, store, [], ready=[todo[0].name])
    assert client.get_run(summary.mlflow_run).info.status == "FINISHED"
    assert f"no pictures of {todo[0].name}" in caplog.text


@pytest.mark.integration
def test_a_job_that_breaks_ends_as_failed(job, todo, mlflow_home, client):
    config, plan = job
    record = JobRecord(config, "r2", mlflow_home, flow="recapture")
    with pytest.raises(KeyboardInterrupt), record:
        record.begin(plan)
        record.add(plan, [outcome(todo[0])])
        run_id = record.run.run_id
        raise KeyboardInterrupt
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert children(client, run)["deliver"].info.status == "FAILED"


@pytest.mark.integration
def test_a_server_that_is_away_stops_nothing_and_is_said_once(job, todo, store, caplog):
    with caplog.at_level(logging.WARNING, logger="recapture"):
        summary = remembered(job, ("http://127.0.0.1:9", None), store, [[outcome(todo[0])]])
    assert summary.mlflow_run is None
    said = [record for record in caplog.records if record.name.startswith("recapture")]
    assert len(said) == 1
    assert "is unreachable" in said[0].getMessage()


def test_tracking_that_is_off_needs_no_mlflow(job, todo, store):
    assert remembered(job, (None, None), store, [[outcome(todo[0])]]).mlflow_run is None


def test_the_code_version_names_release_and_commit():
    import recapture

    tags = code_version()
    assert tags["recapture_version"] == recapture.__version__
    if (Path(recapture.__file__).resolve().parents[2] / ".git").exists():
        assert len(tags["mlflow.source.git.commit"].removesuffix("-dirty")) >= 7


@pytest.mark.integration
def test_shards_of_nothing_new_are_told_seldom_and_the_last_counts_are_whole(
    job, todo, mlflow_home, client, store, monkeypatch
):
    monkeypatch.setattr("recapture.tasks.engine.mlflow_record.PAUSE_SECONDS", 1000.0)
    reused, made = [outcome(todo[0], "reused")], [outcome(todo[1])]
    shards = [*[reused] * 20, made, *[reused] * 20]
    run = client.get_run(remembered(job, mlflow_home, store, shards).mlflow_run)
    child = children(client, run)["deliver"]
    points = client.get_metric_history(child.info.run_id, "items_reused")
    assert [(point.step, point.value) for point in points] == [(1, 1), (21, 20), (41, 40)]
    assert child.data.metrics["items_ok"] == 1
