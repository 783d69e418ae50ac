"""One stage over its items on a pool of workers: those that wait, are in flight, and are done.

Ray neither restarts actors nor retries calls: this loop does both, so that a crash is attributed to the item
that was in flight and to no other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from recapture.conf.redact import without_credentials
from recapture.tasks.engine.ray_watch import WORK, Watch
from recapture.tasks.engine.retry import RetryPolicy, StageSick, settle, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Stage
from recapture.tasks.engine.worker import DEVICE_LOST, loading, reason, working

POLL_SECONDS = 1.0
DEATHS_BEFORE_SICK = 3  # per worker, while nothing has succeeded yet; or in a row during setup


class Pool(Protocol):
    """The workers, as a run uses them."""

    @property
    def actors(self) -> list[Any]: ...

    def replace(self, dead: Any, stage: Stage) -> Any: ...

    def dismiss(self, actor: Any) -> None: ...


class _Load(Watch):
    """One worker's setup."""


class _Call(Watch):
    """One item on one worker."""

    def __init__(self, actor: Any, stage: str, item: Item, attempt: int) -> None:
        super().__init__(actor, working(stage, item.name))
        self.item, self.attempt = item, attempt


class Run:
    """One stage over its items: those that wait, are in flight, and are done."""

    def __init__(
        self, pool: Pool, stage: Stage, policy: RetryPolicy, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._pool, self._stage, self._policy, self._on_outcome = pool, stage, policy, on_outcome
        self._waiting: deque[tuple[Item, int]] = deque()
        self._later: list[tuple[float, Item, int]] = []  # with the moment from which they wait
        self._loading: dict[Any, _Load] = {}
        self._flying: dict[Any, _Call] = {}
        self._done: list[Outcome] = []
        self._idle: list[Any] = []
        self._deaths = self._setups_died = self._succeeded = 0
        self._ready = False  # whether any worker has been set up

    def drive(self, items: Sequence[Item]) -> list[Outcome]:
        self._stage_reference = ray.put(self._stage)
        self._waiting.extend((item, 1) for item in items)
        for actor in self._pool.actors[: len(items)]:
            self._load(actor)
        while self._waiting or self._later or self._flying:
            self._take_up_due()
            for reference in self._finished():
                if reference in self._loading:
                    self._loaded(reference, self._loading.pop(reference))
                else:
                    self._returned(reference, self._flying.pop(reference))
            self._stop_hung()
            self._stop_hung_setups()
        return self._done

    def _finished(self) -> list[Any]:
        """Return a call that has ended, if one does within POLL_SECONDS."""
        if calls := [*self._loading, *self._flying]:
            return list(ray.wait(calls, num_returns=1, timeout=POLL_SECONDS)[0])
        time.sleep(POLL_SECONDS)
        return []

    def _take_up_due(self) -> None:
        now = time.monotonic()
        self._waiting.extend((item, attempt) for due, item, attempt in self._later if due <= now)
        self._later = [entry for entry in self._later if entry[0] > now]
        while self._waiting and self._idle:
            self._next(self._idle.pop())

    def _load(self, actor: Any) -> None:
        reference = actor.load.options(concurrency_group=WORK).remote(self._stage_reference)
        self._loading[reference] = _Load(actor, loading(self._stage.name))

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
        stage, run = self._stage.name, actor.run.options(concurrency_group=WORK)
        self._flying[run.remote(stage, item, attempt)] = _Call(actor, stage, item, attempt)

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
        limit = self._policy.timeout_seconds
        for reference, call in list(self._flying.items()):
            if call.is_stuck(limit):
                del self._flying[reference]
                why = f"no progress for {limit:.0f} s; raise execution.timeout_seconds if it needs longer"
                self._settle(call, self._lost(call, "WorkerHung", why))
                self._died(call.actor, why)

    def _stop_hung_setups(self) -> None:
        limit = self._policy.setup_seconds
        for reference, load in list(self._loading.items()):
            if not load.is_stuck(limit):
                continue
            del self._loading[reference]
            self._pool.dismiss(load.actor)
            if not self._ready or not self._pool.actors:
                raise self._sick(
                    f"a worker was not ready after {load.seconds:.0f} s and made no progress for "
                    f"{limit:.0f} s: its setup hangs, or no node has room"
                )
            if self._waiting and self._idle:  # in place of the dismissed one
                self._next(self._idle.pop())

    def _settle(self, call: _Call, outcome: Outcome) -> None:
        if outcome.status == "error" and self._policy.again(outcome):
            due = time.monotonic() + self._policy.pause(outcome)
            self._later.append((due, call.item, outcome.attempts + 1))
            return
        if outcome.status == "ok":
            self._succeeded += 1
        self._done.append(settle(self._stage, outcome))
        self._on_outcome(self._done[-1])

    def _died(self, actor: Any, why: str) -> None:
        self._deaths += 1
        allowed = max(DEATHS_BEFORE_SICK, self._policy.attempts) * len(self._pool.actors)
        if not self._succeeded and self._deaths > allowed:
            raise self._sick(f"{self._deaths} workers died, none succeeded; {why}")
        replacement = self._pool.replace(actor, self._stage)
        if self._waiting or self._later:
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
            seconds=call.seconds,
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
