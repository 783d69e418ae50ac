"""What the nodes of a job are busy with, as MLflow's system metrics: CPU, memory, GPUs.

MLflow's own monitor knows the machine that it runs on alone, and would be imported by every worker. Names and
variables are MLflow's: MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false turns it off,
MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is the seconds between two samples.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

logger = logging.getLogger(__name__)
SECONDS = 10.0
MEGABYTE = 1e6
Samples = Mapping[str, Mapping[str, float]]  # node -> name -> value


class Metrics(Protocol):
    """Where samples are logged: a run."""

    run_id: str | None

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None: ...


def node_sample() -> dict[str, float]:
    """Return what this machine is busy with: name -> value. CPU: since the last call."""
    import psutil

    memory = psutil.virtual_memory()
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_percentage": memory.percent,
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
    }
    return found | gpu_sample()


def gpu_sample() -> dict[str, float]:
    """Return use, memory and power of each GPU of this machine; nothing without one."""
    import pynvml

    found: dict[str, float] = {}
    try:
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
            memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
            found[f"gpu_{number}_utilization_percentage"] = float(
                pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
            )
            found[f"gpu_{number}_memory_usage_percentage"] = round(100 * memory.used / memory.total, 1)
            found[f"gpu_{number}_memory_usage_megabytes"] = memory.used / MEGABYTE
            found[f"gpu_{number}_power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000
    except pynvml.NVMLError:  # no driver, no GPU, or one that does not tell
        return found
    return found


class SystemMetrics:
    """Logs samples of all nodes to a run, from a thread, while it is open.

    samples: returns node -> sample. Names are `system/NAME` with one node, `system/NODE/NAME` with several.
    """

    def __init__(self, run: Metrics, samples: Callable[[], Samples]) -> None:
        self._run, self._samples, self._over = run, samples, threading.Event()
        self._seconds = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SECONDS)
        self._step = 0

    def __enter__(self) -> Self:
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0")
        if wanted and self._run.run_id is not None:
            threading.Thread(target=self._keep_logging, daemon=True, name="system metrics").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def log(self) -> None:
        """Take a sample of every node and log it; whatever fails costs this sample alone."""
        try:
            samples = {node: sample for node, sample in self._samples().items() if sample}
            single = len(samples) == 1
            named = {
                f"system/{name}" if single else f"system/{node}/{name}": value
                for node, sample in samples.items()
                for name, value in sample.items()
            }
            if named:
                self._run.metrics(named, self._step)
                self._step += 1
        except Exception as error:
            logger.info("no system metrics this time: %s", type(error).__name__)

    def _keep_logging(self) -> None:
        while not self._over.wait(self._seconds):
            self.log()
