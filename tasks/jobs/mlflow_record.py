"""What a recapture job logs to MLflow: settings, a run per stage, measurements, tables and pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

from PIL import Image

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.mlflow_record import MlflowRecord
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.summary import JobSummary, method_table

logger = logging.getLogger(__name__)

PARAMETERS = (
    *("dataset.name", "dataset.uri", "dataset.share"),
    *("depth.source", "fill.method", "ingest.short_side", "seed"),
)


class JobRecord(MlflowRecord):
    """The MLflow runs of one job over clips and trajectories."""

    def __init__(
        self, config: RecaptureConfig, run_id: str, destination: tuple[str | None, str | None], *, flow: str
    ) -> None:
        flat = config.flat()
        labels = ", ".join(trajectory.label for trajectory in config.trajectories)
        parameters = {**{name: flat[name] for name in PARAMETERS}, "trajectories": labels}
        super().__init__(config, run_id, destination, flow=flow, parameters=parameters)

    def job(self, summary: JobSummary, stage: str, items: Sequence[Item], store: ArtifactStore) -> None:
        """Log the end of the job; items: those of the last stage that are ready."""
        if self.run.run_id is None:
            return
        self.log_tables()
        means = method_table(summary.metrics)
        measured = {f"{method}/{name}": value for method, row in means.items() for name, value in row.items()}
        self.run.metrics(
            {
                "videos_wanted": summary.wanted,
                "videos_delivered": summary.delivered,
                "seconds": summary.seconds,
                **measured,
            }
        )
        self.run.table([{"method": method, **row} for method, row in means.items()], "measurements.json")
        if summary.distances is not None:
            self.run.metrics(summary.distances.metrics)
        if summary.calibration is not None:
            self.run.table(summary.calibration.rows(), "calibration.json")
            self.run.metrics(summary.calibration.metrics)
        self.finished(summary)
        for item in items[: self.config.tracking.videos]:
            try:
                self._pictures(store.open(stage, item.key), item.name)
            except (ArtifactError, OSError) as error:
                logger.warning("no pictures of %s are logged to MLflow: %s", item.name, error)

    def _pictures(self, artifact: Artifact, item: str) -> None:
        for file in artifact.names():
            if file == "contact_sheet.png":
                sheet = Image.open(io.BytesIO(artifact.read_bytes(file)))
                self.run.image(sheet, f"contact_sheets/{item}")
            if file.endswith((".mp4", ".png")):
                with artifact.local_path(file) as path:
                    self.run.artifact(path, f"videos/{item}")
