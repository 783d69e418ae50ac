"""Environment variables that Prefect, Ray and MLflow read at import, and where MLflow's records go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeVar

from recapture.conf.errors import UserError
from recapture.conf.pretrain import PretrainConfig
from recapture.conf.schema import RecaptureConfig, TrackingConfig

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # the first start migrates its database
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",  # the UI shows all
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",  # models are directories; nothing is downloaded
}


DATABASES = (
    "sqlite",
    "postgresql",
    "mysql",
    "mssql",
)  # databases that MLflow writes to directly, without a server
Settings = TypeVar("Settings", RecaptureConfig, PretrainConfig)


class Tracked(Protocol):
    """A configuration that names where a flow's state and runs are stored."""

    @property
    def state(self) -> str: ...

    @property
    def tracking(self) -> TrackingConfig: ...


def prepare_environment(config: Tracked) -> None:
    """Put Prefect's database into the job's state folder; variables that are already set stay."""
    home = Path(config.state).absolute() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    for variable, value in {**QUIET, "PREFECT_HOME": str(home)}.items():
        os.environ.setdefault(variable, value)


def without_database_password(config: Settings) -> Settings:
    """Move the password of a PostgreSQL tracking.uri to PGPASSWORD, which its client library reads.

    Prefect stores the parameters of a flow as they are, and other users can read command lines. Raises
    UserError if PGPASSWORD holds another password.
    """
    uri = config.tracking.uri
    if uri is None or not uri.startswith("postgresql"):
        return config
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise UserError(
            "tracking.uri is no database URI; write postgresql://USER@HOST:5432/DATABASE, with special "
            "characters in USER percent-encoded and the password in PGPASSWORD"
        ) from None
    if url.password is None:
        return config
    if os.environ.setdefault("PGPASSWORD", str(url.password)) != url.password:
        raise UserError(
            "tracking.uri and PGPASSWORD hold different passwords; leave it out of tracking.uri and write "
            "both into ~/.pgpass"
        )
    plain = URL.create(
        url.drivername, url.username, host=url.host, port=url.port, database=url.database, query=url.query
    ).render_as_string()
    return config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": plain})})


def tracking_uri(config: Tracked) -> str:
    """Return the MLflow tracking URI: the configured one, or sqlite in the state folder."""
    if config.tracking.uri is not None:
        return config.tracking.uri
    state = Path(config.state).absolute()
    state.mkdir(parents=True, exist_ok=True)  # runs of a deployment skip prepare_environment
    return f"sqlite:///{state / 'mlflow.db'}"


def tracking_destination(config: Tracked) -> tuple[str | None, str | None]:
    """Return MLflow's tracking URI and, if that is a database, the root of its artifacts."""
    if not config.tracking.enabled:
        return None, None
    uri = tracking_uri(config)
    return uri, artifact_root(config) if uri.startswith(DATABASES) else None


def artifact_root(config: Tracked) -> str:
    """Return the folder of MLflow's artifacts, for a database in the state folder."""
    return (Path(config.state).absolute() / "mlflow-artifacts").as_uri()
