"""What a tuning leaves in MLflow: a run a job, a child a round with its live curve, pictures and adapters."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from PIL import Image

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.wan.lora import FILE_NAME
from recapture.tasks.engine.mlflow_link import Tracker, code_version, start_run
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.tune.plan import DATASET
from recapture.tasks.tune.summary import TuneSummary, curve_figure
from recapture.tasks.tune.tune_stage import Live

PARAMETERS = ("dataset.name", "dataset.uri", "fill.base", "seed", "tune.scope", "tune.curriculum.schedule")


class TuneMemory:
    """The MLflow runs of one tuning."""

    def __init__(
        self, config: RecaptureConfig, run_id: str, uri: str | None, artifact_root: str | None
    ) -> None:
        self._config, self._uri = config, uri
        self._tags = {"dataset": config.dataset.name, "recapture_run": run_id, "flow": "train-iterative"}
        self._tags |= code_version()
        name = f"train-iterative-{run_id}"
        self._run = start_run(uri, config.dataset.name, name, self._tags, artifact_root=artifact_root)
        self._round: Tracker | None = None

    def __enter__(self) -> Self:
        flat = self._config.flat()
        tuned = {name: value for name, value in flat.items() if name.startswith("tune.")}
        self._run.params({name: flat[name] for name in PARAMETERS} | tuned)
        text = yaml.safe_dump(self._config.model_dump(mode="json"), sort_keys=False)
        self._run.text(text, "config.yaml")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_round(failed=error is not None)
        self._run.finish(failed=error is not None)

    @property
    def mlflow_run(self) -> str | None:
        """Return the id of the parent run, if there is one."""
        return self._run.run_id

    def begin_round(self, number: int, label: str) -> Live:
        """Open a round's run and return where its training logs to."""
        self._round = self._run.child(label, {**self._tags, "round": str(number)})
        return Live(self._uri, self._round.run_id)

    def trained(self, outcomes: Sequence[Outcome], artifacts: Mapping[str, Artifact]) -> None:
        """Remember what came of a round's trainings; curves of those that were there already too.

        artifacts: item name -> its adapter.
        """
        assert self._round is not None
        for outcome in outcomes:
            clip_id = "" if outcome.clip_id == DATASET else outcome.clip_id
            label = f"{clip_id}/" if clip_id else ""
            costs = ("seconds_per_step", "memory_peak_mb", "steps")
            found = {name: outcome.metrics[name] for name in costs if name in outcome.metrics}
            if outcome.vram_peak_mb:
                found["vram_peak_mb"] = outcome.vram_peak_mb
            self._round.metrics({label + name: value for name, value in found.items()})
            if outcome.item in artifacts:
                self._adapter(self._round, artifacts[outcome.item], clip_id)
            if outcome.status == "reused" and outcome.item in artifacts:
                for step, values in artifacts[outcome.item].read_json("curve.json"):
                    self._round.metrics({label + name: value for name, value in values.items()}, step)

    def explored(self, number: int, angle: float, outcomes: Sequence[Outcome]) -> None:
        """Remember one angle of the curve, at the round as its step; -1 is the base."""
        for metric in sorted({name for outcome in outcomes for name in outcome.metrics}):
            values = [outcome.metrics[metric] for outcome in outcomes if metric in outcome.metrics]
            mean = {f"{metric}/{angle:g}": sum(values) / len(values)}
            self._run.metrics(mean, step=number)
            if self._round is not None:
                self._round.metrics(mean, step=number)

    def picture(self, image: Image.Image, name: str, step: int) -> None:
        """Remember a picture in the parent run's grid; the step is the round."""
        self._run.image(image, f"previews/{plain(name)}", step=step)

    def round_preview(self, artifact: Artifact, clip_id: str, number: int) -> None:
        """Remember the preview of a clip's pairs."""
        image = Image.open(io.BytesIO(artifact.read_bytes("preview.png")))
        self._run.image(image, f"pairs/{plain(clip_id)}", step=number)

    def end_round(self, summary: TuneSummary | None = None, *, failed: bool = False) -> None:
        """Close the round's run, with the curve as far as it is known."""
        if self._round is not None:
            if summary is not None:
                self._round.figure(curve_figure(summary), "angle_quality.png")
            self._round.finish(failed)
            self._round = None

    def finished(self, summary: TuneSummary, adapters: Mapping[str, Artifact]) -> None:
        """Remember the end: curve, tables, summary, and the adapters as versions of a model.

        adapters: clip id, or nothing for that of all clips -> artifact.
        """
        summary.mlflow_run = self.mlflow_run
        self._run.metrics({"clips": summary.clips, "clips_adapted": len(summary.adapted)})
        self._run.metrics({"rounds": len(summary.rounds), "seconds": summary.seconds})
        self._run.table(summary.table(), "angle_quality.json")
        rows = [
            {"adapter": one.label, "clip": one.clip_id, "angle": one.angle, **one.scores}
            for one in summary.explored
        ]
        self._run.table(rows, "angle_quality_by_clip.json")
        self._run.figure(curve_figure(summary), "angle_quality.png")
        self._run.text(summary.markdown(), "summary.md")
        self._run.tags({"mlflow.note.content": summary.markdown()[:5000]})
        for clip_id, artifact in adapters.items():
            folder = self._adapter(self._run, artifact, clip_id)
            if self._config.tune.register_model:
                self._run.register(
                    plain(f"{self._config.dataset.name}-adapter-{clip_id}".rstrip("-")), folder
                )

    def _adapter(self, run: Tracker, artifact: Artifact, clip_id: str) -> str:
        folder = f"adapter/{plain(clip_id)}".rstrip("/")
        with tempfile.TemporaryDirectory(prefix="recapture-") as temporary:
            path = Path(temporary) / FILE_NAME
            path.write_bytes(artifact.read_bytes(FILE_NAME))
            run.artifact(str(path), folder)
        return folder


def plain(name: str) -> str:
    """Return a clip id as one word of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)
