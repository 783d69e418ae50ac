"""The services of deploy/compose.yaml as processes: a node and a driver are lost, and the job finishes."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import fsspec
import psutil
import pytest
from support.compose_processes import processes

postgres = pytest.importorskip("support.postgres_server")
pytestmark = [pytest.mark.full, pytest.mark.integration, pytest.mark.timeout(2400)]

CLIPS = 4
SMALL = {  # beside the settings of compose.yaml; `setup` makes them parameters of the deployments
    "RECAPTURE_FILL__METHOD": "classical",
    "RECAPTURE_MEASURE__BASELINES": "false",
    "RECAPTURE_TRAJECTORIES": "[{preset: orbit_right, angle_degrees: 10}]",
    "RECAPTURE_EXECUTION__RESOURCES": "{fill: {cpus: 1}, depth: {cpus: 1}, render: {cpus: 1}}",
}
STAGES = ("ingest", "depth", "render", "fill", "measure", "deliver")


@pytest.fixture
def root():
    """A folder with a short path, as paths of Ray's sockets have to be."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def topology(root, s3_endpoint):
    """PostgreSQL, S3, Prefect, MLflow, a Ray head and two Ray nodes, all healthy, and `setup` done."""
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server here; apt-get install postgresql")
    values = {
        "POSTGRES_PASSWORD": postgres.PASSWORD,
        "S3_ACCESS_KEY": os.environ["AWS_ACCESS_KEY_ID"],
        "S3_SECRET_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
        "RAY_TOKEN": "0123456789abcdef" * 4,
        "DATASET_NAME": "small",
        "DATASET_URI": f"scenes://?count={CLIPS}&seed=3&frames=9&height=48&width=64",
        "CPUS_PER_WORKER": "1",
    }
    with postgres.postgres_server(binaries) as database:
        for name in ("prefect", "mlflow"):
            database.create(name)
        ports = {"postgres": database.port, "s3": int(s3_endpoint.rpartition(":")[2])}
        with processes(root, ports, values) as services:
            services.database = database
            services.start("ray-head")
            services.start("prefect")
            services.start("mlflow")
            services.wait_until_healthy("ray-head")
            for copy in ("-1", "-2"):
                services.start("ray-worker", copy)
            for name in ("prefect", "mlflow"):
                services.wait_until_healthy(name)
            services.run("setup", **SMALL)
            yield services


def committed(storage):
    """Return path -> when it was written, of every marker of a finished artifact."""
    storage.invalidate_cache()
    return {
        path: found["LastModified"]
        for path, found in storage.find("recapture/artifacts/objects", detail=True).items()
        if path.endswith("meta.json")
    }


def wait_for(storage, stage, services, seconds=600):
    deadline = time.monotonic() + seconds
    while not any(f"/objects/{stage}/" in path for path in committed(storage)):
        assert time.monotonic() < deadline, services.log("driver")
        time.sleep(0.3)


def flow_runs(services):
    url = services.environment("driver")["PREFECT_API_URL"]
    body = json.dumps({"sort": "EXPECTED_START_TIME_ASC"}).encode()
    request = Request(f"{url}/flow_runs/filter", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return [run["state"]["type"] for run in json.load(answer) if run["deployment_id"]]


def test_a_deployment_survives_a_lost_node_and_a_lost_driver_and_repeats_nothing(topology):
    storage = fsspec.filesystem("s3")
    services = topology
    services.start("driver")
    services.wait_until_healthy("driver")
    services.run("driver", "prefect", "deployment", "run", "recapture/nightly")

    wait_for(storage, "ingest", services)
    services.lose("ray-worker-2")
    wait_for(storage, "render", services)
    services.lose("driver")
    # Markers are written last and never again: what is there now is there for good.
    finished = committed(storage)
    assert finished and not any("/deliver/" in path for path in finished)

    services.start("ray-worker", "-3")
    services.start("driver")
    services.wait_until_healthy("driver")
    watched = ("prefect", "deployment", "run", "recapture/nightly", "--watch")
    services.run("driver", *watched, timeout=900)
    after = committed(storage)
    assert {path: after[path] for path in finished} == finished
    stages = [path.split("/objects/")[1].split("/")[0] for path in after]
    assert {stage: stages.count(stage) for stage in set(stages)} == dict.fromkeys(STAGES, CLIPS)
    assert len(storage.glob("recapture/outputs/small/**/recapture.mp4")) == CLIPS

    assert flow_runs(services)[-1] == "COMPLETED"
    runs = services.database.rows(
        "prefect", "SELECT state_type FROM flow_run WHERE deployment_id IS NOT NULL"
    )
    assert ("COMPLETED",) in runs
    ended = services.database.rows("mlflow", "SELECT status FROM runs WHERE name LIKE 'recapture-%'")
    assert ("FINISHED",) in ended and len(ended) == 2
    assert storage.find("recapture/mlflow")  # by way of MLflow's server

    services.run("driver", *watched, timeout=900)
    assert committed(storage) == after
    secrets = (postgres.PASSWORD, services.services["driver"]["environment"]["RAY_AUTH_TOKEN"])
    for log in services.root.glob("*.log"):
        assert not any(secret in log.read_text("utf-8", "replace") for secret in secrets), log.name
    assert psutil.Process(services.running["ray-head"].pid).is_running()
