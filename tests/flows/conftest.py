"""One Prefect server for all tests of flows, small jobs that finish in seconds, and the command line."""

import os
import shutil
import sys
from dataclasses import dataclass

import pytest
from support import bare_job
from support.bare_job import run_bare

from recapture.conf.load import load_config

SCENE = "scenes://?count={count}&seed=3&frames=5&height=48&width=64"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real Prefect server on its own database."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from recapture.flows.environment import QUIET

    os.environ.update(QUIET)
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


def configured(root, *words, count=1):
    """Return the settings of a small inline job below `root`; words are settings.

    It measures no baselines and delivers no side-by-side video unless the words ask for them: both are work.
    """
    return load_config(
        arguments=[
            *("--dataset.name", "small", "--dataset.uri", SCENE.format(count=count)),
            *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
            *("--execution.executor", "inline", "--tracking.enabled", "false", "--fill.method", "classical"),
            *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
            *("--measure.baselines", "false", "--deliver.side_by_side", "false"),
            *words,
        ]
    )


@pytest.fixture(scope="session")
def job_below(prefect_server):
    """Return `configured`, once there is a Prefect server: for jobs that several tests share."""
    return configured


@pytest.fixture
def job(tmp_path, job_below):
    """Return a function that configures a small job below tmp_path; words are settings."""
    return lambda *words, count=1: job_below(tmp_path, *words, count=count)


@pytest.fixture(scope="session")
def finished_once(prefect_server, tmp_path_factory):
    from recapture.flows.recapture_dataset import recapture

    root = tmp_path_factory.mktemp("finished")
    return root, recapture(configured(root))


@pytest.fixture
def finished(finished_once, tmp_path):
    """Copy what the small job leaves to tmp_path, as if it had run there; return its summary."""
    root, summary = finished_once
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return summary


@pytest.fixture(scope="session")
def finished_bare(tmp_path_factory):
    """The folder of a finished job that `run_bare` has made; tests copy it."""
    root = tmp_path_factory.mktemp("finished_bare")
    run_bare(bare_job.configure(root, count=1))
    return root


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def recapture_command(monkeypatch, capsys):
    """Return a function that runs `recapture` with words in this process, which imports nothing anew."""
    environment = dict(os.environ)

    def run(*words):
        from recapture.flows.cli import main

        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["recapture", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return Answer(end.value.code or 0, *capsys.readouterr())

    yield run
    os.environ.clear()
    os.environ.update(environment)
