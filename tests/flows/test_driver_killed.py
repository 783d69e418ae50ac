"""The driver of a real job on Ray dies by SIGKILL; the next run finishes what is missing, byte for byte."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.integration


def command(root, *words):
    return [
        *(sys.executable, "-m", "recapture.flows.cli", "run", "--dataset.name", "small"),
        *("--dataset.uri", "scenes://?count=3&seed=5&frames=5&height=48&width=48"),
        *(
            "--trajectories",
            "[{preset: orbit_left, angle_degrees: 8}]",
            "--tracking.enabled",
            "false",
            "--fill.method",
            "classical",
        ),
        *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state", *words),
    ]


def artifacts(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("artifacts/objects/**/*.*"))}


def committed(root, stage):
    return {path: path.stat().st_mtime_ns for path in root.glob(f"artifacts/objects/{stage}/*/*/meta.json")}


@pytest.mark.full  # test_kill_points_fault.py kills inline jobs on every commit
@pytest.mark.timeout(900)
def test_a_killed_job_run_again_equals_an_undisturbed_one_and_repeats_nothing(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    subprocess.run(command(undisturbed), check=True, timeout=280, capture_output=True)

    driver = subprocess.Popen(
        command(disturbed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 250
    while not committed(disturbed, "render") and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait(timeout=30)
    ingested = committed(disturbed, "ingest")
    assert ingested and not committed(disturbed, "deliver")

    subprocess.run(command(disturbed), check=True, timeout=280, capture_output=True)
    assert committed(disturbed, "ingest") == ingested
    assert artifacts(disturbed) == artifacts(undisturbed)
    assert len(committed(disturbed, "deliver")) == 3
