"""A connection to MLflow that never stops a job: a server that does not answer costs a warning."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import recapture
from recapture.conf.redact import credentials_remover, without_credentials
from recapture.tasks.engine.mlflow_experiment import KIND, bring_up_to_date
from recapture.tasks.engine.mlflow_names import mlflow_name, mlflow_word

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

logger = logging.getLogger(__name__)

# An unreachable server must cost seconds, not minutes; variables that the user has set are kept.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
PAUSE_SECONDS, PAUSE_FACTOR = 30.0, 20  # so that a server that hangs costs at most 5 % of the time
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

# Not other client errors: MLflow reports a broken database as a BAD_REQUEST.
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"})


class _Link:
    """The connection that all runs of a job share; after a failure it pauses for a while."""

    def __init__(self, uri: str | None) -> None:
        self.uri, self._client, self._away, self._ask_again = uri, None, False, 0.0

    def call(self, what: str, action: Callable[[Any], Any], *, last: bool = False) -> Any:
        """Call action(client); a refusal loses that call alone, any other failure starts a pause.

        last: call even during a pause, because nothing will repeat it later.
        """
        started = time.monotonic()
        if self.uri is None or (self._away and started < self._ask_again and not last):
            return None
        where = without_credentials(self.uri)
        try:
            result = action(self._connect())
        except Exception as error:
            if _is_refusal(error):
                problem = without_credentials(str(error))
                logger.warning(
                    "MLflow at %s refused %s: %s; the job continues without it", where, what, problem
                )
                return None
            if not self._away:
                kind = type(error).__name__
                if isinstance(error, ImportError):
                    kind += f": {error}; for PostgreSQL: pip install 'recapture[postgres]'"
                logger.warning(
                    "MLflow at %s is unreachable (%s: %s); the job continues without logging to it",
                    *(where, what, kind),
                )
            now = time.monotonic()
            self._away, self._ask_again = True, now + max(PAUSE_SECONDS, PAUSE_FACTOR * (now - started))
            return None
        if self._away:
            self._away = False
            logger.warning(
                "MLflow at %s is reachable again; what was logged in the meantime is missing there", where
            )
        return result

    def _connect(self) -> Any:
        if self._client is None:
            for variable, value in {**PATIENCE, **QUIET}.items():
                os.environ.setdefault(variable, value)
            logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every migration
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client


class Tracker:
    """One MLflow run; logs nothing if tracking is off or the server is unreachable."""

    def __init__(self, link: _Link, experiment: str | None, run_id: str | None) -> None:
        self._link, self._experiment, self.run_id = link, experiment, run_id

    def child(self, name: str, tags: Mapping[str, str]) -> Tracker:
        """Open a child run, by explicit id: MLflow's active run is per thread."""
        tags = {**tags, "mlflow.parentRunId": self.run_id or ""}
        return Tracker(self._link, self._experiment, _create_run(self._link, self._experiment, name, tags))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters once; they cannot change afterwards."""
        if self.run_id is None:
            return
        from mlflow.entities import Param

        entities = [
            Param(mlflow_name(name), without_credentials(str(value))[:6000]) for name, value in values.items()
        ]
        for start in range(0, len(entities), 100):
            self._batch("parameters", params=entities[start : start + 100])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step, in one request."""
        if self.run_id is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entities = [Metric(mlflow_name(name), float(value), now, step) for name, value in values.items()]
        for start in range(0, len(entities), 1000):
            self._batch("metrics", metrics=entities[start : start + 1000])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        if self.run_id is None:
            return
        from mlflow.entities import RunTag

        self._batch("tags", tags=[RunTag(name, without_credentials(value)) for name, value in values.items()])

    def dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None:
        """Log the dataset that the run reads; digest: 36 characters at most, context: what for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        where = json.dumps({"uri": without_credentials(source)})
        about = Dataset(name, digest, "uri", where, profile=json.dumps(dict(profile)))
        given = DatasetInput(about, [InputTag("mlflow.data.context", context)])
        self._call("the dataset", lambda client: client.log_inputs(self.run_id, [given]))

    def text(self, content: str, file: str) -> None:
        """Log a text file."""
        self._call(file, lambda client: client.log_text(self.run_id, without_credentials(content), file))

    def table(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Log a table, one mapping per row."""
        names = dict.fromkeys(name for row in rows for name in row)
        remove = credentials_remover()
        shown = ({name: remove(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows)
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for row in shown:
            for name, column in columns.items():
                column.append(row.get(name))
        if columns:
            self._call(file, lambda client: client.log_table(self.run_id, columns, file))

    def image(self, image: Image, key: str, step: int = 0) -> None:
        """Log an image into the UI's grid of `key`, which `mlflow_name` makes acceptable."""
        name = mlflow_name(key)
        self._call(key, lambda client: client.log_image(self.run_id, image, key=name, step=step))

    def figure(self, figure: Figure, file: str) -> None:
        """Log a matplotlib figure."""
        self._call(file, lambda client: client.log_figure(self.run_id, figure, file))

    def artifact(self, path: str, folder: str) -> None:
        """Log a local file below `folder`, which `mlflow_name` makes acceptable."""
        name = mlflow_name(folder)
        self._call(path, lambda client: client.log_artifact(self.run_id, path, name))

    def register(self, model: str, folder: str, tags: Mapping[str, str], about: str) -> None:
        """Register the files logged below `folder` as the next version of a model, with a description."""
        model = mlflow_word(model)

        def new_version(client: Any) -> None:
            from mlflow.exceptions import MlflowException

            try:
                client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = f"{client.get_run(self.run_id).info.artifact_uri}/{mlflow_name(folder)}"
            cleaned = {name: without_credentials(value) for name, value in tags.items()}
            text = without_credentials(about)
            client.create_model_version(model, source, self.run_id, tags=cleaned, description=text)

        self._call(f"model {model}", new_version)

    def finish(self, failed: bool = False) -> None:
        """Close the run."""
        status = "FAILED" if failed else "FINISHED"
        self._call("end of run", lambda client: client.set_terminated(self.run_id, status), last=True)

    def _batch(self, what: str, **entities: Any) -> None:
        self._call(what, lambda client: client.log_batch(self.run_id, **entities))

    def _call(self, what: str, action: Callable[[Any], Any], *, last: bool = False) -> None:
        if self.run_id is not None:
            self._link.call(what, action, last=last)


def start_run(
    uri: str | None,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    *,
    artifact_root: str | None = None,
    columns: Sequence[str] = (),
    about: str = "",
) -> Tracker:
    """Open a job's parent run; with uri None nothing is logged.

    artifact_root: where a new experiment stores its artifacts; None: the server decides. columns: the metrics
    that its table begins with; about: its description.
    """
    link = _Link(uri)

    def find(client: Any) -> str:
        known = client.get_experiment_by_name(experiment)
        if known is not None:
            return str(known.experiment_id)
        location = f"{artifact_root}/{experiment}" if artifact_root else None
        try:
            return str(client.create_experiment(experiment, artifact_location=location, tags=KIND))
        except Exception:
            known = client.get_experiment_by_name(experiment)  # another job may have created it first
            if known is None:
                raise
            return str(known.experiment_id)

    def update(client: Any) -> None:
        bring_up_to_date(client, client.get_experiment(experiment_id), columns, about)

    experiment_id = link.call("experiment", find)
    run_id = _create_run(link, experiment_id, name, tags)
    if run_id is not None:
        link.call("view of the experiment", update)
    return Tracker(link, experiment_id, run_id)


def resume_run(uri: str | None, run_id: str | None) -> Tracker:
    """Return a run that another process has opened, to log to it."""
    return Tracker(_Link(uri if run_id else None), None, run_id)


def _is_refusal(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    return type(error) in (ValueError, TypeError)  # MLflow's own checks of names; answers of no server


def _create_run(link: _Link, experiment: str | None, name: str, tags: Mapping[str, str]) -> str | None:
    if experiment is None:
        return None
    cleaned = {tag: without_credentials(value) for tag, value in tags.items()}
    run = link.call("run", lambda client: client.create_run(experiment, run_name=name, tags=cleaned))
    return None if run is None else str(run.info.run_id)


def code_version() -> dict[str, str]:
    """Return the tags for the version and, in a git checkout, the commit of the code."""
    tags = {
        "recapture_version": recapture.__version__,
        "mlflow.source.name": "recapture",
        "mlflow.source.type": "JOB",
    }
    folder = Path(recapture.__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        tags["mlflow.source.git.commit"] = commit.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # an installed wheel has no git history; the version identifies it
    return tags
