"""A job killed by SIGKILL at any moment and run again equals a job that nobody disturbed, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support/kill_points.py"


@pytest.mark.parametrize(
    ("points", "clips", "seed"),
    [(10, 1, 7), pytest.param(200, 2, 8, marks=[pytest.mark.full, pytest.mark.timeout(6000)])],
)
def test_killed_at_any_moment_and_run_again_it_equals_an_undisturbed_job(tmp_path, points, clips, seed):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(points), str(clips), str(seed)],
        capture_output=True,
        text=True,
        timeout=6000,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    records = found["points"]
    assert len(records) == points
    assert sum(record["killed"] for record in records) > 0.6 * points
    for record in records:
        assert record["again"] == 0, done.stderr
        assert record["same"] and record["kept"] and record["unnamed"] == [], record
    # Among them are kills in the middle: neither before the first file nor after the last.
    assert sum(0 < record["files_before"] < found["files"] for record in records) > 0.4 * points
