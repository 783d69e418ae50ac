"""Two jobs at the same time, with one folder of state and one store: neither disturbs the other."""

import os
import subprocess
import sys

import pytest
from support.bare_job import SCENES

from recapture.datasets.store.lease import leases
from recapture.datasets.store.manifest import read_manifest

CHEAP = [
    *("--execution.executor", "inline", "--fill.method", "classical", "--depth.source", "given"),
    *("--measure.baselines", "false", "--deliver.side_by_side", "false"),
    *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
]


def both(tmp_path, settings):
    """Run a job for each of the settings, all at once, and return what they said; all must succeed."""
    places = [f"--{name}={tmp_path}/{name}" for name in ("store", "outputs", "state")]
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") and name != "MLFLOW_TRACKING_URI"
    }
    jobs = []
    for own in settings:
        command = [sys.executable, "-m", "recapture.flows.cli", "run", *places, *CHEAP, *own]
        jobs.append(
            subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [job.communicate(timeout=800)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * len(jobs), "\n".join(said)
    return said


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.timeout(900)  # each starts a Prefect server, and both migrate one database
def test_two_runs_of_different_datasets_with_one_prefect_home_both_finish(tmp_path):
    uris = [SCENES.format(count=2).replace("seed=3", f"seed={seed}") for seed in range(2)]
    names = ("one", "two")
    both(tmp_path, [["--dataset.name", name, "--dataset.uri", uri] for name, uri in zip(names, uris)])
    for name in names:
        assert len(list((tmp_path / "outputs" / name).rglob("recapture.mp4"))) == 2


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.timeout(900)
def test_two_runs_with_the_shares_of_one_dataset_make_every_video_once(tmp_path):
    dataset = ["--dataset.name", "set", "--dataset.uri", SCENES.format(count=4)]
    shares = [[*dataset, "--dataset.share", f"{number}/2"] for number in (1, 2)]
    both(tmp_path, shares)
    store = str(tmp_path / "store")
    rows = read_manifest(store, "set", "deliver").values()
    assert (
        len({row["clip_id"] for row in rows}) == 4 == len(list((tmp_path / "outputs").rglob("recapture.mp4")))
    )
    assert all(row["status"] == "ok" and row["attempts"] == 1 for row in rows)
    assert len({row["run_id"] for row in rows}) == 2 and not leases(store)
    assert {path.parent.name for path in (tmp_path / "store/manifests/set/deliver").rglob("*.parquet")} == {
        "1-of-2",
        "2-of-2",
    }
    again = both(tmp_path, [dataset])  # one job over all of it finds every artifact of both
    assert len(read_manifest(store, "set", "deliver")) == 4
    assert {row["status"] for row in read_manifest(store, "set", "deliver").values()} == {"ok"}, again
