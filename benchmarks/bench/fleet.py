"""A discrete-event simulation of jobs: drivers that hand clips to GPUs, of which some are lost.

A clip waits for its driver (one server, first come first served, a fixed time per clip), then for a GPU of
the driver's, which works on it for a random time. A GPU is lost after an exponential time; the clip that was
on it starts again elsewhere, before others, and the GPU is replaced after a fixed time. Own code and no
library: ten million clips are one heap entry each, which general libraries take ten times as long for.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


class Clock:
    """Events in the order of their times; of equal times, in the order in which they were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` when `delay` seconds have passed."""
        heapq.heappush(self._events, (self.now + delay, next(self._number), action))

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until no event is left or `until` holds."""
        while self._events and not until():
            self.now, _, action = heapq.heappop(self._events)
            action()


@dataclass(frozen=True)
class Fleet:
    """What carries out a job: one driver and its GPUs. Times in seconds."""

    gpus: int
    driver: float = 0.0  # of the driver, per clip
    lost_per_hour: float = 0.0  # share of the GPUs
    replaced_after: float = 0.0  # until a new GPU works, its model loaded
    in_flight: int = 2  # clips that a driver has handed out, per GPU


@dataclass
class Ran:
    """What a simulated job came to."""

    seconds: float = 0.0
    done: int = 0
    busy: float = 0.0  # GPU seconds of finished clips
    wasted: float = 0.0  # GPU seconds of clips that were lost
    down: float = 0.0  # GPU seconds of waiting for a replacement
    losses: int = 0
    until_tail: float = 0.0  # when the first GPU found nothing to do any more

    def share(self, gpus: int) -> float:
        """Return the share of the GPUs' time that made results."""
        return self.busy / (gpus * self.seconds) if self.seconds else 0.0


class _Job:
    def __init__(self, clips: Iterable[float], fleet: Fleet, random: np.random.Generator) -> None:
        self._clips, self._fleet, self._random = iter(clips), fleet, random
        self._clock, self.ran = Clock(), Ran()
        self._waiting: deque[float] = deque()  # clips that wait for a GPU
        self._idle: deque[int] = deque(range(fleet.gpus))
        self._working: dict[int, tuple[float, float]] = {}  # GPU -> its clip, since when
        self._lives = [0] * fleet.gpus
        self._unfinished, self._asking, self._exhausted = 0, False, False

    def run(self) -> Ran:
        if self._fleet.lost_per_hour:
            for gpu in range(self._fleet.gpus):
                self._expect_loss(gpu)
        self._ask()
        self._clock.run(lambda: self._exhausted and not self._unfinished)
        self.ran.seconds = self._clock.now
        self.ran.until_tail = self.ran.until_tail or self._clock.now
        return self.ran

    def _ask(self) -> None:
        """Have the driver hand out the next clip, unless it is at work or enough clips are in flight."""
        if self._asking or self._exhausted:
            return
        if self._unfinished >= self._fleet.in_flight * self._fleet.gpus:
            return
        clip = next(self._clips, None)
        if clip is None:
            self._exhausted = True
            return
        self._unfinished += 1
        self._asking = True

        def handed_out() -> None:
            self._asking = False
            self._waiting.append(clip)
            self._start()
            self._ask()

        self._clock.after(self._fleet.driver, handed_out)

    def _start(self) -> None:
        while self._waiting and self._idle:
            gpu, clip = self._idle.popleft(), self._waiting.popleft()
            self._working[gpu] = clip, self._clock.now
            life = self._lives[gpu]
            self._clock.after(clip, lambda gpu=gpu, life=life: self._finish(gpu, life))  # type: ignore[misc]

    def _finish(self, gpu: int, life: int) -> None:
        if self._lives[gpu] != life:
            return  # it was lost meanwhile
        clip, _ = self._working.pop(gpu)
        self.ran.done += 1
        self.ran.busy += clip
        self._unfinished -= 1
        self._idle.append(gpu)
        self._ask()
        self._start()
        if self._exhausted and not self._waiting and not self.ran.until_tail:
            self.ran.until_tail = self._clock.now

    def _expect_loss(self, gpu: int) -> None:
        rate = -np.log1p(-self._fleet.lost_per_hour) / 3600
        self._clock.after(self._random.exponential(1 / rate), lambda: self._lose(gpu))

    def _lose(self, gpu: int) -> None:
        self._lives[gpu] += 1
        self.ran.losses += 1
        self.ran.down += self._fleet.replaced_after
        if gpu in self._working:
            clip, since = self._working.pop(gpu)
            self.ran.wasted += self._clock.now - since
            self._waiting.appendleft(clip)
        else:
            self._idle.remove(gpu)
        self._clock.after(self._fleet.replaced_after, lambda: self._replace(gpu))
        self._start()

    def _replace(self, gpu: int) -> None:
        self._idle.append(gpu)
        self._start()
        self._expect_loss(gpu)


def simulate(clips: Iterable[float], fleet: Fleet, random: np.random.Generator) -> Ran:
    """Return what a job comes to whose clips need these GPU seconds, in this order."""
    return _Job(clips, fleet, random).run()


def queue_wait(arrivals: Iterable[float], service: float) -> float:
    """Return the mean wait of requests for one server with a fixed service time; arrivals: sorted times."""
    clock, waited, count, free = Clock(), 0.0, 0, 0.0

    def arrive() -> None:
        nonlocal waited, count, free
        start = max(free, clock.now)
        waited, count, free = waited + start - clock.now, count + 1, start + service

    for moment in arrivals:
        clock.after(moment - clock.now, arrive)
    clock.run()
    return waited / count
