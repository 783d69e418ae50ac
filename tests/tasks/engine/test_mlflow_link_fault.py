"""MLflow stopped and started in the middle of a job: said once each, and the job's end is remembered."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from recapture.tasks.engine import mlflow_link as tracking
from recapture.tasks.engine.mlflow_link import start_run

pytestmark = pytest.mark.integration


def said(caplog):
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("recapture")]
    return ["away" if " is unreachable " in message else "back" for message in messages]


def test_a_database_that_comes_back_is_written_again(mlflow_home, tmp_path, caplog, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(tracking, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "PAUSE_FACTOR", 0)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(mlflow_home[0]).search_experiments()  # migrates it
    shutil.copy(mlflow_home[0].removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    run = start_run(uri, "set", "job", {}, artifact_root=(tmp_path / "artifacts").as_uri())
    run.metrics({"items_ok": 1.0}, step=1)
    whole = (tmp_path / "mlflow.db").read_bytes()
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 1000)
    run.metrics({"items_ok": 2.0}, step=2)
    run.metrics({"items_ok": 3.0}, step=3)
    (tmp_path / "mlflow.db").write_bytes(whole)
    run.metrics({"items_ok": 4.0}, step=4)
    run.finish()
    assert said(caplog) == ["away", "back"]
    client = MlflowClient(uri)
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run.run_id, "items_ok")] == [1, 4]


def test_within_its_pause_a_server_that_is_away_is_asked_for_nothing_but_the_end(monkeypatch, caplog):
    asked = []
    link = tracking._Link("http://127.0.0.1:9")
    monkeypatch.setattr(link, "_connect", lambda: None)

    def fail(client):
        asked.append("asked")
        raise ConnectionError

    with caplog.at_level(logging.WARNING, logger="recapture"):
        for _ in range(5):
            link.call("metrics", fail)
        assert len(asked) == 1
        link.call("end of run", fail, last=True)
    assert len(asked) == 2
    assert said(caplog) == ["away"]


@pytest.mark.full
def test_a_server_stopped_and_started_mid_job_remembers_the_end(tmp_path, caplog, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(tracking, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "PAUSE_FACTOR", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    server = serve(tmp_path, port)
    try:
        run = start_run(uri, "set", "job", {})
        run.metrics({"items_ok": 1.0}, step=1)
        stop(server)
        run.metrics({"items_ok": 2.0}, step=2)
        server = serve(tmp_path, port)
        run.metrics({"items_ok": 3.0}, step=3)
        run.finish()
        client = MlflowClient(uri)
        assert client.get_run(run.run_id).info.status == "FINISHED"
        assert [point.step for point in client.get_metric_history(run.run_id, "items_ok")] == [1, 3]
    finally:
        stop(server)
    assert said(caplog) == ["away", "back"]


def serve(folder, port):
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 180
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return process
        except (URLError, OSError):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.3)


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
