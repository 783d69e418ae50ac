"""`recapture ui` as a process of its own: pages and dashboards answer, and none outlives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import psutil
import pytest

pytestmark = pytest.mark.integration


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def words(root, prefect_port, mlflow_port, results_port):
    ports = ("--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port))
    pages = ("--results-port", str(results_port), "--outputs", f"{root}/outputs")
    return ["ui", "--state", f"{root}/state", *ports, *pages]


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}


@pytest.fixture
def ui(tmp_path):
    """Start `recapture ui`; give the process and its three ports, and leave nothing behind."""
    ports = free_port(), free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "recapture.flows.cli", *words(tmp_path, *ports)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    family = psutil.Process(process.pid)
    seen = set()

    def children():
        seen.update(family.children(recursive=True))
        return set(seen)

    yield process, ports, children
    for left in seen | ({family} if process.poll() is None else set()):
        if left.is_running():
            left.kill()
    process.stdout.close()


def test_all_servers_answer_and_end_with_sigterm(ui, tmp_path):
    process, (prefect_port, mlflow_port, results_port), children = ui
    page = tmp_path / "outputs/my data/clip #1"
    page.mkdir(parents=True)
    (page / "page.mp4").write_bytes(bytes(range(100)))
    (page.parent / "index.html").write_text("the page")
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[0].strip() == f"Prefect: http://127.0.0.1:{prefect_port}"
    assert lines[1].strip() == f"MLflow: http://127.0.0.1:{mlflow_port}"
    assert urlopen(f"http://127.0.0.1:{prefect_port}/api/health", timeout=30).status == 200
    assert urlopen(f"http://127.0.0.1:{mlflow_port}/health", timeout=30).status == 200
    assert lines[2].strip() == f"Results: http://127.0.0.1:{results_port}"
    assert b"my%20data/index.html" in urlopen(f"http://127.0.0.1:{results_port}", timeout=30).read()
    part = Request(
        f"http://127.0.0.1:{results_port}/my%20data/clip%20%231/page.mp4", headers={"Range": "bytes=7-8"}
    )
    answer = urlopen(part, timeout=30)
    assert (answer.status, answer.read()) == (206, bytes([7, 8])), "without parts no browser can seek"
    servers = children()
    assert len(servers) >= 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=40) == 0
    assert [server for server in servers if server.is_running()] == []


def test_an_interrupt_while_they_start_ends_both(ui):
    process, _, children = ui
    deadline = time.monotonic() + 60
    while len(children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    servers = children()
    assert len(servers) >= 2
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=40) == 0
    assert [server for server in servers if server.is_running()] == []


@pytest.mark.parametrize("taken", ["prefect", "mlflow", "results"])
def test_a_taken_port_is_one_message_that_names_it_and_the_option(recapture_command, tmp_path, taken):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ports = [port if name == taken else free_port() for name in ("prefect", "mlflow", "results")]
        done = recapture_command(*words(tmp_path, *ports))
    assert done.code == 2
    assert f"port {port} on 127.0.0.1 is taken; choose another with --{taken}-port" in done.err
    assert "Traceback" not in done.err
