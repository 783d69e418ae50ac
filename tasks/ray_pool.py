"""Data-parallel fan-out over Ray: warm actors that host a stage, driven item by item from here.

Ray neither restarts actors nor retries calls: this loop owns both, so that a crash is counted to the item
that was in flight and to no other.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError

from recapture.tasks.pool import RetryPolicy, StageSick, percentile_95, settle, sick_message
from recapture.tasks.stage import Item, Outcome, Resources, Stage
from recapture.tasks.worker import Worker

POLL_SECONDS = 1.0
DEATHS_BEFORE_SICK = 3  # a worker, while nothing has succeeded yet


@dataclass
class _Call:
    """One item on one worker."""

    actor: Any
    item: Item
    attempt: int
    started: float


class RayExecutor:
    """A pool of warm workers, kept from stage to stage while their resources stay the same."""

    def __init__(self, store_root: str, *, workers: int | None = None, address: str | None = None) -> None:
        self._store_root, self._workers, self._address = store_root, workers, address
        self._actors: list[Any] = []
        self._resources: Resources | None = None

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not ray.is_initialized():
            ray.init(
                address=self._address,
                include_dashboard=False if self._address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        ray.shutdown()

    def run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        if not items:
            return []
        self._staff(stage, len(items))
        return _Run(self, stage, policy, on_outcome).drive(items)

    def start_worker(self, resources: Resources) -> Any:
        """Start one worker process; Ray places it where its resources are free."""
        actor = ray.remote(Worker).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0, max_task_retries=0
        )
        return actor.remote(self._store_root, resources.cpus, resources.gpus)

    def replace(self, dead: Any, stage: Stage) -> Any:
        """Put a new worker in a dead one's place."""
        ray.kill(dead)
        self._actors.remove(dead)
        self._actors.append(self.start_worker(stage.resources))
        return self._actors[-1]

    @property
    def actors(self) -> list[Any]:
        """Return the workers."""
        return list(self._actors)

    def _staff(self, stage: Stage, items: int) -> None:
        if stage.resources != self._resources:
            self._release()
            self._resources = stage.resources
        wanted = min(self._workers or self._room(stage.resources, stage.name), items)
        while len(self._actors) < wanted:
            self._actors.append(self.start_worker(stage.resources))

    def _room(self, resources: Resources, stage: str) -> int:
        cluster = ray.cluster_resources()
        room = int(cluster.get("CPU", 0) / resources.cpus)
        if resources.gpus > 0:
            room = min(room, int(cluster.get("GPU", 0) / resources.gpus))
        if room < 1:
            raise StageSick(
                f"stage {stage!r} asks for {resources.cpus:g} CPUs and {resources.gpus:g} GPUs a worker; the "
                f"cluster has {cluster.get('CPU', 0):g} and {cluster.get('GPU', 0):g}: lower "
                f"execution.resources.{stage}, or add nodes"
            )
        return room

    def _release(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()


class _Run:
    """One stage over its items: what waits, what is in flight, what is done."""

    def __init__(
        self, pool: RayExecutor, stage: Stage, policy: RetryPolicy, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._pool, self._stage, self._policy, self._on_outcome = pool, stage, policy, on_outcome
        self._waiting: deque[tuple[Item, int]] = deque()
        self._loading: dict[Any, Any] = {}  # reference -> actor
        self._flying: dict[Any, _Call] = {}
        self._done: list[Outcome] = []
        self._seconds: list[float] = []
        self._deaths = self._succeeded = 0

    def drive(self, items: Sequence[Item]) -> list[Outcome]:
        stage = ray.put(self._stage)
        self._stage_reference = stage
        self._waiting.extend((item, 1) for item in items)
        for actor in self._pool.actors:
            self._load(actor)
        while self._waiting or self._flying:
            ready, _ = ray.wait([*self._loading, *self._flying], num_returns=1, timeout=POLL_SECONDS)
            for reference in ready:
                if reference in self._loading:
                    self._loaded(reference, self._loading.pop(reference))
                else:
                    self._returned(reference, self._flying.pop(reference))
            self._stop_hung()
        return self._done

    def _load(self, actor: Any) -> None:
        self._loading[actor.load.remote(self._stage_reference)] = actor

    def _loaded(self, reference: Any, actor: Any) -> None:
        try:
            problem = ray.get(reference)
        except RayError as error:
            self._died(actor, f"a worker died while setting up: {_first_line(error)}")
            return
        if problem:
            raise StageSick(sick_message(self._stage, problem))
        self._next(actor)

    def _next(self, actor: Any) -> None:
        if self._waiting:
            item, attempt = self._waiting.popleft()
            self._flying[actor.run.remote(item, attempt)] = _Call(actor, item, attempt, time.monotonic())

    def _returned(self, reference: Any, call: _Call) -> None:
        try:
            outcome: Outcome = ray.get(reference)
        except RayActorError as error:
            reason = f"its worker died: {_first_line(error)}"
            self._settle(call, self._lost(call, "WorkerLost", reason))
            self._died(call.actor, reason)
            return
        except RayError as error:
            outcome = self._lost(call, type(error).__name__, str(error))
        self._settle(call, outcome)
        self._next(call.actor)

    def _stop_hung(self) -> None:
        limit = max(self._policy.timeout_seconds, 5 * percentile_95(self._seconds))
        now = time.monotonic()
        for reference, call in list(self._flying.items()):
            if now - call.started > limit:
                del self._flying[reference]
                reason = f"no result after {limit:.0f} s; raise execution.timeout_seconds if it needs longer"
                self._settle(call, self._lost(call, "WorkerHung", reason))
                self._died(call.actor, reason)

    def _settle(self, call: _Call, outcome: Outcome) -> None:
        if outcome.status == "error" and self._policy.again(outcome):
            self._waiting.append((call.item, outcome.attempts + 1))
            return
        if outcome.status == "ok":
            self._succeeded += 1
            self._seconds.append(outcome.seconds)
        self._done.append(settle(outcome))
        self._on_outcome(self._done[-1])

    def _died(self, actor: Any, reason: str) -> None:
        self._deaths += 1
        workers = len(self._pool.actors)
        if not self._succeeded and self._deaths > DEATHS_BEFORE_SICK * workers:
            raise StageSick(
                sick_message(self._stage, f"{self._deaths} workers died, none succeeded; {reason}")
            )
        replacement = self._pool.replace(actor, self._stage)
        if self._waiting:
            self._load(replacement)

    def _lost(self, call: _Call, kind: str, reason: str) -> Outcome:
        return Outcome(
            item=call.item.name,
            clip_id=call.item.clip_id,
            key=call.item.key,
            stage=self._stage.name,
            status="error",
            error_type=kind,
            error=reason,
            attempts=call.attempt,
            seconds=time.monotonic() - call.started,
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
