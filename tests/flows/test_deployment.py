"""prefect.yaml on a real server: the deployment registers, has its schedule, and a worker completes a run."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.flows.commands.deployments import deployments_text
from recapture.flows.commands.doctor_servers import _pool
from recapture.flows.recapture_dataset import recapture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 151),
        reason="`prefect deploy` of Prefect 3.8 sends nulls that fastapi >= 0.151 refuses with a 422",
    ),
]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def prefect(prefect_server):
    """Return a function that runs `prefect` against the server of all tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    environment |= {"PREFECT_API_URL": PREFECT_API_URL.value(), "DO_NOT_TRACK": "1"}

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def printed(*words):
    return yaml.safe_load(deployments_text(load_config(arguments=words)))


def test_the_deployments_that_the_package_prints_have_the_given_settings_as_parameters():
    ours = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    assert printed() == ours
    for deployment, plain in zip(
        printed("--dataset.uri", "s3://b/v", "--store", "s3://b/a", "--fill.steps", "9")["deployments"],
        ours["deployments"],
        strict=True,
    ):
        config = deployment["parameters"]["config"]
        given = {"dataset": {"name": "sample", "uri": "s3://b/v"}, "store": "s3://b/a", "fill": {"steps": 9}}
        assert config == plain["parameters"]["config"] | given
        RecaptureConfig(**config)
        assert {**deployment, "parameters": 0} == {**plain, "parameters": 0}
    masked = {one["name"]: one for one in printed("--mask.objects", "[1]")["deployments"]}
    assert masked["outpaint"]["parameters"]["config"]["mask"] == {"objects": [1]}


def test_a_deployment_is_printed_with_no_credentials():
    with pytest.raises(UserError, match="put them into the environment of the worker"):
        printed("--tracking.uri", "postgresql://me:pw@db/runs")


def ask(url, body):
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    "module", ["recapture_dataset", "recapture"]
)  # the second: registered before the move
def test_both_entry_points_of_the_recapture_flow_load_the_same_flow(module):
    flow = load_flow_from_entrypoint(f"recapture.flows.{module}.recapture", use_placeholder_flow=False)
    assert flow is recapture and flow.name == "recapture"


def test_a_deployment_with_a_misspelled_preset_is_refused_before_anything_runs():
    given = {"config": {"trajectories": [{"preset": "orbit_rigth"}]}}
    with pytest.raises(ParameterTypeError, match=r"trajectories.0.preset: Input should be .*orbit_right"):
        recapture.validate_parameters(given)


def test_prefects_form_offers_the_presets():
    schema = json.dumps(parameter_schema(recapture).model_dump())
    assert '"orbit_right", "orbit_up"' in schema


def test_the_nightly_deployment_is_scheduled_and_a_worker_completes_its_run(prefect, tmp_path):
    url = PREFECT_API_URL.value()
    assert list(_pool(url)) == []
    ask(f"{url}/work_pools/", {"name": "recapture", "type": "process"})
    (none,) = _pool(url)
    assert none.status == "warn" and none.way_out == "start one: prefect worker start --pool recapture"
    prefect("deploy", "--all")
    deployments = {one["name"]: one for one in ask(f"{url}/deployments/filter", {})}
    schedules = {
        name: [(s["schedule"]["cron"], s["active"]) for s in one["schedules"]]
        for name, one in deployments.items()
    }
    on_demand = {"outpaint": [], "transfer": []}
    assert schedules == {"nightly": [("0 2 * * *", True)], "weekly": [("0 3 * * 6", True)], **on_demand}
    assert deployments["transfer"]["entrypoint"].endswith("transfer")
    assert RecaptureConfig(**deployments["transfer"]["parameters"]["config"]).transfer.reference
    assert deployments["outpaint"]["entrypoint"].endswith("inpaint")
    assert RecaptureConfig(**deployments["outpaint"]["parameters"]["config"]).mask.given
    assert deployments["weekly"]["entrypoint"].endswith("train_iterative")
    nightly = deployments["nightly"]
    assert nightly["entrypoint"] == "recapture.flows.recapture_dataset.recapture"
    assert nightly["parameters"]["config"]["dataset"]["uri"] == "sample://"

    config = {
        "dataset": {"name": "tiny", "uri": "scenes://?count=1&seed=3&frames=5&height=32&width=48"},
        "trajectories": [{"preset": "orbit_right", "angle_degrees": 10}],
        **{name: str(tmp_path / name) for name in ("store", "outputs", "state")},
        "execution": {"executor": "inline"},
        "tracking": {"enabled": False},
    }
    run = ask(f"{url}/deployments/{nightly['id']}/create_flow_run", {"parameters": {"config": config}})
    prefect("worker", "start", "--pool", "recapture", "--run-once")
    ended = {
        "id": {"any_": [run["id"]]},
        "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
    }
    deadline = time.monotonic() + 120
    while not (runs := ask(f"{url}/flow_runs/filter", {"flow_runs": ended})):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [(run["name"], run["state"]["type"]) for run in runs] == [("tiny", "COMPLETED")]
    assert len(list((tmp_path / "outputs/tiny").rglob("recapture.mp4"))) == 1
    assert [finding.status for finding in _pool(url)] == ["ok"]
    made = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    artifacts = {artifact["key"]: artifact for artifact in ask(f"{url}/artifacts/filter", made)}
    assert artifacts["recapture-progress"]["data"] == 100
    assert "tiny: 1 of 1 videos" in artifacts["recapture-summary"]["data"]
