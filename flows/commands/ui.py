"""`recapture ui`: serve the results pages and both dashboards over the databases of jobs, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from recapture.conf.errors import UserError
from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.flows.commands.serve_results import local_outputs
from recapture.flows.environment import artifact_root, tracking_uri

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 15
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Server:
    """The process of a dashboard, in its own session so that its workers end with it."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def wait_until_it_answers(self, stop: Event) -> None:
        """Wait until the port is open or `stop` is set; raise UserError if the process ends or is slow."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port) and not stop.is_set():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{self.name}'s server did not start; see {self.log}")
            time.sleep(0.3)


def serve_dashboards(config: RecaptureConfig, prefect_port: int, mlflow_port: int, results_port: int) -> int:
    """Start the servers, print their addresses, and stop them at SIGINT, SIGTERM or SIGHUP.

    A server that already runs (PREFECT_API_URL, an http tracking.uri) is only named, and so are outputs that
    are not on this machine. Returns the exit code; raises UserError for a port that is taken.
    """
    servers: list[Server] = []
    with _stop_at_signals() as stop:
        try:
            for name, port, command in _commands(config, prefect_port, mlflow_port, results_port):
                servers.append(_start(name, port, command, Path(config.state)))
            for server in servers:
                server.wait_until_it_answers(stop)
                if not stop.is_set():
                    print(f"{server.name}: http://{HOST}:{server.port}", flush=True)
            if not stop.is_set():
                print("Ctrl-C stops them." if servers else "Nothing to serve.", flush=True)
            ended: list[Server] = []
            while servers and not ended and not stop.wait(0.3):
                ended = [server for server in servers if server.process.poll() is not None]
        finally:
            _end(servers)
    for server in ended:
        print(f"{server.name} stopped unexpectedly; see {server.log}", file=sys.stderr)
    return int(bool(ended))


def _commands(
    config: RecaptureConfig, prefect_port: int, mlflow_port: int, results_port: int
) -> Iterator[tuple[str, int, Sequence[str]]]:
    places = [("Prefect", prefect_port, os.environ.get("PREFECT_API_URL"))]
    uri = tracking_uri(config)
    places.append(("MLflow", mlflow_port, uri if uri.startswith(("http://", "https://")) else None))
    outputs = local_outputs(config)
    places.append(("Results", results_port, None if outputs is not None else config.outputs))
    commands = {
        "Prefect": ("prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)),
        "MLflow": (
            *("mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1"),
            *("--backend-store-uri", uri, "--default-artifact-root", artifact_root(config)),
        ),
        "Results": ("recapture.flows.commands.serve_results", str(outputs), str(results_port)),
    }
    here = [(name, port) for name, port, elsewhere in places if elsewhere is None]
    for name, port in here:
        if _is_taken(port) or [taken for _, taken in here].count(port) > 1:
            raise UserError(f"port {port} on {HOST} is taken; choose another with --{name.lower()}-port")
    for name, port, elsewhere in places:
        if elsewhere is None:
            yield name, port, commands[name]
        else:
            there = "not served from here" if name == "Results" else "already running"
            print(f"{name}: {without_credentials(elsewhere)} ({there})", flush=True)


def _start(name: str, port: int, command: Sequence[str], logs: Path) -> Server:
    path = logs / f"{name.lower()}-server.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Server(name, port, path, process)


@contextmanager
def _stop_at_signals() -> Iterator[Event]:
    """Set an event at a signal; an exception could come between the start of a server and its record."""
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(servers: Sequence[Server]) -> None:
    for server in servers:
        _signal_group(server, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers:
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        _signal_group(server, signal.SIGKILL)  # its remaining workers
        server.process.wait()


def _signal_group(server: Server, number: int) -> None:
    with suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(server.process.pid, number)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
