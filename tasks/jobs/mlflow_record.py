"""What a recapture job logs to MLflow: settings, a run per stage, measurements, tables and pictures."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Self

from PIL import Image

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.store import ArtifactStore
from recapture.models.metrics.suite import METRICS
from recapture.tasks.engine.mlflow_link import Tracker
from recapture.tasks.engine.mlflow_record import MlflowRecord, Shown
from recapture.tasks.engine.stage import Item
from recapture.tasks.jobs.page_files import VIDEO as PAGE_VIDEO
from recapture.tasks.jobs.summary import TABLE, JobSummary, method_table

logger = logging.getLogger(__name__)

PARAMETERS = (
    *("dataset.name", "dataset.uri", "dataset.share"),
    *("depth.source", "fill.method", "ingest.short_side", "seed"),
)

MOST_CAPTIONS = 1000  # clips whose caption is logged


# Of the job's own method under one name, so that jobs compare; their place in the table is first.
RESULT = ("psnr", "consistency_psnr", "psnr_hole", "warp_error", "hole_share")
FIRST_FIGURES = (
    "videos_delivered",
    *(f"result/{name}" for name in ("psnr", "consistency_psnr", "hole_share")),
    "seconds",
)


def definitions() -> str:
    """Return what the metrics of a job mean, as a table in Markdown."""
    rows = [
        f"| `{name}` | {METRICS[name].unit or '–'} | {METRICS[name].definition} |"
        for name in TABLE
        if name in METRICS
    ]
    return "\n".join(
        [
            "Metrics are called `METHOD/NAME`; `result/NAME` is that of the job's own method.",
            "",
            "| metric | unit | what |",
            "|---|---|---|",
            *rows,
        ]
    )


def log_dataset(run: Tracker, config: RecaptureConfig, clips: Sequence[Clip], context: str) -> None:
    """Log the clips that a job reads as its input."""
    digest = hashlib.sha256("".join(sorted(clip.content_hash for clip in clips)).encode()).hexdigest()[:12]
    profile = {"clips": len(clips), "frames": sum(clip.frames for clip in clips)}
    if clips:
        run.dataset(config.dataset.name, digest, config.dataset.uri, profile, context)


def _result(means: Mapping[str, Mapping[str, float]], config: RecaptureConfig) -> dict[str, float]:
    found = means.get(config.fill.method, {})
    return {f"result/{name}": found[name] for name in RESULT if name in found}


class JobRecord(MlflowRecord):
    """The MLflow runs of one job over clips and trajectories."""

    def __init__(
        self,
        config: RecaptureConfig,
        run_id: str,
        destination: tuple[str | None, str | None],
        *,
        flow: str,
        clips: Sequence[Clip] = (),
    ) -> None:
        self._flow, self._clips = flow, clips
        flat = config.flat()
        labels = ", ".join(trajectory.label for trajectory in config.trajectories)
        parameters = {**{name: flat[name] for name in PARAMETERS}, "trajectories": labels}
        what = {"recapture": config.fill.method, "preview": "preview"}.get(
            flow, f"{flow} {config.fill.method}"
        )
        shown = Shown(what, FIRST_FIGURES, definitions())
        super().__init__(config, run_id, destination, flow=flow, parameters=parameters, shown=shown)

    def __enter__(self) -> Self:
        super().__enter__()
        log_dataset(self.run, self.config, self._clips, "recapture")
        return self

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
                **_result(means, self.config),
            }
        )
        self.run.table([{"method": method, **row} for method, row in means.items()], "measurements.json")
        if summary.distances is not None:
            self.run.metrics(summary.distances.metrics)
        if summary.calibration is not None:
            self.run.table(summary.calibration.rows(), "calibration.json")
            self.run.metrics(summary.calibration.metrics)
        self.finished(summary)
        self._captions(stage, items, store)
        for item in items[: self.config.tracking.videos]:
            try:
                self._pictures(store.open(stage, item.key), item.name)
            except (ArtifactError, OSError) as error:
                logger.warning("no pictures of %s are logged to MLflow: %s", item.name, error)

    def _captions(self, stage: str, items: Sequence[Item], store: ArtifactStore) -> None:
        """Log a table of the captions that were used, one row per clip, and where they are from."""
        first = {item.clip_id: item for item in reversed(items)}
        if len(first) > MOST_CAPTIONS:
            logger.warning(
                "MLflow has the captions of %d of %d clips; recapture.json beside each video has its own",
                *(MOST_CAPTIONS, len(first)),
            )
        rows = []
        for clip in sorted(first)[:MOST_CAPTIONS]:
            try:
                meta = store.open(stage, first[clip].key).meta
            except (ArtifactError, OSError) as error:
                logger.warning("the caption of %s is not logged to MLflow: %s", clip, error)
                continue
            if "caption" in meta:
                rows.append({"clip": clip, **meta["caption"]})
        self.run.table(rows, "captions.json")

    def _pictures(self, artifact: Artifact, item: str) -> None:
        for file in artifact.names():
            if file == "contact_sheet.png":
                sheet = Image.open(io.BytesIO(artifact.read_bytes(file)))
                self.run.image(sheet, f"contact_sheets/{item}")
            if file.endswith((".mp4", ".png")) and file != PAGE_VIDEO:  # it shows the others
                with artifact.local_path(file) as path:
                    self.run.artifact(path, f"videos/{item}")
