"""The services of deploy/compose.yaml as plain processes on loopback, each with its own command."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from support.compose_file import example_values, read

FOREIGN = ("postgres", "s3")  # images of others: whoever starts them gives their ports
PORTS = {"postgres": 5432, "s3": 8333, "prefect": 4200, "mlflow": 5000, "ray-head": 6379}
OTHERS = ("8080", "8265")  # ports that one process uses for itself
START_SECONDS = 240


class Processes:
    """Processes of services; hosts and ports of the file become free ports of 127.0.0.1."""

    def __init__(self, root: Path, foreign: Mapping[str, int], values: Mapping[str, str]) -> None:
        self.services: dict[str, Any] = read("compose.yaml", {**example_values(), **values})["services"]
        self.root, self.running = root, dict[str, subprocess.Popen[bytes]]()
        self.ports = {name: foreign.get(name) or _free() for name in PORTS}
        self.others = {port: str(_free()) for port in OTHERS}
        binaries = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "AWS_"))}
        self.shared = kept | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "RAY_TMPDIR": str(root / "ray"),  # other Rays may run beside this one
            "PREFECT_HOME": str(root / "home"),
            "OMP_NUM_THREADS": "1",
        }

    def environment(self, name: str) -> dict[str, str]:
        """Return what a service's process has for environment."""
        given = self.services[name]["environment"]
        return self.shared | {key: self._here(str(value)) for key, value in given.items()}

    def start(self, name: str, copy: str = "", **more: str) -> subprocess.Popen[bytes]:
        """Start a service's command in the folder of this topology; copy names one of several."""
        command = [self._here(str(word), name) for word in self.services[name]["command"]]
        with (self.root / f"{name}{copy}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment(name) | more,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name + copy] = process
        return process

    def run(self, name: str, *words: str, timeout: float = START_SECONDS, **more: str) -> str:
        """Run a command (by default its own) with a service's environment; return what it prints."""
        command = words or [self._here(str(word), name) for word in self.services[name]["command"]]
        environment = self.environment(name) | more
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def wait_until_healthy(self, name: str, copy: str = "") -> None:
        """Wait until the health check of a service passes."""
        check = [self._here(str(word), name) for word in self.services[name]["healthcheck"]["test"][1:]]
        deadline = time.monotonic() + START_SECONDS
        while not self._passes(check, name):
            ended = self.running[name + copy].poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"{name}: {ended}: {self.log(name + copy)}")
            time.sleep(1)

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text("utf-8", "replace")[-3000:]

    def lose(self, name: str) -> None:
        """End a service with all that it has started, as a machine ends that loses its power."""
        for process in _tree(self.running.pop(name).pid):
            process.kill()

    def stop(self) -> None:
        """End what runs: first by SIGTERM, then by SIGKILL."""
        trees = [_tree(process.pid) for process in self.running.values()]
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs([process for tree in trees for process in tree], timeout=20)
        for process in alive:
            process.kill()

    def _passes(self, check: list[str], name: str) -> bool:
        if check[0] == "wget":
            try:
                with urlopen(check[-1], timeout=10):
                    return True
            except OSError:
                return False
        environment = self.environment(name)
        return subprocess.run(check, env=environment, capture_output=True, timeout=60).returncode == 0

    def _here(self, text: str, name: str = "") -> str:
        """Return a text of the file with hosts, ports and folders of this topology."""
        text = text.replace("0.0.0.0", "127.0.0.1").replace("/srv/recapture/state", str(self.root / "state"))
        for host, port in PORTS.items():
            text = re.sub(rf"(?<![\w.-]){host}:{port}\b", f"127.0.0.1:{self.ports[host]}", text)
        own = {str(PORTS[name]): str(self.ports[name])} if name in PORTS else {}
        for number, here in {**own, **self.others}.items():
            text = re.sub(rf"((?:^|[=:])){number}\b", rf"\g<1>{here}", text)
        return text


@contextmanager
def processes(root: Path, foreign: Mapping[str, int], values: Mapping[str, str]) -> Iterator[Processes]:
    """Yield the services, none of them started; end at last what was."""
    found = Processes(root, foreign, values)
    try:
        yield found
    finally:
        found.stop()


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tree(number: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(number)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
