"""One Prefect server for all tests of flows, and small jobs that finish in seconds."""

import os

import pytest

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


@pytest.fixture
def job(tmp_path, prefect_server):
    """Return a function that configures a small inline job below tmp_path; words are settings."""

    def configure(*words, count=1):
        return load_config(
            arguments=[
                *("--dataset.name", "small", "--dataset.uri", SCENE.format(count=count)),
                *("--store", f"{tmp_path}/artifacts", "--outputs", f"{tmp_path}/outputs"),
                *("--state", f"{tmp_path}/state", "--execution.executor", "inline"),
                *("--tracking.enabled", "false", "--fill.method", "classical"),
                *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
                *words,
            ]
        )

    return configure
