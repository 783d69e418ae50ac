"""Progress of a call that runs on a worker: the worker is asked for its last beat while it works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from recapture.conf.heartbeat import beat

GROUP = "watch"  # a worker's thread for questions; its work has others
WORK = "work"
QUESTIONS_PER_LIMIT = 4


class Watch:
    """What is known of the progress of one call on a worker."""

    def __init__(self, actor: Any, name: str) -> None:
        self.actor, self._name = actor, name
        self.started = self._progress = self._asked = time.monotonic()
        self._question: Any = None

    @property
    def seconds(self) -> float:
        """Return the time since the call began."""
        return time.monotonic() - self.started

    def is_stuck(self, limit: float) -> bool:
        """Return whether the call has made no progress for `limit` seconds, or its worker has not answered.

        Never waits. A worker that cannot answer holds the interpreter all the time, so it cannot beat either.
        """
        now = time.monotonic()
        if self._question is None:
            if now - max(self._progress, self._asked) > limit / QUESTIONS_PER_LIMIT:
                self._question = self.actor.silence.options(concurrency_group=GROUP).remote(self._name)
                self._asked = now
            return False
        if not ray.wait([self._question], timeout=0)[0]:
            return now - self._asked > limit
        question, self._question = self._question, None
        try:
            silence = ray.get(question)
        except RayError:
            return False  # the worker has died: the call itself says so
        self._progress = max(self._progress, now - silence)
        return now - self._progress > limit


class Relay:
    """The progress of other processes, passed on as this one's own while it waits for them."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors, self._questions = actors, list[Any]()
        self._passed_on = time.monotonic()

    def progressed(self) -> bool:
        """Return whether any process has beaten since this last returned True; if so, beat. Never waits."""
        answered = ray.wait(self._questions, timeout=0)[0] if self._questions else []
        now, fresh = time.monotonic(), False
        for question in answered:
            self._questions.remove(question)
            with suppress(RayError):  # a process that has died is reported by its own call
                fresh = fresh or ray.get(question) < now - self._passed_on
        if not self._questions:
            asked = (actor.silence.options(concurrency_group=GROUP) for actor in self._actors)
            self._questions = [question.remote() for question in asked]
        if fresh:
            self._passed_on = now
            beat()
        return fresh
