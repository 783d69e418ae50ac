"""The driver is told to stop, or loses its Prefect server: nothing made is lost, no process is left over."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from prefect.settings import PREFECT_API_URL
from support.bare_job import artifacts, configure, counts, run_bare

pytestmark = pytest.mark.integration


def environment(tmp_path, **more):
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return own | {"PREFECT_HOME": str(tmp_path / "prefect"), **more}


def start(tmp_path, *words, **more):
    """Start `recapture run` on the settings that `configure` gives."""
    config = configure(tmp_path, *words, count=3)
    (tmp_path / "job.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    return subprocess.Popen(
        [sys.executable, "-m", "recapture.flows.cli", "run", "--profile", str(tmp_path / "job.yaml")],
        stdout=subprocess.DEVNULL,
        stderr=(tmp_path / "stderr").open("w"),
        env=environment(tmp_path, **more),
        start_new_session=True,
    )


def wait_for(tmp_path, stage, driver):
    deadline = time.monotonic() + 150
    while not list(tmp_path.glob(f"artifacts/objects/{stage}/*/*/meta.json")):
        assert driver.poll() is None, (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


RAY = ("--execution.executor", "ray", "--execution.workers", "1")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ()),
        (signal.SIGTERM, RAY),
        pytest.param(signal.SIGINT, (), marks=pytest.mark.full),
        pytest.param(signal.SIGINT, RAY, marks=pytest.mark.full),
    ],
)
def test_a_driver_told_to_stop_leaves_no_process_and_the_next_run_repeats_nothing(
    request, tmp_path, number, words
):
    run_bare(configure(tmp_path / "undisturbed", count=3))
    server = {}
    if words:  # without a server the driver starts one of its own, which is to end with it
        request.getfixturevalue("prefect_server")
        server = {"PREFECT_API_URL": PREFECT_API_URL.value()}
    driver = start(tmp_path, *words, **server)
    wait_for(tmp_path, "render", driver)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(number)
    assert driver.wait(timeout=60) != 0
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert "Traceback" not in (said := (tmp_path / "stderr").read_text()), said

    made = len(list(tmp_path.glob("artifacts/objects/*/*/*/meta.json")))
    assert 0 < made < 18
    done = counts(run_bare(configure(tmp_path, count=3)))
    assert sum(count.get("reused", 0) for count in done.values()) == made
    assert artifacts(tmp_path) == artifacts(tmp_path / "undisturbed")


@pytest.mark.full
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_job_whose_prefect_server_stops_finishes_what_it_makes(tmp_path, comes_back):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(tmp_path, port)
    try:
        patience = {} if comes_back else {"PREFECT_CLIENT_MAX_RETRIES": "1"}
        driver = start(tmp_path, PREFECT_API_URL=f"http://127.0.0.1:{port}/api", **patience)
        wait_for(tmp_path, "depth", driver)
        server.kill()
        server.wait()
        if comes_back:
            server = serve(tmp_path, port)
        code = driver.wait(timeout=250)
    finally:
        server.kill()
        server.wait()
    done = counts(run_bare(configure(tmp_path, count=3)))
    assert {str(count) for count in done.values()} == {"{'reused': 3}"}
    assert len(list((tmp_path / "outputs/small").rglob("recapture.mp4"))) == 3
    assert (code == 0) == comes_back, (
        tmp_path / "stderr"
    ).read_text()  # it cannot say that it has ended well


def serve(tmp_path, port):
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=environment(tmp_path, PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).close()
            return process
        except (URLError, OSError):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.3)
