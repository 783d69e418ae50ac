"""Data-parallel fan-out over Ray: warm actors that host a stage and work on one item at a time.

Ray neither restarts actors nor retries calls: this loop does both, so that a crash is attributed to the item
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
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from recapture.tasks.engine.ray_gang import inside, reserve, room, too_large
from recapture.tasks.engine.redact import without_credentials
from recapture.tasks.engine.retry import RetryPolicy, StageSick, percentile_95, settle, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Resources, Stage
from recapture.tasks.engine.worker import DEVICE_LOST, Worker, reason

POLL_SECONDS = 1.0
DEATHS_BEFORE_SICK = 3  # per worker, while nothing has succeeded yet; or in a row during setup


@dataclass
class _Load:
    """One worker's setup."""

    actor: Any
    started: float


@dataclass
class _Call:
    """One item on one worker."""

    actor: Any
    item: Item
    attempt: int
    started: float


class RayExecutor:
    """A pool of warm workers, kept from stage to stage while their resources stay the same.

    Ray is started for the first item; a Ray that this process has started or joined before is left running.
    """

    def __init__(self, store_root: str, *, workers: int | None = None, address: str | None = None) -> None:
        self.store_root, self._workers, self._address = store_root, workers, address
        self._actors: list[Any] = []
        self._groups: dict[Any, PlacementGroup] = {}  # worker -> its bundles, if it has several
        self._resources: Resources | None = None
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        if self._started:
            ray.shutdown()
            self._started = False

    def run(
        self, stage: Stage, items: Sequence[Item], on_outcome: Callable[[Outcome], None], policy: RetryPolicy
    ) -> list[Outcome]:
        if not items:
            return []
        self._connect()
        self._staff(stage, len(items))
        try:
            return _Run(self, stage, policy, on_outcome).drive(items)
        except BaseException:
            self.release()  # items still in flight must not reach the next stage
            raise

    def start_worker(self, resources: Resources) -> Any:
        """Start one worker process; Ray places it where its resources are free.

        A worker with several bundles uses none of them itself: they are for the processes its stage starts.
        """
        group = None if resources.bundles == 1 else reserve(resources)
        own = resources if group is None else Resources(cpus=0.0)
        place = {"scheduling_strategy": "DEFAULT" if group is None else inside(group, 0)}
        options = ray.remote(Worker).options(
            num_cpus=own.cpus, num_gpus=own.gpus, max_restarts=0, max_task_retries=0, **place
        )
        actor = options.remote(self.store_root, own)
        if group is not None:
            self._groups[actor] = group
        return actor

    def replace(self, dead: Any, stage: Stage) -> Any:
        """Replace a dead worker by a new one."""
        self.dismiss(dead)
        self._actors.append(self.start_worker(stage.resources))
        return self._actors[-1]

    def dismiss(self, actor: Any) -> None:
        """End one worker."""
        ray.kill(actor)
        self._actors.remove(actor)
        if (group := self._groups.pop(actor, None)) is not None:
            remove_placement_group(group)

    @property
    def actors(self) -> list[Any]:
        """Return the workers."""
        return list(self._actors)

    def release(self) -> None:
        """End all workers."""
        for actor in self.actors:
            self.dismiss(actor)

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._started = True

    def _staff(self, stage: Stage, items: int) -> None:
        if stage.resources != self._resources:
            self.release()
            self._resources = stage.resources
        wanted = min(self._workers or self._room(stage.resources, stage.name), items)
        while len(self._actors) < wanted:
            self._actors.append(self.start_worker(stage.resources))

    def _room(self, resources: Resources, stage: str) -> int:
        found = room(resources)
        if found < 1:
            raise StageSick(too_large(resources, stage))
        return found


class _Run:
    """One stage over its items: those that wait, are in flight, and are done."""

    def __init__(
        self, pool: RayExecutor, stage: Stage, policy: RetryPolicy, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._pool, self._stage, self._policy, self._on_outcome = pool, stage, policy, on_outcome
        self._waiting: deque[tuple[Item, int]] = deque()
        self._loading: dict[Any, _Load] = {}
        self._flying: dict[Any, _Call] = {}
        self._done: list[Outcome] = []
        self._seconds: list[float] = []
        self._idle: list[Any] = []
        self._deaths = self._setups_died = self._succeeded = 0
        self._ready = False  # whether any worker has been set up

    def drive(self, items: Sequence[Item]) -> list[Outcome]:
        self._stage_reference = ray.put(self._stage)
        self._waiting.extend((item, 1) for item in items)
        for actor in self._pool.actors[: len(items)]:
            self._load(actor)
        while self._waiting or self._flying:
            ready, _ = ray.wait([*self._loading, *self._flying], num_returns=1, timeout=POLL_SECONDS)
            for reference in ready:
                if reference in self._loading:
                    self._loaded(reference, self._loading.pop(reference))
                else:
                    self._returned(reference, self._flying.pop(reference))
            self._stop_hung()
            self._stop_hung_setups()
        return self._done

    def _load(self, actor: Any) -> None:
        self._loading[actor.load.remote(self._stage_reference)] = _Load(actor, time.monotonic())

    def _loaded(self, reference: Any, load: _Load) -> None:
        try:
            problem = ray.get(reference)
        except RayTaskError as error:
            # Not the setup itself, which returns its error: an import, or unpickling the stage.
            problem = reason(error.cause or error)
        except RayError as error:
            self._setups_died += 1
            why = f"a worker died while setting up: {_first_line(error)}"
            if self._setups_died > DEATHS_BEFORE_SICK * len(self._pool.actors):
                raise self._sick(why) from None
            self._died(load.actor, why)
            return
        if problem:
            raise self._sick(problem)
        self._setups_died, self._ready = 0, True
        self._next(load.actor)

    def _next(self, actor: Any) -> None:
        if not self._waiting:
            self._idle.append(actor)
            return
        item, attempt = self._waiting.popleft()
        self._flying[actor.run.remote(item, attempt)] = _Call(actor, item, attempt, time.monotonic())

    def _returned(self, reference: Any, call: _Call) -> None:
        try:
            outcome: Outcome = ray.get(reference)
        except RayActorError as error:
            why = f"its worker died: {_first_line(error)}"
            self._settle(call, self._lost(call, "WorkerLost", why))
            self._died(call.actor, why)
            return
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else None
            cause = cause or error
            outcome = self._lost(call, type(cause).__name__, without_credentials(str(cause)))
        self._settle(call, outcome)
        if outcome.error_type == DEVICE_LOST:
            self._died(call.actor, f"it lost its GPU: {outcome.error}")
        else:
            self._next(call.actor)

    def _stop_hung(self) -> None:
        limit = max(self._policy.timeout_seconds, 5 * percentile_95(self._seconds))
        now = time.monotonic()
        for reference, call in list(self._flying.items()):
            if now - call.started > limit:
                del self._flying[reference]
                why = f"no result after {limit:.0f} s; raise execution.timeout_seconds if it needs longer"
                self._settle(call, self._lost(call, "WorkerHung", why))
                self._died(call.actor, why)

    def _stop_hung_setups(self) -> None:
        limit, now = self._policy.setup_seconds, time.monotonic()
        for reference, load in list(self._loading.items()):
            if now - load.started <= limit:
                continue
            del self._loading[reference]
            self._pool.dismiss(load.actor)
            if not self._ready or not self._pool.actors:
                raise self._sick(
                    f"a worker was not ready after {limit:.0f} s: its setup hangs, or no node has room"
                )
            if self._waiting and self._idle:  # in place of the dismissed one
                self._next(self._idle.pop())

    def _settle(self, call: _Call, outcome: Outcome) -> None:
        if outcome.status == "error" and self._policy.again(outcome):
            self._waiting.append((call.item, outcome.attempts + 1))
            return
        if outcome.status == "ok":
            self._succeeded += 1
            self._seconds.append(outcome.seconds)
        self._done.append(settle(self._stage, outcome))
        self._on_outcome(self._done[-1])

    def _died(self, actor: Any, why: str) -> None:
        self._deaths += 1
        allowed = max(DEATHS_BEFORE_SICK, self._policy.attempts) * len(self._pool.actors)
        if not self._succeeded and self._deaths > allowed:
            raise self._sick(f"{self._deaths} workers died, none succeeded; {why}")
        replacement = self._pool.replace(actor, self._stage)
        if self._waiting:
            self._load(replacement)

    def _sick(self, why: str) -> StageSick:
        return StageSick(sick_message(self._stage, why))

    def _lost(self, call: _Call, kind: str, why: str) -> Outcome:
        return Outcome(
            item=call.item.name,
            clip_id=call.item.clip_id,
            key=call.item.key,
            stage=self._stage.name,
            status="error",
            error_type=kind,
            error=why,
            attempts=call.attempt,
            seconds=time.monotonic() - call.started,
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
