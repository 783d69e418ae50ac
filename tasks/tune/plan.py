"""The plan of a tuning: items and content keys of every round, chained from round to round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from recapture.conf.schema import RecaptureConfig, StageResources
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.keys import content_key
from recapture.models.fill.packed import Packing
from recapture.models.tuning.curriculum import Round
from recapture.tasks.engine.model_revision import model_revision
from recapture.tasks.engine.stage import Item, Resources
from recapture.tasks.jobs.render import keyed_surface
from recapture.tasks.tune.explore_stage import ExploreStage
from recapture.tasks.tune.many_nodes import spread
from recapture.tasks.tune.pairs_stage import PairsStage
from recapture.tasks.tune.recapturer import Recapture
from recapture.tasks.tune.tune_stage import Live, TuneStage

SAMPLING = ("guidance_scale", "negative_prompt", "scheduler", "shift", "noise_scale", "propagate", "feather")
# change an adapter by rounding at most
SPEED_ONLY = {"micro_batch", "gradient_checkpointing", "activation_budget", "log_every"}

PACKED_SHARE = 0.3  # benchmarks/tuning.md
DATASET = "dataset"  # what an adapter for all clips is called among items
AdapterKeys = Mapping[str, str]  # clip id -> key of the tune artifact that its adapter is in; {}: the base


@dataclass(frozen=True)
class PairsKey:
    """A pairs artifact of a clip."""

    clip_id: str
    round: int
    key: str


@dataclass(frozen=True)
class TunePlan:
    """Derives every item of a tuning from the configuration and what came before it."""

    config: RecaptureConfig
    clips: tuple[Clip, ...]
    sources: Mapping[str, Mapping[str, str]]  # clip id -> {"ingest": key, "depth": key}

    def pairs_stage(self) -> PairsStage:
        tune = self.config.tune
        return PairsStage(
            tune.pairs,
            tune.cycle,
            self._recapture(tune.cycle.steps),
            tune.curriculum.threshold,
            self.config.seed,
            self._resources("pairs"),
            packing=self._packing(),
        )

    def tune_stage(self, live: Live) -> TuneStage:
        config = self.config
        resources = spread(self._resources("tune"), config.tune)
        stage = TuneStage(config.tune, self._fill(1), config.store, config.seed, live, resources)
        return replace(stage, packed_share=self._packed_share)

    def explore_stage(self) -> ExploreStage:
        tune = self.config.tune
        return ExploreStage(
            tune.explore,
            self._recapture(tune.explore.steps),
            tune.pairs.window,
            self.config.seed,
            self._resources("explore"),
        )

    def pairs_items(self, number: int, one: Round, adapters: AdapterKeys) -> tuple[Item, ...]:
        """One item a clip: its pairs of this round, with cycle pairs where it has an adapter."""
        stage, tune = self.pairs_stage(), self.config.tune
        items = []
        for clip in self.clips:
            inputs = self._inputs(clip, adapters if tune.cycle.moves else {})
            settings: dict[str, Any] = {"pairs": tune.pairs.keyed(), **self._models(clip)}
            if stage.packing is not None:
                settings["packing"] = {"frames": stage.packing.frames, "spacing": stage.packing.spacing}
            if "tune" in inputs:
                settings["cycle"] = tune.cycle.model_dump(mode="json", exclude={"source_share"})
                settings |= self._sampling(tune.cycle.steps)
                settings["threshold"] = tune.curriculum.threshold
            where = {"round": number, "low": one.low, "high": one.high}
            key = content_key(stage.name, stage.version, settings, inputs, where)
            name = f"{clip.id}@round-{number}"
            items.append(Item(clip.id, name, key, inputs, {"clip": asdict(clip), "label": "", **where}))
        return tuple(items)

    def tune_items(
        self, number: int, steps: int, pairs: Sequence[PairsKey], adapters: AdapterKeys, *, each_clip: bool
    ) -> tuple[Item, ...]:
        """One item for all clips, or one a clip, that goes on from what its clips' adapters are."""
        groups: dict[str, list[PairsKey]] = {}
        for one in pairs:
            groups.setdefault(one.clip_id if each_clip else DATASET, []).append(one)
        return tuple(
            self._tune_item(name, f"{name}/" if each_clip else "", number, steps, group, adapters)
            for name, group in groups.items()
        )

    def explore_items(self, label: str, angle: float, adapters: AdapterKeys) -> tuple[Item, ...]:
        """One item a clip; with adapters, only the clips that have one."""
        stage, explore = self.explore_stage(), self.config.tune.explore
        items = []
        for clip in self.clips:
            if adapters and clip.id not in adapters:
                continue
            inputs = self._inputs(clip, adapters)
            settings = {**self._models(clip), **self._sampling(explore.steps)}
            settings["window"] = self.config.tune.pairs.window
            key = content_key(stage.name, stage.version, settings, inputs, {"angle": angle})
            params = {"clip": asdict(clip), "label": "", "angle": angle}
            items.append(Item(clip.id, f"{clip.id}@{label}-{angle:g}", key, inputs, params))
        return tuple(items)

    def _tune_item(
        self,
        clip_id: str,
        label: str,
        number: int,
        steps: int,
        pairs: Sequence[PairsKey],
        adapters: AdapterKeys,
    ) -> Item:
        tune, name = self.config.tune, f"{clip_id}@round-{number}"
        parents = {adapters[one.clip_id] for one in pairs if one.clip_id in adapters}
        inputs = {"tune": parents.pop()} if parents else {}
        last = max(one.round for one in pairs)
        wanted = [{"key": one.key, "judges": one.round == last} for one in pairs]
        settings = {
            "training": tune.training.model_dump(mode="json", exclude=SPEED_ONLY),
            "source_share": tune.cycle.source_share,
            "seed": self.config.seed,
            **self._base(),
        }
        if self._packed_share:
            settings["packed_share"] = self._packed_share
        if not tune.training.first_block:
            del settings["training"]["first_block"]
        if not inputs and tune.start is not None:
            settings["start"] = model_revision("tune.start", tune.start)
        key = content_key("tune", TuneStage.version, settings, inputs, {"pairs": wanted, "steps": steps})
        return Item(clip_id, name, key, inputs, {"pairs": wanted, "steps": steps, "label": label})

    def _inputs(self, clip: Clip, adapters: AdapterKeys) -> dict[str, str]:
        own = {"tune": adapters[clip.id]} if clip.id in adapters else {}
        return {**self.sources[clip.id], **own}

    def _base(self) -> dict[str, Any]:
        fill = self.config.fill
        parts = None if fill.base_parts is None else model_revision("fill.base_parts", fill.base_parts)
        revision = model_revision("fill.base", fill.base)
        vae = {} if fill.vae_precision == "float32" else {"vae_precision": fill.vae_precision}
        return {"base": revision, "parts": parts, "precision": fill.precision, **vae}

    def _models(self, clip: Clip) -> dict[str, Any]:
        return {
            **self._base(),
            **keyed_surface(self.config.render),
            "caption": clip.caption,
            "seed": self.config.seed,
        }

    def _sampling(self, steps: int) -> dict[str, Any]:
        tune, fill = self.config.tune, self.config.fill
        found: dict[str, Any] = {"steps": steps, "scale": tune.scale, "cycle_depth": tune.cycle.depth}
        found |= {name: getattr(fill, name) for name in SAMPLING}
        if tune.cycle.depth == "model":
            found["depth"] = model_revision("depth.model", self.config.depth.model)
        return found

    def _fill(self, steps: int) -> Any:
        return self.config.fill.model_copy(update={"method": "base", "adapter": None, "steps": steps})

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
        """What is packed beside pairs: as a fill would pack it, or two frames where fills pack none."""
        packing = self.config.fill.packing
        if not self._packed_share:
            return None
        return Packing(packing.frames or Packing().frames, packing.spacing)

    def _resources(self, stage: str) -> Resources:
        wanted = self.config.execution.resources.get(stage, StageResources())
        return Resources(wanted.cpus, wanted.gpus)
