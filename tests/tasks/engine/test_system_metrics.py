"""System metrics: what every node is busy with, in MLflow's names."""

from types import SimpleNamespace

import pytest

from recapture.tasks.engine import system_metrics
from recapture.tasks.engine.system_metrics import SystemMetrics, gpu_sample, node_sample


class Run:
    run_id = "r"

    def __init__(self):
        self.logged = []

    def metrics(self, values, step=0):
        self.logged.append((step, dict(values)))


def test_one_node_has_plain_names_and_several_are_told_apart():
    run, nodes = Run(), {"a": {"cpu_utilization_percentage": 5.0}}
    metrics = SystemMetrics(run, lambda: nodes)
    metrics.log()
    nodes["b"] = {"cpu_utilization_percentage": 7.0}
    nodes["away"] = {}
    metrics.log()
    assert run.logged == [
        (0, {"system/cpu_utilization_percentage": 5.0}),
        (1, {"system/a/cpu_utilization_percentage": 5.0, "system/b/cpu_utilization_percentage": 7.0}),
    ]


def test_a_sample_that_fails_costs_itself_alone():
    run, answers = Run(), [OSError("away"), {"": {"x": 1.0}}]

    def samples():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    metrics = SystemMetrics(run, samples)
    metrics.log()
    metrics.log()
    assert run.logged == [(0, {"system/x": 1.0})]


@pytest.mark.parametrize(
    ("variable", "run_id", "starts"), [("true", "r", True), ("false", "r", False), ("true", None, False)]
)
def test_it_is_switched_off_by_mlflows_variable_and_without_a_run(monkeypatch, variable, run_id, starts):
    started = []
    thread = SimpleNamespace(start=lambda: started.append(True))
    monkeypatch.setattr(system_metrics.threading, "Thread", lambda **given: thread)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", variable)
    run = Run()
    run.run_id = run_id
    with SystemMetrics(run, dict):
        assert started == [True] * starts


def test_a_node_tells_its_cpu_and_memory_and_each_gpu(monkeypatch):
    sample = node_sample()
    assert 0 <= sample["cpu_utilization_percentage"] <= 100
    assert 0 < sample["system_memory_usage_percentage"] <= 100
    import pynvml

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: SimpleNamespace(used=20e9, total=80e9))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda gpu: SimpleNamespace(gpu=90 + gpu))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda gpu: 350_000)
    assert gpu_sample() == {
        f"gpu_{number}_{name}": value
        for number in (0, 1)
        for name, value in {
            "utilization_percentage": 90.0 + number,
            "memory_usage_percentage": 25.0,
            "memory_usage_megabytes": 20_000.0,
            "power_usage_watts": 350.0,
        }.items()
    }
