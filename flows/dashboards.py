"""Prefect's and MLflow's dashboards over the databases that jobs write, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from recapture.conf.load import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.flows.environment import artifact_root, tracking_uri

HOST = "127.0.0.1"
START_SECONDS = 180


def serve_dashboards(config: RecaptureConfig, prefect_port: int, mlflow_port: int) -> int:
    """Start both servers, print where they are, and stop them at an interrupt; return the exit code."""
    for name, port in (("prefect", prefect_port), ("mlflow", mlflow_port)):
        if _answers(port):
            raise UserError(f"port {port} on {HOST} is taken; choose another with --{name}-port")
    python = [sys.executable, "-m"]
    commands = {
        "Prefect": [*python, "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port)],
        "MLflow": [
            *python,
            *("mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1"),
            *("--backend-store-uri", tracking_uri(config), "--default-artifact-root", artifact_root(config)),
        ],
    }
    logs = Path(config.state)
    servers = {}
    for name, command in commands.items():
        with (logs / f"{name.lower()}-server.log").open("wb") as log:
            servers[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=os.environ, start_new_session=True
            )
    try:
        for (name, server), port in zip(servers.items(), (prefect_port, mlflow_port), strict=True):
            _wait(name, server, port, logs)
            print(f"{name}: http://{HOST}:{port}", flush=True)
        print("Ctrl-C stops both.", flush=True)
        while all(server.poll() is None for server in servers.values()):
            time.sleep(0.5)
        stopped = next(name for name, server in servers.items() if server.poll() is not None)
        print(f"{stopped} stopped by itself; see {logs}/{stopped.lower()}-server.log", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers.values():
            _stop(server)


def _wait(name: str, server: subprocess.Popen[bytes], port: int, logs: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"{name}'s server did not start; see {logs}/{name.lower()}-server.log")
        time.sleep(0.3)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
