"""Single items of a tuning, planned apart from its rounds, from keys that a test gives."""

from dataclasses import dataclass

from recapture.tasks.engine.planner import Planner
from recapture.tasks.tune.params import DATASET, ExploreParams, PairsKey, PairsParams, TrainingParams
from recapture.tasks.tune.stages import TuneStages


@dataclass(frozen=True)
class TunePlan:
    """adapters: clip id -> key of the tune artifact that its adapter is in; {}: the base."""

    config: object
    clips: tuple
    sources: dict  # clip id -> {"ingest": key, "depth": key}

    @property
    def stages(self):
        return TuneStages(self.config)

    def pairs_items(self, number, one, adapters):
        params = [
            PairsParams(clip, number, one, clip.id if clip.id in adapters else "") for clip in self.clips
        ]
        return self._items(self.stages.pairs(), params, adapters)

    def tune_items(self, number, steps, pairs, adapters, *, clip_id=DATASET):
        start = next(iter(adapters), "")
        params = TrainingParams(clip_id, number, steps, tuple(PairsKey(key, True) for key in pairs), start)
        return self._items(self.stages.tune(None), [params], adapters)

    def explore_items(self, label, angle, adapters):
        params = [
            ExploreParams(clip, label, angle, clip.id if clip.id in adapters else "") for clip in self.clips
        ]
        return self._items(self.stages.explore(), params, adapters)

    def _items(self, stage, params, adapters):
        planner = Planner()
        for clip_id, keys in self.sources.items():
            planner._keys.update({(name, clip_id): key for name, key in keys.items()})
        planner._keys.update({("tune", clip_id): key for clip_id, key in adapters.items()})
        return planner.plan(stage, params).items
