"""What a tuning logs to MLflow: a run per job, and a child run per round with its curve and adapters."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Self

from PIL import Image

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.artifact import Artifact
from recapture.tasks.clip.adapters import local_adapter
from recapture.tasks.clip.base_files import base_revision
from recapture.tasks.engine.mlflow_link import Tracker
from recapture.tasks.engine.mlflow_record import MlflowRecord, Shown
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Outcome
from recapture.tasks.jobs.mlflow_record import FIRST_FIGURES, definitions, log_dataset
from recapture.tasks.tune.params import DATASET
from recapture.tasks.tune.summary import TuneSummary, curve_figure
from recapture.tasks.tune.tune_stage import Live

PARAMETERS = ("dataset.name", "dataset.uri", "fill.base", "seed", "tune.scope", "tune.curriculum.schedule")


class TuneRecord(MlflowRecord):
    """The MLflow runs of one tuning: a child run per round, not per stage."""

    def __init__(
        self,
        config: RecaptureConfig,
        run_id: str,
        destination: tuple[str | None, str | None],
        *,
        flow: str,
        clips: Sequence[Clip] = (),
    ) -> None:
        flat = config.flat()
        tuned = {name: value for name, value in flat.items() if name.startswith("tune.")}
        parameters = {name: flat[name] for name in PARAMETERS} | tuned
        shown = Shown(f"tuning ({config.tune.scope})", FIRST_FIGURES, definitions())
        super().__init__(
            config, run_id, destination, flow=flow, parameters=parameters, tags={"flow": flow}, shown=shown
        )
        self._clips = clips
        self._round: Tracker | None = None
        self._label = ""  # of the open round

    def __enter__(self) -> Self:
        super().__enter__()
        log_dataset(self.run, self.config, self._clips, "training")
        return self

    def begin(self, plan: StagePlan) -> None:
        """Do nothing: child runs are rounds, see `begin_round`."""

    def end(self, plan: StagePlan) -> None:
        """Do nothing: child runs are rounds, see `end_round`."""

    def add(self, plan: StagePlan, outcomes: Sequence[Outcome]) -> None:
        """Do nothing: `trained` and `explored` log the results of a round."""

    @property
    def live(self) -> Live:
        """Return the run that the training of the open round logs to."""
        return Live(self.uri, None if self._round is None else self._round.run_id)

    def begin_round(self, number: int, label: str) -> None:
        """Open a round's run."""
        self._label, self._round = label, self.open_child(label, {"round": str(number)})

    def trained(self, outcomes: Sequence[Outcome], artifacts: Mapping[str, Artifact]) -> None:
        """Log the results of a round's trainings, including the curves of reused ones.

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
        """Log one angle of the angle-quality curve, with the round as the step; -1 is the base."""
        for metric in sorted({name for outcome in outcomes for name in outcome.metrics}):
            values = [outcome.metrics[metric] for outcome in outcomes if metric in outcome.metrics]
            mean = {f"{metric}/{angle:g}": sum(values) / len(values)}
            self.run.metrics(mean, step=number)
            if self._round is not None:
                self._round.metrics(mean, step=number)

    def picture(self, image: Image.Image, name: str, step: int) -> None:
        """Log a picture to the parent run's grid, with the round as the step."""
        self.run.image(image, f"previews/{name}", step=step)

    def round_preview(self, artifact: Artifact, clip_id: str, number: int) -> None:
        """Log the preview of a clip's pairs."""
        image = Image.open(io.BytesIO(artifact.read_bytes("preview.png")))
        self.run.image(image, f"pairs/{clip_id}", step=number)

    def end_round(self, summary: TuneSummary, *, failed: bool = False) -> None:
        """Close the round's run, with the angle-quality curve so far."""
        if self._round is not None:
            self._round.figure(curve_figure(summary), "angle_quality.png")
            self._round = None
        self.close_child(self._label, failed=failed)

    def tuned(self, summary: TuneSummary, adapters: Mapping[str, Artifact]) -> None:
        """Log the end: curve, tables, summary, and the adapters as versions of a model.

        adapters: clip id, or "" for that of all clips -> artifact.
        """
        self.run.metrics({"clips": summary.clips, "clips_adapted": len(summary.adapted)})
        self.run.metrics({"rounds": len(summary.rounds), "seconds": summary.seconds})
        self.run.table(summary.table(), "angle_quality.json")
        rows = [
            {"adapter": one.label, "clip": one.clip_id, "angle": one.angle, **one.scores}
            for one in summary.explored
        ]
        self.run.table(rows, "angle_quality_by_clip.json")
        self.run.figure(curve_figure(summary), "angle_quality.png")
        self.finished(summary)
        for clip_id, artifact in adapters.items():
            folder = self._adapter(self.run, artifact, clip_id)
            if self.config.tune.register_model:
                name = f"{self.config.dataset.name}-adapter-{clip_id}".rstrip("-")
                self.run.register(name, folder, *self._of_base(clip_id))

    def _of_base(self, clip_id: str) -> tuple[dict[str, str], str]:
        """Return the tags and the description of an adapter in the registry: the base that it belongs to."""
        base, revision = self.config.fill.base, base_revision(self.config.fill)
        tags = {"base": base, "base_revision": revision, "dataset": self.config.dataset.name, "clip": clip_id}
        clip = f"clip {clip_id} of " if clip_id else ""
        text = f"LoRA of base {base} (revision {revision[:12]}), tuned on {clip}{self.config.dataset.name}"
        return {name: value for name, value in tags.items() if value}, text

    def _adapter(self, run: Tracker, artifact: Artifact, clip_id: str) -> str:
        folder = f"adapter/{clip_id}".rstrip("/")
        with local_adapter(artifact) as file:
            run.artifact(str(file), folder)
        return folder
