"""Whole jobs with Prefect's and MLflow's databases in PostgreSQL, by the command line."""

import json
import os
import subprocess
import sys

import pytest

from recapture.conf.errors import UserError
from recapture.conf.load import load_config
from recapture.flows.environment import tracking_destination, without_database_password

postgres = pytest.importorskip("support.postgres_server", reason="pip install 'recapture[postgres]'")
STAGES = ["ingest", "depth", "render", "fill", "measure", "deliver"]


EACH = """
import sys
from recapture.flows.cli import main
commands, words = sys.argv[1].split(","), sys.argv[2:]
for command in commands:
    name, *options = command.split()
    sys.argv[1:] = [name, *words, *options]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print("\x1e", flush=True)
"""  # in one process, which imports everything once: every job has its own Prefect run all the same


@pytest.fixture(scope="module")
def server():
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server here; apt-get install postgresql")
    with postgres.postgres_server(binaries) as running:
        running.create("prefect")
        running.create("mlflow")
        yield running


@pytest.fixture
def command(server, tmp_path):
    """Return a function that runs commands of `recapture` over PostgreSQL; further words are settings.

    It returns the process and what each command wrote.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    prefect = server.uri("prefect", driver="+asyncpg", password=postgres.PASSWORD)
    words = [
        *("--dataset.name", "small", "--dataset.uri", "scenes://?count=1&seed=3&frames=5&height=48&width=64"),
        *("--store", f"{tmp_path}/artifacts", "--outputs", f"{tmp_path}/outputs"),
        *("--state", f"{tmp_path}/state", "--execution.executor", "inline", "--fill.method", "classical"),
        *("--depth.source", "given", "--measure.baselines", "false"),
        *("--trajectories", "[{preset: orbit_right, angle_degrees: 10}]"),
        *("--tracking.uri", server.uri("mlflow", password=postgres.PASSWORD)),
    ]

    def run(commands, *more):
        done = subprocess.run(
            [sys.executable, "-c", EACH, commands, *words, *more],
            env=kept | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": prefect},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return done, done.stdout.split("\x1e\n")

    return run


@pytest.mark.integration
def test_a_job_is_in_both_databases_and_a_second_run_reuses_it(server, command, tmp_path):
    done, (first, second, status, doctor, _) = command("run,run,status --json,doctor --json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 videos" in first and "1 of 1 videos" in second and "is unreachable" not in done.stderr
    assert ["every artifact was already there" in text for text in (first, second)] == [False, True]

    runs = server.rows("prefect", "SELECT id, name, state_type FROM flow_run ORDER BY start_time")
    assert [run[1:] for run in runs] == [("small", "COMPLETED")] * 2
    states = [
        server.rows(
            "prefect",
            f"SELECT name, state_name FROM task_run WHERE flow_run_id = '{run}' ORDER BY start_time",
        )
        for run, *_ in runs
    ]
    assert states[0] == [(f"{stage} 1: 1 items", "Completed") for stage in STAGES]
    assert states[1] == [(f"{stage} 1: 1 items, all complete", "Reused") for stage in STAGES]

    parents = server.rows(
        "mlflow",
        "SELECT run_uuid, name, status FROM runs WHERE run_uuid NOT IN "
        "(SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId') ORDER BY start_time",
    )
    assert [status for _, _, status in parents] == ["FINISHED"] * 2
    for parent, *_ in parents:
        children = server.rows(
            "mlflow",
            "SELECT runs.name, runs.status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            f"WHERE tags.key = 'mlflow.parentRunId' AND tags.value = '{parent}' ORDER BY runs.start_time",
        )
        assert children == [(stage, "FINISHED") for stage in STAGES]
        told = dict(server.rows("mlflow", f"SELECT key, value FROM metrics WHERE run_uuid = '{parent}'"))
        assert (told["videos_delivered"], told["videos_wanted"]) == (1.0, 1.0)
    (stored,) = server.rows("mlflow", "SELECT artifact_location FROM experiments WHERE name = 'small'")
    assert stored == (f"{(tmp_path / 'state/mlflow-artifacts').as_uri()}/small",)
    assert list((tmp_path / "state/mlflow-artifacts").rglob("*.json"))
    assert not (tmp_path / "mlruns").exists() and not list(tmp_path.rglob("*.db"))

    assert [job["state"] for job in json.loads(status)["jobs"]] == ["finished"] * 2
    found = {finding["check"]: finding for finding in json.loads(doctor)}
    assert found["mlflow"]["status"] == "ok"
    assert f"127.0.0.1:{server.port}/mlflow" in found["mlflow"]["message"]
    assert f"own server over postgresql+asyncpg://127.0.0.1:{server.port}" in found["prefect"]["message"]

    # The passwords of both URIs, in anything that was written or said.
    places = {name: server.text(name) for name in ("prefect", "mlflow")}
    places |= {"terminal": done.stdout + done.stderr}
    places |= {str(path): path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()}
    assert [place for place, text in places.items() if postgres.PASSWORD in text] == []
    assert f"postgresql://127.0.0.1:{server.port}/mlflow" in places["prefect"]


@pytest.mark.integration
def test_doctor_reports_a_database_that_refuses_the_password(
    server, recapture_command, monkeypatch, tmp_path
):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    wrong = server.uri("mlflow", password=f"not-{postgres.PASSWORD}")
    words = ("--store", f"{tmp_path}/artifacts", "--state", f"{tmp_path}/state", "--tracking.uri", wrong)
    done = recapture_command("doctor", "--json", *words)
    assert postgres.PASSWORD not in done.out + done.err
    (refused,) = (finding for finding in json.loads(done.out) if finding["check"] == "mlflow")
    assert refused["status"] == "warn" and "password authentication failed" in refused["message"]


def test_the_password_of_a_database_moves_to_the_environment(monkeypatch):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    config = load_config(
        arguments=["--tracking.uri", "postgresql+psycopg://me:p%40ss@db:5432/runs?sslmode=require"]
    )
    moved = without_database_password(config)
    assert os.environ["PGPASSWORD"] == "p@ss"
    assert moved.tracking.uri == "postgresql+psycopg://me@db:5432/runs?sslmode=require"
    assert moved == config.model_copy(update={"tracking": moved.tracking})
    assert without_database_password(moved) is moved
    other = load_config(arguments=["--tracking.uri", "postgresql://me:other@db/runs"])
    with pytest.raises(UserError, match=r"different passwords.*~/\.pgpass") as refused:
        without_database_password(other)
    assert "p@ss" not in str(refused.value) and "other@" not in str(refused.value)
    monkeypatch.setenv("PGPASSWORD", "p@ss")  # so that it is gone after this test


@pytest.mark.parametrize("uri", ["postgresql://me:pw@db:port/runs", "postgresql:nothing"])
def test_a_uri_that_is_none_is_one_message_without_the_password(uri):
    with pytest.raises(UserError, match=r"tracking\.uri is no database URI; write postgresql://") as refused:
        without_database_password(load_config(arguments=["--tracking.uri", uri]))
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        (None, True),
        ("sqlite:////srv/mlflow.db", True),
        ("postgresql+psycopg://me@db/runs", True),
        ("https://mlflow.example", False),
        ("databricks", False),
    ],
)
def test_artifacts_of_a_database_lie_in_the_state_folder_and_those_of_a_server_with_it(tmp_path, uri, ours):
    words = ["--state", str(tmp_path), *(["--tracking.uri", uri] if uri else [])]
    assert tracking_destination(load_config(arguments=words))[1] == (
        f"file://{tmp_path}/mlflow-artifacts" if ours else None
    )
