"""What a motion transfer logs to MLflow: a run per job, a child run per stage, adapters and pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence

from PIL import Image

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.adapters import local_adapter
from recapture.tasks.clip.base_files import base_revision
from recapture.tasks.engine.mlflow_record import MlflowRecord
from recapture.tasks.engine.stage import Item, Outcome
from recapture.tasks.transfer.params import plain
from recapture.tasks.transfer.summary import DELIVERED_BY, TransferSummary
from recapture.tasks.tune.tune_stage import Live

logger = logging.getLogger(__name__)
PARAMETERS = ("dataset.name", "dataset.uri", "fill.base", "ingest.short_side", "seed")
TUNE = "motion_tune"


class TransferRecord(MlflowRecord):
    """The MLflow runs of one motion transfer."""

    def __init__(
        self, config: RecaptureConfig, run_id: str, destination: tuple[str | None, str | None], *, flow: str
    ) -> None:
        flat = config.flat()
        own = {name: value for name, value in flat.items() if name.startswith("transfer.")}
        parameters = {name: flat[name] for name in PARAMETERS} | own
        super().__init__(config, run_id, destination, flow=flow, parameters=parameters, tags={"flow": flow})

    def live(self, version: str) -> Live:
        """Return the run that tunings log their curves to."""
        tracker = self.open_child(TUNE, {"stage": TUNE, "stage_version": version})
        return Live(self.uri, tracker.run_id)

    def tuned(self, outcomes: Sequence[Outcome], adapters: Mapping[str, Artifact]) -> None:
        """Log the curves of reused adapters; those of new ones are there already."""
        for outcome in outcomes:
            if outcome.status == "reused" and outcome.item in adapters:
                tracker = self.open_child(TUNE, {})
                for step, values in adapters[outcome.item].read_json("curve.json"):
                    tracker.metrics({f"{outcome.item}/{name}": value for name, value in values.items()}, step)

    def job(
        self,
        summary: TransferSummary,
        items: Sequence[Item],
        adapters: Mapping[str, Artifact],  # reference -> its tuning
        store: ArtifactStore,
    ) -> None:
        """Log the end of the job; items: delivered results."""
        if self.run.run_id is None:
            return
        self.log_tables()
        means = summary.means()
        measured = {f"{method}/{name}": value for method, row in means.items() for name, value in row.items()}
        counts = {"videos_wanted": summary.wanted, "videos_delivered": summary.delivered}
        self.run.metrics({**counts, "references": summary.references, "seconds": summary.seconds, **measured})
        self.run.table([{"method": method, **row} for method, row in means.items()], "measurements.json")
        self.finished(summary)
        for reference, artifact in adapters.items():
            folder = f"motions/{reference}"
            with local_adapter(artifact) as file:
                self.run.artifact(str(file), folder)
            if self.config.transfer.register_model:
                name = f"{self.config.dataset.name}-motion-{plain(reference)}"
                self.run.register(name, folder, *self._of_base(reference))
        for item in items[: self.config.tracking.videos]:
            try:
                self._pictures(store.open(DELIVERED_BY, item.key), item.name)
            except (ArtifactError, OSError) as error:
                logger.warning("no pictures of %s are logged to MLflow: %s", item.name, error)

    def _of_base(self, reference: str) -> tuple[dict[str, str], str]:
        """Return the tags and the description of an adapter in the registry: the base that it belongs to."""
        base, revision = self.config.fill.base, base_revision(self.config.fill)
        tags = {"base": base, "base_revision": revision, "reference": reference}
        return tags, f"LoRA of base {base} (revision {revision[:12]}): the motion of {reference}"

    def _pictures(self, artifact: Artifact, item: str) -> None:
        sheet = Image.open(io.BytesIO(artifact.read_bytes("contact_sheet.png")))
        self.run.image(sheet, f"contact_sheets/{item}")
        for file in artifact.names():
            if file.endswith(".mp4"):
                with artifact.local_path(file) as path:
                    self.run.artifact(path, f"videos/{item}")
