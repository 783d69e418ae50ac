"""The stages of a tuning, made from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from recapture.conf.schema import FillConfig, RecaptureConfig
from recapture.models.fill.packed import Packing
from recapture.tasks.clip.captions import CAPTION
from recapture.tasks.engine.model_revision import model_revision
from recapture.tasks.jobs.stage_resources import stage_resources
from recapture.tasks.tune.explore_stage import ExploreStage
from recapture.tasks.tune.many_nodes import spread
from recapture.tasks.tune.pairs_stage import PairsStage
from recapture.tasks.tune.recapturer import Recapture, base_settings
from recapture.tasks.tune.tune_stage import Live, TuneStage

NO_ADAPTER = {"adapter": None, "adapter_scale": None, "adapters": ()}
PACKED_FRAMES = 2  # if fills pack none
PACKED_SHARE = 0.3  # benchmarks/tuning.md


@dataclass(frozen=True)
class TuneStages:
    """A maker of the stages of a tuning."""

    config: RecaptureConfig

    def check(self) -> None:
        """Raise UserError if the base or the adapter to start from does not exist."""
        base_settings(self.config.fill)
        if self.config.tune.start is not None:
            model_revision("tune.start", self.config.tune.start)

    def pairs(self) -> PairsStage:
        """Return the stage that makes pairs."""
        tune = self.config.tune
        return PairsStage(
            tune.pairs,
            tune.cycle,
            self._recapture(tune.cycle.steps),
            tune.curriculum.threshold,
            self.config.seed,
            self._packing(),
            resources=stage_resources(self.config, "pairs"),
            also=(CAPTION,),
        )

    def tune(self, live: Live | None) -> TuneStage:
        """Return the stage that trains; live: the MLflow run that it logs to."""
        config = self.config
        return TuneStage(
            config.tune,
            self._fill(1),
            config.store,
            config.seed,
            live or Live(),
            self._packed_share,
            resources=spread(stage_resources(config, "tune"), config.tune),
        )

    def explore(self) -> ExploreStage:
        """Return the stage that measures."""
        tune = self.config.tune
        return ExploreStage(
            tune.explore,
            self._recapture(tune.explore.steps),
            tune.pairs.window,
            self.config.seed,
            resources=stage_resources(self.config, "explore"),
            also=(CAPTION,),
        )

    def _fill(self, steps: int) -> FillConfig:
        fill = self.config.fill
        plain = {"method": "base", "steps": steps, "speed": fill.speed.exact(), **NO_ADAPTER}
        return fill.model_copy(update=plain)

    def _recapture(self, steps: int) -> Recapture:
        tune = self.config.tune
        estimate = tune.cycle.depth == "model"
        return Recapture(self._fill(steps), self.config.depth, self.config.render, estimate, tune.scale)

    @property
    def _packed_share(self) -> float:
        given = self.config.tune.pairs.packed_share
        if given is None:
            return PACKED_SHARE if self.config.fill.packing.frames else 0.0
        return given

    def _packing(self) -> Packing | None:
        """Return what is packed beside pairs: as a fill packs it, or PACKED_FRAMES if fills pack none."""
        packing = self.config.fill.packing
        if not self._packed_share:
            return None
        return Packing(packing.frames or PACKED_FRAMES, packing.spacing)
