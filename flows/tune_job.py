"""The steps of a tuning: each plans its items, has the workers make them, and remembers what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from prefect.logging import get_run_logger
from prefect.runtime import deployment
from rich.console import Console

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.environment import tracking_destination
from recapture.flows.prefect_artifacts import JobArtifacts
from recapture.flows.run_job import TooManyMissing, brought_up_to_date, counted
from recapture.models.tuning.curriculum import Round
from recapture.tasks.engine.check_writable import check_writable
from recapture.tasks.engine.executor import open_executor
from recapture.tasks.engine.stage import Item, Outcome, Stage
from recapture.tasks.jobs.job import plan_job, source_stages
from recapture.tasks.jobs.summary import Failure
from recapture.tasks.tune.checkpoint import Checkpoint
from recapture.tasks.tune.deliver import deliver_adapters, deliver_report
from recapture.tasks.tune.mlflow_record import TuneMemory
from recapture.tasks.tune.plan import PairsKey, TunePlan
from recapture.tasks.tune.rounds import following_round
from recapture.tasks.tune.summary import BASE, TUNED, Explored, TuneSummary, before_after

LOGGED_FAILURES = 100


class TuneJob:
    """One tuning over a dataset, inside a Prefect flow.

    Raises UserError when there is nothing to work on, and StageSick when a stage cannot work at all; what was
    finished by then stays, and the next run goes on from it.
    """

    def __init__(self, config: RecaptureConfig) -> None:
        self.config, self.number = config, 0
        self._started, self._run_id = time.monotonic(), uuid4().hex[:12]
        self._store, self._stack = ArtifactStore(config.store), ExitStack()
        self._console = Console(stderr=True)
        self._pairs: list[PairsKey] = []
        self._adapters: dict[str, str] = {}  # clip id -> key of the tune artifact
        self._shared = ""  # scope both: the adapter that touch-ups begin from
        self._explored: dict[tuple[str, float, str], str] = {}  # label, angle, clip id -> key
        self._parts = 0

    def __enter__(self) -> Self:
        config = self.config
        for setting in ("store", "outputs"):
            check_writable(setting, getattr(config, setting))
        self._deployed = deployment.id is not None  # asked now: at the end the server may be away
        self._shown = JobArtifacts("train-iterative", f"{config.dataset.name}: rounds of tuning")
        self._job = plan_job(config, source_stages(config))
        self.summary = TuneSummary(
            config.dataset.name,
            clips=len(self._job.clips) + len(self._job.rejected),
            max_failure_share=config.execution.max_failure_share,
            failures=[Failure(clip.id, clip.stage, clip.error) for clip in self._job.rejected],
        )
        memory = TuneMemory(config, self._run_id, *tracking_destination(config))
        self._memory = self._stack.enter_context(memory)
        self._executor = self._stack.enter_context(open_executor(config.execution, config.store))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def lift(self) -> None:
        """Bring the clips' frames and depth."""
        usable = {clip.id for clip in self._job.clips}
        keys: dict[str, dict[str, str]] = {clip_id: {} for clip_id in usable}
        for plan in self._job.stages:
            for item, outcome in zip(plan.items, self._run(plan.stage, plan.items, plan.stage.name)):
                keys[item.clip_id][plan.stage.name] = item.key
                usable -= set() if outcome.usable else {item.clip_id}
        clips = tuple(clip for clip in self._job.clips if clip.id in usable)
        self._plan = TunePlan(self.config, clips, keys)

    def make_pairs(self, one: Round) -> None:
        """Make every clip's pairs of a round; a clip that gives none in the first is left out."""
        label = f"round {self.number}, {one.low:g}-{one.high:g} degrees"
        self._live = self._memory.begin_round(self.number, label)
        items = self._plan.pairs_items(self.number, one, self._adapters)
        made = self._usable(items, self._run(self._plan.pairs_stage(), items, f"pairs, {label}"))
        self._pairs += [PairsKey(item.clip_id, self.number, item.key) for item in made]
        if self.number == 0:
            kept = {item.clip_id for item in made}
            self._plan = replace(self._plan, clips=tuple(c for c in self._plan.clips if c.id in kept))
            if not kept:
                raise UserError(
                    "no clip gives pairs to learn from:"
                    + "".join(
                        f"\n  {failure.item}: {failure.error}" for failure in self.summary.failures[:10]
                    )
                )
        for item in made[: self.config.tracking.videos]:
            self._memory.round_preview(self._store.open("pairs", item.key), item.clip_id, self.number)

    def train(self, one: Round) -> bool:
        """Train a round's adapters on the pairs of all rounds so far; return whether there is a new one."""
        each_clip = self.config.tune.scope == "clip"
        if not self._train(f"tune, round {self.number}, {one.steps} steps", one.steps, each_clip=each_clip):
            self.summary.ended = f"Round {self.number} left no adapter."
            self._memory.end_round(self.summary, failed=True)
            return False
        self.summary.rounds.append(one)
        curriculum = self.config.tune.curriculum
        most = curriculum.max_rounds if curriculum.schedule == "auto" else len(curriculum.rounds)
        self._shown.progress(100.0 * (self.number + 1) / (most + 1))
        return True

    def touch_up(self) -> None:
        """Go on from the dataset's adapter with every clip's own pairs."""
        if not self._adapters:
            return
        self._shared = next(iter(self._adapters.values()))
        self._live = self._memory.begin_round(self.number, "touch-up")
        self._train("tune, touch-up", self.config.tune.touch_up_steps, each_clip=True)
        self._memory.end_round(self.summary)

    def next_round(self, one: Round) -> Round | None:
        """Return the round after this one, or None where the rounds end or quality collapses."""
        label = f"round-{self.number}"

        def quality(angle: float) -> float:
            self.explore(label, (angle,))
            return self.summary.quality(label, angle)

        found, self.summary.ended = following_round(self.config.tune.curriculum, self.number, one, quality)
        self._memory.end_round(self.summary)
        self.number += 1
        return found

    def explore(self, label: str, angles: Sequence[float]) -> None:
        """Measure base or newest adapters at some angles: points of the angle-quality curve."""
        adapters = {} if label == BASE else self._adapters
        if label != BASE and not adapters:
            return
        step = -1 if label == BASE else self.number
        for angle in angles:
            items = self._plan.explore_items(label, angle, adapters)
            outcomes = self._run(self._plan.explore_stage(), items, f"explore, {label}, {angle:g} degrees")
            usable = [outcome for outcome in outcomes if outcome.usable]
            self._memory.explored(step, angle, usable)
            for outcome in usable:
                self.summary.explored.append(Explored(label, outcome.clip_id, angle, outcome.metrics))
                self._explored[label, angle, outcome.clip_id] = outcome.key

    def deliver(self) -> None:
        """Write the adapters, the curve and before-and-after sheets to the outputs."""
        summary, config = self.summary, self.config
        if not self._adapters:
            return
        outputs = f"{config.outputs.rstrip('/')}/{config.dataset.name}"
        finished = {
            clip_id: self._store.open("tune", key) for clip_id, key in sorted(self._finished().items())
        }
        summary.adapted = set(self._adapters)
        summary.adapter = deliver_adapters(outputs, finished)
        sheets = self._sheets()
        for clip_id, sheet in list(sheets.items())[: config.tracking.videos]:
            self._memory.picture(sheet, clip_id, self.number)
        summary.seconds = time.monotonic() - self._started
        deliver_report(outputs, summary, sheets)
        self._shown.progress(100.0)
        self._memory.finished(summary, finished)

    def finish(self) -> TuneSummary:
        """Report, and fail a deployment's run where too many clips are missing."""
        summary, logger = self.summary, get_run_logger()
        summary.seconds = time.monotonic() - self._started
        for failure in summary.failures[:LOGGED_FAILURES]:
            logger.info("missing %s at %s: %s", failure.item, failure.stage, failure.error)
        self._shown.summary(summary.markdown())
        if self._deployed and not summary.acceptable:
            raise TooManyMissing(
                f"{summary.failure_share:.0%} of {summary.clips} clips have no adapter, more than "
                f"execution.max_failure_share={summary.max_failure_share:.0%}; "
                "`recapture quarantine ls` says why"
            )
        return summary

    def _train(self, title: str, steps: int, *, each_clip: bool) -> bool:
        items = self._plan.tune_items(self.number, steps, self._pairs, self._adapters, each_clip=each_clip)
        outcomes = self._run(self._plan.tune_stage(self._live), items, title)
        made = self._usable(items, outcomes)
        for item in made:
            Checkpoint(self.config.store, "tune", item.key).forget()
            own = [item.clip_id] if each_clip else [clip.id for clip in self._plan.clips]
            self._adapters |= dict.fromkeys(own, item.key)
        self._memory.trained(outcomes, {item.name: self._store.open("tune", item.key) for item in made})
        return bool(made)

    def _finished(self) -> dict[str, str]:
        """Clip id, or nothing for that of all clips -> key of a finished adapter."""
        if self.config.tune.scope == "clip":
            return dict(self._adapters)
        if self.config.tune.scope == "dataset":
            return {"": next(iter(self._adapters.values()))}
        own = {clip_id: key for clip_id, key in self._adapters.items() if key != self._shared}
        return {"": self._shared, **own}

    def _sheets(self) -> dict[str, Any]:
        """Clip id -> base beside tuned at the largest angle."""
        angle = max(self.config.tune.explore.angles)
        sheets = {}
        for clip in self._plan.clips:
            keys = [self._explored.get((label, angle, clip.id)) for label in (BASE, TUNED)]
            if None not in keys:
                sheets[clip.id] = before_after(*(self._store.open("explore", str(key)) for key in keys))
        return sheets

    def _usable(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[Item]:
        return [item for item, outcome in zip(items, outcomes) if outcome.usable]

    def _run(self, stage: Stage, items: Sequence[Item], title: str) -> list[Outcome]:
        """Bring a stage's items up to date; one line on the terminal says how it went."""
        started, outcomes = time.monotonic(), list[Outcome]()
        config = self._patient() if stage.name == "tune" else self.config
        self._console.print(f"[dim]{title} …[/dim]")
        for start in range(0, len(items), config.execution.shard):
            part = items[start : start + config.execution.shard]
            outcomes += brought_up_to_date(
                stage,
                part,
                f"{title}: {len(part)} items",
                number=self._parts,
                run_id=self._run_id,
                config=config,
                store=self._store,
                executor=self._executor,
                on_outcome=lambda outcome: None,
            )
            self._parts += 1
        self.summary.add(stage.name, outcomes)
        seconds = time.monotonic() - started
        get_run_logger().info("%s: %s in %.0f s", title, counted(outcomes), seconds)
        self._console.print(f"{title}: {counted(outcomes)} in {seconds:.0f} s")
        return outcomes

    def _patient(self) -> RecaptureConfig:
        """The configuration with the time limit of a training."""
        limit = {"timeout_seconds": self.config.tune.timeout_seconds}
        return self.config.model_copy(update={"execution": self.config.execution.model_copy(update=limit)})
