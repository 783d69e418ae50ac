"""A job killed by SIGKILL at any moment and run again equals a job that nobody disturbed, byte for byte."""

import json

import pytest
from support.subprocesses import run_python


@pytest.mark.parametrize(
    ("points", "clips", "seed"),
    [(6, 1, 29), pytest.param(200, 2, 8, marks=[pytest.mark.full, pytest.mark.timeout(6000)])],
)
def test_killed_at_any_moment_and_run_again_it_equals_an_undisturbed_job(tmp_path, points, clips, seed):
    words = ("-m", "support.kill_points", str(tmp_path), str(points), str(clips), str(seed))
    done = run_python(*words, timeout=6000)
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
