"""One tuning over a dataset: the plans of its steps, and its summary.

Each step is a generator of plans. The runner fills in their outcomes, and later steps depend on these.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.models.tuning.curriculum import Round
from recapture.tasks.engine.planner import Planner, StagePlan, Track
from recapture.tasks.engine.stage import Item
from recapture.tasks.engine.summary import Failure
from recapture.tasks.jobs.chosen_clips import chosen_clips
from recapture.tasks.jobs.job import ClipJob
from recapture.tasks.jobs.source_stages import captioned, source_stages
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.deliver import deliver_adapters, deliver_report
from recapture.tasks.tune.mlflow_record import TuneRecord
from recapture.tasks.tune.params import DATASET, ExploreParams, PairsKey, PairsParams, TrainingParams
from recapture.tasks.tune.rounds import Unmeasured, first_round, following_round
from recapture.tasks.tune.stages import TuneStages
from recapture.tasks.tune.summary import BASE, TUNED, Explored, TuneSummary, before_after
from recapture.tasks.tune.tunable import check_tunable

SHOWN_REASONS = 10
Plans = Generator[StagePlan, None, Any]


class Tuning:
    """A job: the steps of a tuning. Raises UserError for a base that cannot be tuned, or without clips."""

    def __init__(self, config: RecaptureConfig) -> None:
        check_tunable(config.fill)
        clips, rejected = chosen_clips(config)
        self.config, self.number, self.rejected = config, 0, rejected
        self.clips = tuple(clips)  # clips that are still in the tuning
        self.title = f"{config.dataset.name}: rounds of tuning"
        self.summary = TuneSummary(
            config.dataset.name,
            clips=len(clips) + len(rejected),
            max_failure_share=config.execution.max_failure_share,
            failures=[Failure(clip.id, clip.stage, clip.error) for clip in rejected],
        )
        self._stages, self._planner = TuneStages(config), Planner()
        self._sources = captioned(config, source_stages(config))
        self._stages.check()
        self._record: TuneRecord | None = None
        self._store = ArtifactStore(config.store)
        self._pairs: list[tuple[int, Item[PairsParams]]] = []  # with their rounds
        self._adapters: dict[str, Item[TrainingParams]] = {}  # clip id -> its newest training
        self._shared: Item[TrainingParams] | None = None  # scope both: the adapter that touch-ups start from
        self._angles: set[tuple[str, float]] = set()  # (label, angle) already explored
        self._supposed: set[tuple[str, float]] = set()  # of these, expected but not measured yet
        self._explored: dict[tuple[str, float, str], str] = {}  # label, angle, clip id -> key

    @property
    def expected(self) -> dict[str, int]:
        """Return stage -> how many items it has if no round is omitted."""
        tune, clips = self.config.tune, len(self.clips)
        rounds = tune.curriculum.most_rounds
        trainings = {"dataset": rounds, "clip": rounds * clips, "both": rounds + clips}[tune.scope]
        explored = clips * (2 * len(tune.explore.angles) + rounds - 1)
        return {
            **ClipJob(self.config, self._sources, self.clips).expected,
            "pairs": rounds * clips,
            "explore": explored,
            "tune": trainings,
        }

    def open_record(self, run_id: str, destination: tuple[str | None, str | None], flow: str) -> TuneRecord:
        """Open the tuning's runs in MLflow."""
        self._record = TuneRecord(self.config, run_id, destination, flow=flow, clips=self.clips)
        return self._record

    def plans(self) -> Iterator[StagePlan]:
        """Yield the plans of a tuning, round by round, to be carried out as StagePlan says."""
        tune = self.config.tune
        yield from self.lift()
        one: Round | None = first_round(tune.curriculum)
        while one is not None:
            yield from self.make_pairs(one)
            if self.number == 0:
                yield from self.explore(BASE, tune.explore.angles)
            trained = yield from self.train(one)
            one = (yield from self.next_round(one)) if trained else None
        if tune.scope == "both":
            yield from self.touch_up()
        yield from self.explore(TUNED, tune.explore.angles)

    def tracks(self, size: int) -> Iterator[Track]:
        """Yield all plans as one track: each depends on the outcomes of those before it."""

        def awaited() -> Iterator[StagePlan]:
            for plan in self.plans():
                plan.awaited = True
                yield plan

        yield Track(0, awaited(), clip_by_clip=False)

    def publisher(self, store: ArtifactStore) -> None:
        """Return None: everything is delivered at the end."""

    def lift(self) -> Plans:
        """Plan the clips' frames and depth, and captions of those that have none."""
        source = ClipJob(self.config, self._sources, self.clips)
        usable = {clip.id for clip in self.clips}
        for stage in source.stages:
            if not (params := source.params(stage)):
                continue
            plan = self._planner.plan(stage, params)
            yield plan
            usable -= {item.clip_id for item in plan.items} - {item.clip_id for item in plan.usable}
        self.clips = tuple(clip for clip in self.clips if clip.id in usable)

    def make_pairs(self, one: Round) -> Plans:
        """Plan every clip's pairs of a round; a clip without pairs in the first round is left out."""
        label = f"round {self.number}, {one.low:g}-{one.high:g} degrees"
        if self._record is not None:
            self._record.begin_round(self.number, label)
        adapters = self._adapters if self.config.tune.cycle.moves else {}
        params = [PairsParams(clip, self.number, one, name_of(adapters, clip.id)) for clip in self.clips]
        plan = self._planner.plan(self._stages.pairs(), params, f"pairs, {label}")
        yield plan
        self._pairs += [(self.number, item) for item in plan.usable]
        if self.number == 0:
            kept = {item.clip_id for item in plan.usable}
            self.clips = tuple(clip for clip in self.clips if clip.id in kept)
            if not kept and self._record is not None:  # `recapture plan` shows the reasons instead
                raise UserError("no clip gives pairs to learn from" + self._reasons())
        if self._record is not None:
            for item in plan.usable[: self.config.tracking.videos]:
                self._record.round_preview(self._store.open("pairs", item.key), item.clip_id, self.number)

    def train(self, one: Round) -> Generator[StagePlan, None, bool]:
        """Plan a round's trainings on the pairs of all rounds so far; return whether any succeeded."""
        each_clip = self.config.tune.scope == "clip"
        title = f"tune, round {self.number}, {one.steps} steps"
        if not (yield from self._train(title, one.steps, each_clip=each_clip)):
            self.summary.ended = f"Round {self.number} left no adapter."
            self._end_round(failed=True)
            return False
        self.summary.rounds.append(one)
        return True

    def touch_up(self) -> Plans:
        """Plan further training of the dataset's adapter on every clip's own pairs."""
        if not self._adapters:
            return
        self._shared = next(iter(self._adapters.values()))
        if self._record is not None:
            self._record.begin_round(self.number, "touch-up")
        yield from self._train("tune, touch-up", self.config.tune.touch_up_steps, each_clip=True)
        self._end_round()

    def next_round(self, one: Round) -> Generator[StagePlan, None, Round | None]:
        """Explore the angles that determine it, and return the next round; None if the rounds end here."""
        label, curriculum = f"round-{self.number}", self.config.tune.curriculum

        def quality(angle: float) -> float:
            if (label, angle) not in self._angles:
                raise Unmeasured(angle)
            if (label, angle) in self._supposed and curriculum.schedule == "given":
                return curriculum.threshold  # `recapture plan` assumes that the quality suffices
            return self.summary.quality(label, angle)

        while True:
            try:
                found, self.summary.ended = following_round(curriculum, self.number, one, quality)
                break
            except Unmeasured as asked:
                yield from self.explore(label, (asked.angle,))
        self._end_round()
        self.number += 1
        return found

    def explore(self, label: str, angles: Sequence[float]) -> Plans:
        """Plan measurements of the base or the newest adapters: points of the angle-quality curve."""
        adapters = {} if label == BASE else self._adapters
        if label != BASE and not adapters:
            return
        step = -1 if label == BASE else self.number
        for angle in angles:
            params = [
                ExploreParams(clip, label, angle, name_of(adapters, clip.id))
                for clip in self.clips
                if label == BASE or clip.id in adapters
            ]
            title = f"explore, {label}, {angle:g} degrees"
            plan = self._planner.plan(self._stages.explore(), params, title)
            yield plan
            usable = [outcome for outcome in plan.outcomes if outcome.usable]
            if self._record is not None:
                self._record.explored(step, angle, usable)
            self._angles.add((label, angle))
            if any(outcome.status == "expected" for outcome in plan.outcomes):
                self._supposed.add((label, angle))
            for outcome in usable:
                self.summary.explored.append(Explored(label, outcome.clip_id, angle, outcome.metrics))
                self._explored[label, angle, outcome.clip_id] = outcome.key

    def deliver(self, store: ArtifactStore) -> None:
        """Write the adapters, the curve and before-and-after sheets to the outputs."""
        summary, config = self.summary, self.config
        assert self._record is not None
        if not self._adapters:
            self._record.finished(summary)
            return
        outputs = f"{config.outputs.rstrip('/')}/{config.dataset.name}"
        finished = {clip_id: store.open("tune", key) for clip_id, key in sorted(self._finished().items())}
        summary.adapted = set(self._adapters)
        summary.adapter = deliver_adapters(outputs, finished)
        sheets = self._sheets(store)
        for clip_id, sheet in list(sheets.items())[: config.tracking.videos]:
            self._record.picture(sheet, clip_id, self.number)
        deliver_report(outputs, summary, sheets)
        self._record.tuned(summary, finished)

    def _train(self, title: str, steps: int, *, each_clip: bool) -> Generator[StagePlan, None, bool]:
        live = None if self._record is None else self._record.live
        plan = self._planner.plan(self._stages.tune(live), self._trainings(steps, each_clip=each_clip), title)
        yield plan
        for item in plan.usable:
            own = [item.clip_id] if each_clip else [clip.id for clip in self.clips]
            self._adapters |= dict.fromkeys(own, item)
        if self._record is not None:
            for item in plan.usable:
                Checkpoint(self.config.store, "tune", item.key).forget()
            adapters = {item.name: self._store.open("tune", item.key) for item in plan.usable}
            self._record.trained(plan.outcomes, adapters)
        return bool(plan.usable)

    def _trainings(self, steps: int, *, each_clip: bool) -> Iterator[TrainingParams]:
        """Yield one training for all clips, or one per clip, each from its clips' newest adapter."""
        groups: dict[str, list[tuple[int, Item[PairsParams]]]] = {}
        for number, item in self._pairs:
            groups.setdefault(item.clip_id if each_clip else DATASET, []).append((number, item))
        for clip_id, group in groups.items():
            last = max(number for number, _ in group)
            pairs = tuple(PairsKey(item.key, judges=number == last) for number, item in group)
            start = {name_of(self._adapters, item.clip_id) for _, item in group} - {""}
            yield TrainingParams(clip_id, self.number, steps, pairs, *start)

    def _end_round(self, *, failed: bool = False) -> None:
        if self._record is not None:
            self._record.end_round(self.summary, failed=failed)

    def _reasons(self) -> str:
        """Return the failures and dropped items as the end of a message."""
        reasons = [f"{failure.item}: {failure.error}" for failure in self.summary.failures]
        reasons += [
            f"{item}: dropped; see `recapture quarantine ls`" for item in sorted(self.summary.dropped)
        ]
        return "".join(f"\n  {reason}" for reason in reasons[:SHOWN_REASONS])

    def _finished(self) -> dict[str, str]:
        """Return clip id, or "" for the adapter of all clips -> key of a finished adapter."""
        if self.config.tune.scope == "clip":
            return {clip_id: item.key for clip_id, item in self._adapters.items()}
        if self.config.tune.scope == "dataset":
            return {"": next(iter(self._adapters.values())).key}
        assert self._shared is not None
        own = {clip_id: item.key for clip_id, item in self._adapters.items() if item != self._shared}
        return {"": self._shared.key, **own}

    def _sheets(self, store: ArtifactStore) -> dict[str, Any]:
        """Return clip id -> sheet of base beside tuned at the largest angle."""
        angle = max(self.config.tune.explore.angles)
        sheets = {}
        for clip in self.clips:
            keys = [self._explored.get((label, angle, clip.id)) for label in (BASE, TUNED)]
            if None not in keys:
                sheets[clip.id] = before_after(*(store.open("explore", str(key)) for key in keys))
        return sheets


def name_of(adapters: dict[str, Item[TrainingParams]], clip_id: str) -> str:
    """Return the name of the training of a clip's adapter; "" if it has none."""
    return adapters[clip_id].name if clip_id in adapters else ""
