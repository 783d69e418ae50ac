"""Two jobs over different datasets at the same time, with one folder of state: neither disturbs the other."""

import os
import subprocess
import sys

import pytest
from support.bare_job import SCENES


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.timeout(900)  # each starts a Prefect server, and both migrate one database
def test_two_runs_of_different_datasets_with_one_prefect_home_both_finish(tmp_path):
    places = [f"--{name}={tmp_path}/{name}" for name in ("store", "outputs", "state")]
    cheap = [
        *("--execution.executor", "inline", "--fill.method", "classical", "--depth.source", "given"),
        *("--measure.baselines", "false", "--deliver.side_by_side", "false"),
        *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
    ]
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") and name != "MLFLOW_TRACKING_URI"
    }
    jobs = []
    for seed, name in enumerate(("one", "two")):
        uri = SCENES.format(count=2).replace("seed=3", f"seed={seed}")
        dataset = ["--dataset.name", name, "--dataset.uri", uri]
        command = [sys.executable, "-m", "recapture.flows.cli", "run", *dataset, *places, *cheap]
        jobs.append(
            subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [job.communicate(timeout=800)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(said)
    for name in ("one", "two"):
        assert len(list((tmp_path / "outputs" / name).rglob("recapture.mp4"))) == 2
