"""The checks of `recapture doctor` for Prefect, MLflow and Ray."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from importlib.metadata import version
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from recapture.conf.redact import without_credentials
from recapture.conf.schema import RecaptureConfig
from recapture.flows.commands.doctor_nodes import check_nodes
from recapture.flows.commands.finding import Finding
from recapture.flows.environment import prepare_environment, tracking_uri

PATIENCE_SECONDS = 5
POOL = "recapture"  # of flows/prefect.yaml
NOT_FOUND = 404


def check_prefect(config: RecaptureConfig) -> Iterator[Finding]:
    """Yield whether Prefect works: over a server that answers, or over the job's own database."""
    prepare_environment(config)
    import prefect

    if tuple(map(int, version("fastapi").split(".")[:2])) >= (0, 151):
        message = f"fastapi {version('fastapi')} rejects requests of `prefect deploy`; jobs still run"
        yield Finding("prefect", "warn", message, "to deploy schedules: pip install 'fastapi>=0.139,<0.151'")
    if (url := prefect.settings.PREFECT_API_URL.value()) is None:
        database = str(prefect.settings.PREFECT_API_DATABASE_CONNECTION_URL.value() or "")
        home = prefect.settings.PREFECT_HOME.value()
        where = home if database.startswith("sqlite") else without_credentials(database)
        yield Finding("prefect", "ok", f"{prefect.__version__}; every job starts its own server over {where}")
        return
    way_out = "start it with `prefect server start`, or unset PREFECT_API_URL"
    found = _server("prefect", f"{prefect.__version__} at", url, f"{url.rstrip('/')}/health", way_out)
    yield found
    if found.status == "ok":
        yield from _pool(url.rstrip("/"))


def _pool(url: str) -> Iterator[Finding]:
    """Yield whether a worker waits for the runs of deployments; nothing where there is no pool for them."""
    request = Request(f"{url}/work_pools/{POOL}/workers/filter", b"{}", {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            workers = json.load(answer)
    except HTTPError as error:
        if error.code != NOT_FOUND:  # the server may ask for a password, which Prefect's client knows
            yield Finding(
                "prefect", "warn", f"work pool {POOL}: {error}", "look at it in Prefect's dashboard"
            )
        return
    online = sum(worker["status"] == "ONLINE" for worker in workers)
    way_out = f"start one: prefect worker start --pool {POOL}"
    status: Literal["ok", "warn"] = "ok" if online else "warn"
    message = f"work pool {POOL}: {online} workers; without one, runs of deployments wait"
    yield Finding("prefect", status, message, "" if online else way_out)


def check_mlflow(config: RecaptureConfig) -> Iterator[Finding]:
    """Yield whether MLflow's server answers, or its database accepts a connection."""
    installed = version("mlflow")
    uri = tracking_uri(config)
    if not config.tracking.enabled:
        yield Finding("mlflow", "ok", f"{installed}; disabled by tracking.enabled")
    elif uri.startswith(("http://", "https://")):
        way_out = (
            "start it with `mlflow server`, or unset tracking.uri; jobs run without it and log a warning"
        )
        found = _server("mlflow", f"{installed} at", uri, f"{uri.rstrip('/')}/health", way_out)
        yield Finding("mlflow", "ok" if found.status == "ok" else "warn", found.message, found.way_out)
    elif uri.startswith("postgresql"):
        yield _postgres(uri, installed)
    else:
        yield Finding(
            "mlflow",
            "ok",
            f"{installed} over {uri if uri.startswith('sqlite:') else without_credentials(uri)}",
        )


def _postgres(uri: str, installed: str) -> Finding:
    import sqlalchemy

    shown = f"{installed} over {without_credentials(uri)}"
    way_out = "start it, or fix tracking.uri and PGPASSWORD; jobs run without it and log a warning"
    try:
        engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": PATIENCE_SECONDS})
        with engine.connect():
            return Finding("mlflow", "ok", shown)
    except ImportError as error:
        return Finding("mlflow", "warn", f"{shown}: {error}", "pip install 'recapture[postgres]'")
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = without_credentials(str(error).partition("\n(Background")[0])
        return Finding("mlflow", "warn", f"{shown}: {reason}", way_out)


def check_ray(config: RecaptureConfig) -> Iterator[Finding]:
    """Yield whether Ray answers and has room for a worker of each stage."""
    execution = config.execution
    if execution.executor == "inline":
        yield Finding("ray", "ok", "disabled by execution.executor=inline; items run one after another")
        return
    import ray

    address = execution.ray_address or os.environ.get("RAY_ADDRESS")
    if address is None:
        yield Finding("ray", "ok", f"{ray.__version__}; every job starts it on this machine")
        yield from _gpus_here(config)
        return
    way_out = (
        "start it with `ray start --head`; if it requires a token, set RAY_AUTH_MODE=token; "
        "or unset execution.ray_address and RAY_ADDRESS"
    )
    host, _, port = address.rpartition(":")
    if address != "auto" and host and not _answers(host.removeprefix("ray://"), port):
        yield Finding("ray", "fail", f"no answer at {address}", way_out)
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        yield Finding("ray", "fail", f"{address}: {error}", way_out)
        return
    try:
        carries = ray.cluster_resources()
        yield _capacity(
            config, f"{ray.__version__} at {address}", carries.get("CPU", 0), carries.get("GPU", 0)
        )
        yield from check_nodes(config)
    finally:
        ray.shutdown()


def _capacity(config: RecaptureConfig, cluster: str, cpus: float, gpus: float) -> Finding:
    """Return whether a cluster has room for a worker of each stage, and its GPUs are used."""
    resources = config.execution.resources
    message = f"{cluster}: {cpus:g} CPUs, {gpus:g} GPUs"
    short = [name for name, wanted in resources.items() if wanted.cpus > cpus or wanted.gpus > gpus]
    if short:
        way_out = f"lower execution.resources of {', '.join(short)}, or add nodes"
        return Finding("ray", "fail", f"{message}, fewer than one worker needs", way_out)
    if gpus and not any(wanted.gpus for wanted in resources.values()):
        way_out = "start from --profile cluster, or set execution.resources"
        return Finding("ray", "warn", f"{message}; no stage asks for a GPU, so all work on CPUs", way_out)
    return Finding("ray", "ok", message)


def _gpus_here(config: RecaptureConfig) -> Iterator[Finding]:
    import torch

    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    short = [name for name, wanted in config.execution.resources.items() if wanted.gpus > here]
    if short:
        way_out = f"set execution.resources.{short[0]}.gpus to 0, or use a machine with GPUs"
        yield Finding("ray", "fail", f"{here} GPUs here; more are requested by {', '.join(short)}", way_out)


def _server(name: str, what: str, shown: str, health: str, way_out: str) -> Finding:
    shown = without_credentials(shown)
    if not health.startswith(("http://", "https://")):
        return Finding(name, "fail", f"{shown} is not an http address", way_out)
    try:
        with urlopen(health, timeout=PATIENCE_SECONDS):
            return Finding(name, "ok", f"{what} {shown} answers")
    except (OSError, ValueError) as error:
        return Finding(name, "fail", f"{what} {shown}: {error}", way_out)


def _answers(host: str, port: str) -> bool:
    try:
        with socket.create_connection((urlsplit(f"//{host}").hostname or host, int(port)), PATIENCE_SECONDS):
            return True
    except (OSError, ValueError):
        return False
