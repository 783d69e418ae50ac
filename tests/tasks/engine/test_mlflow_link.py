"""What a job tells MLflow arrives there, without secrets; and MLflow may be away."""

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recapture.conf.redact import without_credentials
from recapture.tasks.engine.mlflow_link import start_run
from recapture.tasks.engine.mlflow_names import mlflow_name

pytestmark = pytest.mark.integration
SECRET = "hunter2"


@pytest.fixture
def started(mlflow_home, request):
    uri, artifacts = mlflow_home
    return start_run(uri, request.node.name[:60], "job", {"dataset": "set"}, artifact_root=artifacts)


def read(client, run_id, file):
    return Path(client.download_artifacts(run_id, file)).read_text()


def test_runs_are_parent_and_children_of_one_experiment(started, client):
    child = started.child("depth", {"stage": "depth"})
    started.finish()
    child.finish(failed=True)
    parent_run, child_run = client.get_run(started.run_id), client.get_run(child.run_id)
    assert child_run.data.tags["mlflow.parentRunId"] == started.run_id
    assert child_run.info.experiment_id == parent_run.info.experiment_id
    assert (parent_run.info.run_name, child_run.info.run_name) == ("job", "depth")
    assert (parent_run.info.status, child_run.info.status) == ("FINISHED", "FAILED")
    assert child_run.data.tags["stage"] == "depth"
    assert parent_run.data.tags["dataset"] == "set"


def test_a_second_job_of_a_dataset_goes_into_the_same_experiment(started, mlflow_home, client, request):
    second = start_run(mlflow_home[0], request.node.name[:60], "job", {}, artifact_root=mlflow_home[1])
    ids = {client.get_run(run.run_id).info.experiment_id for run in (started, second)}
    assert len(ids) == 1
    assert started.run_id != second.run_id


def test_many_parameters_metrics_and_tags_arrive(started, client):
    started.params({f"p{number}": number for number in range(130)})
    started.metrics({f"m{number}": number / 2 for number in range(1100)}, step=3)
    started.tags({"one": "1", "two": "2"})
    found = client.get_run(started.run_id).data
    assert found.params == {f"p{number}": str(number) for number in range(130)}
    assert found.metrics["m1099"] == 549.5
    assert len(found.metrics) == 1100
    assert (found.tags["one"], found.tags["two"]) == ("1", "2")
    assert [point.step for point in client.get_metric_history(started.run_id, "m0")] == [3]


def test_a_metric_keeps_its_steps_and_may_be_undefined(started, client):
    for step, value in enumerate([1.0, math.nan, 3.0]):
        started.metrics({"psnr": value}, step=step)
    history = sorted(client.get_metric_history(started.run_id, "psnr"), key=lambda point: point.step)
    assert [point.value for point in history] == [1.0, pytest.approx(math.nan, nan_ok=True), 3.0]


@pytest.mark.parametrize("name", ["copy_source/psnr", "psnr (holes)", "a?b", "Δ", "x" * 40])
def test_any_metric_name_is_made_acceptable(started, client, name):
    started.metrics({name: 1.0})
    assert client.get_run(started.run_id).data.metrics == {mlflow_name(name): 1.0}


@pytest.mark.parametrize("clip", ["IMG (1)", "Title [x]", "50% off", "é 🎬", "a#b+c", "猫" * 66])
def test_pictures_and_files_of_a_clip_of_any_name_arrive(started, client, tmp_path, caplog, clip):
    (tmp_path / "recapture.mp4").write_bytes(b"video")
    started.image(Image.new("RGB", (8, 8)), f"contact_sheets/{clip}")
    started.artifact(str(tmp_path / "recapture.mp4"), f"videos/{clip}")
    started.metrics({f"{clip}/psnr": 3.0})
    started.text("all arrived", "end.txt")
    assert caplog.messages == []
    folder = f"videos/{mlflow_name(clip)}" if len(clip) < 20 else mlflow_name(f"videos/{clip}")
    assert [entry.path for entry in client.list_artifacts(started.run_id, folder)] == [
        f"{folder}/recapture.mp4"
    ]
    assert Path(client.download_artifacts(started.run_id, f"{folder}/recapture.mp4")).read_bytes() == b"video"
    pictures = [entry.path for entry in client.list_artifacts(started.run_id, "images")]
    shown = mlflow_name(f"contact_sheets/{clip}").replace("/", "~")
    assert sum(path.startswith(f"images/{shown}+") for path in pictures) == 2  # whole and small
    assert read(client, started.run_id, "end.txt") == "all arrived"
    assert client.get_run(started.run_id).data.metrics == {mlflow_name(f"{clip}/psnr"): 3.0}


def test_what_mlflow_finds_wrong_with_one_thing_is_no_outage(started, client, caplog):
    started._link.call("odd", lambda client: client.log_image(started.run_id, "no picture", key="a"))
    started._link.call(
        "odd", lambda client: client.log_image(started.run_id, Image.new("RGB", (8, 8)), key="(")
    )
    started.text("goes on", "end.txt")
    assert read(client, started.run_id, "end.txt") == "goes on"
    assert len(caplog.messages) == 2 and all("refused odd" in message for message in caplog.messages)


def test_texts_tables_pictures_and_files_arrive(started, client, tmp_path):
    import matplotlib.pyplot as plt

    started.text("clips: 2", "config.yaml")
    started.table([{"item": "a", "psnr": 1.5}, {"item": "b", "error": "no depth"}], "depth.json")
    started.image(Image.fromarray(np.zeros((4, 6, 3), np.uint8)), "contact_sheets/a")
    figure = plt.figure()
    started.figure(figure, "curve.png")
    plt.close(figure)
    (tmp_path / "v.mp4").write_bytes(b"video")
    started.artifact(str(tmp_path / "v.mp4"), "videos/a")
    assert read(client, started.run_id, "config.yaml") == "clips: 2"
    table = json.loads(read(client, started.run_id, "depth.json"))
    assert table["columns"] == ["item", "psnr", "error"]
    assert table["data"] == [["a", 1.5, None], ["b", None, "no depth"]]
    assert read(client, started.run_id, "videos/a/v.mp4") == "video"
    top = {entry.path for entry in client.list_artifacts(started.run_id)}
    assert {"config.yaml", "curve.png", "depth.json", "images", "videos"} <= top


def test_an_empty_table_is_no_table(started, client):
    started.table([], "depth.json")
    started.table([{}], "depth.json")
    assert client.list_artifacts(started.run_id) == []


URLS = [
    (f"https://me:{SECRET}@host:5000/path", "https://host:5000/path"),
    (f"http://{SECRET}@host", "http://host"),
    (f"postgresql+psycopg://me:p@{SECRET}@db/mlflow", "postgresql+psycopg://db/mlflow"),
    (f"https://host/a.mp4?X-Amz-Signature={SECRET}&x=1", "https://host/a.mp4?X-Amz-Signature=***&x=1"),
    (f"https://host/a?v=2&token={SECRET}", "https://host/a?v=2&token=***"),
    (f"https://host/a?AWSAccessKeyId={SECRET}", "https://host/a?AWSAccessKeyId=***"),
    (f"https://host/a?sv=1&sig={SECRET}#t", "https://host/a?sv=1&sig=***#t"),
]
HARMLESS = [
    "s3://bucket/prefix",
    "sqlite:////a/b@c/mlflow.db",
    "scenes://?count=4&seed=3&frames=5",
    "/videos/bmx@home/003.mp4",
    "memory://name",
    "https://host/bmx@003?design=1",
    "no URL; mail me@here",
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_secrets_are_taken_out_of_urls_wherever_they_stand(url, shown):
    assert without_credentials(url) == shown
    text = f"clip 'a': cannot read '{url}' (timeout); see \"{url}\"\nnext <{url}>"
    assert SECRET not in without_credentials(text)
    assert without_credentials(text).startswith("clip 'a': cannot read '")
    assert without_credentials(without_credentials(url)) == without_credentials(url)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_holds_no_secret_stays_as_it_is(text):
    assert without_credentials(text) == text


def test_secrets_reach_mlflow_by_no_way(started, client):
    url = f"https://me:{SECRET}@host/videos?token={SECRET}"
    started.params({"dataset.uri": url})
    started.tags({"source": url})
    started.text(f"dataset:\n  uri: {url}\n", "config.yaml")
    started.table([{"error": f"cannot read {url}"}], "ingest.json")
    child = started.child("ingest", {"uri": url})
    for run_id in (started.run_id, child.run_id):
        assert SECRET not in str(client.get_run(run_id).to_dictionary())
    for file in ("config.yaml", "ingest.json"):
        content = read(client, started.run_id, file)
        assert SECRET not in content
        assert "token=***" in content


def test_a_refusal_costs_that_one_thing_and_is_said(started, client, caplog):
    started.params({"seed": 1})
    started.params({"seed": 2})
    started.metrics({"after": 1.0})
    found = client.get_run(started.run_id).data
    assert found.params == {"seed": "1"}
    assert found.metrics == {"after": 1.0}
    assert "refused parameters" in caplog.text


def everything(run):
    child = run.child("depth", {"stage": "depth"})
    for each in (run, child):
        each.params({"a": 1})
        each.metrics({"a": 1.0})
        each.tags({"a": "1"})
        each.text("a", "a.txt")
        each.table([{"a": 1}], "a.json")
        each.image(Image.new("RGB", (2, 2)), "a")
        each.artifact("/nowhere", "a")
        each.finish()
    return child


def test_a_server_that_is_away_is_said_once_and_costs_seconds(caplog):
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="recapture"):
        run = start_run(f"http://me:{SECRET}@127.0.0.1:9", "away", "job", {"dataset": "set"})
        child = everything(run)
    assert time.monotonic() - started < 30
    assert run.run_id is None
    assert child.run_id is None
    said = [record.getMessage() for record in caplog.records if record.name.startswith("recapture")]
    assert len(said) == 1
    assert said[0].startswith("MLflow at http://127.0.0.1:9 is unreachable (experiment: ")
    assert "the job continues" in said[0]


def test_a_server_that_goes_away_during_the_job_is_said_once(tmp_path, caplog):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = start_run(uri, "set", "job", {}, artifact_root=(tmp_path / "artifacts").as_uri())
    assert run.run_id is not None
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 1000)
    with caplog.at_level(logging.WARNING, logger="recapture"):
        everything(run)
    said = [record for record in caplog.records if record.name.startswith("recapture")]
    assert len(said) == 1
    assert "is unreachable" in said[0].getMessage()


def test_tracking_that_is_off_does_nothing_and_says_nothing(caplog):
    run = start_run(None, "set", "job", {})
    assert everything(run).run_id is None
    assert caplog.text == ""
