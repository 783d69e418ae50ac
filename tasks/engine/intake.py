"""Back-pressure: how many clips may be begun and not finished, and how much they may have written."""

from __future__ import annotations

import heapq
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsspec.implementations.local import LocalFileSystem

from recapture.conf.schema import ExecutionConfig
from recapture.datasets.store.storage import open_filesystem
from recapture.tasks.engine.stage import Item, Outcome

if TYPE_CHECKING:
    from recapture.tasks.engine.planner import StagePlan

SHARE_OF_DISK = 0.25  # of what is free on a local store's disk when the job begins
GIGABYTE = 1e9
Begin = Callable[[Item], None]


@dataclass
class _Clip:
    """One clip of an open shard."""

    left: set[tuple[str, str]] = field(default_factory=set)  # stage and name of items without outcome
    weight: tuple[float, float, int] = (0.0, 0.0, 0)  # of the heaviest kind of worker that it needs
    heavy: set[tuple[str, str]] = field(default_factory=set)  # those of `left` that need this kind
    held: list[tuple[Item, Begin]] = field(default_factory=list)
    begun: bool = False
    bytes: int = 0  # written for it since it was begun

    def expect(self, weight: tuple[float, float, int], item: tuple[str, str]) -> None:
        """Announce an item that a kind of worker of some weight makes."""
        self.left.add(item)
        if weight > self.weight:
            self.weight, self.heavy = weight, set()
        if weight == self.weight:
            self.heavy.add(item)


class Intake:
    """The clips of open shards that are begun; safe to use from any thread.

    Items of a clip that is not begun are held back while there are too many. A clip that is begun can always
    finish, because its items depend on no other clip's, and one clip may always be begun: nothing waits for
    ever. clips: returns the limit; None: no limit. most_bytes: what unfinished clips may write,
    where each counts for as much as finished ones have written on average. to_the_end: whether a clip counts
    as one of `clips` until it is finished, or until the heaviest kind of worker that it needs has done with
    it: clips that are only being measured then hold back none that a GPU could fill.
    """

    def __init__(
        self, clips: Callable[[], int | None], most_bytes: float | None = None, *, to_the_end: bool = True
    ) -> None:
        self._limit, self._most_bytes, self._to_the_end = clips, most_bytes, to_the_end
        self._lock = threading.Lock()
        self._clips: dict[str, _Clip] = {}
        self._queue: list[tuple[float, int, str]] = []  # clips that are held back, the longest first
        self._begun = self._bytes = self._came = self._flying = 0
        self._counted = 0  # clips that are begun and count towards the limit
        self._finished, self._finished_bytes = 0, 0  # clips that were begun, and what was written for them
        self.most_begun = 0  # the highest number of clips in flight so far

    def expect(self, plan: StagePlan) -> None:
        """Announce the items of a plan: their clips are finished when all have outcomes."""
        with self._lock:
            for item in plan.items:
                clip = self._clips.setdefault(item.clip_id, _Clip())
                before = self._counts(clip)
                clip.expect(plan.stage.resources.weight, (plan.stage.name, item.name))
                self._counted += self._counts(clip) - before

    def submit(self, item: Item, begin: Begin) -> None:
        """Call begin(item), now or as soon as its clip may be begun."""
        with self._lock:
            clip = self._clips.get(item.clip_id)
            if clip is None or clip.begun:
                self._flying += clip is not None
                free = [(item, begin)]
            else:
                if not clip.held:
                    self._came += 1
                    weight = float(getattr(item.params, "weight", 0.0))
                    heapq.heappush(self._queue, (-weight, self._came, item.clip_id))
                clip.held.append((item, begin))
                free = list(self._admitted())
        for one, start in free:
            start(one)

    def settled(self, outcome: Outcome) -> None:
        """Note that an item has its outcome; call this after what depends on it was submitted."""
        with self._lock:
            clip = self._clips.get(outcome.clip_id)
            if clip is None or (outcome.stage, outcome.item) not in clip.left:
                return
            before = self._counts(clip)
            clip.left.discard((outcome.stage, outcome.item))
            clip.heavy.discard((outcome.stage, outcome.item))
            self._counted += self._counts(clip) - before
            if clip.begun:
                self._flying -= bool(outcome.attempts)
                clip.bytes += outcome.bytes
                self._bytes += outcome.bytes
            if not clip.left:
                self._begun -= clip.begun
                self._finished += clip.begun
                self._finished_bytes += clip.bytes
                self._bytes -= clip.bytes
                del self._clips[outcome.clip_id]
            free = list(self._admitted())
        for one, start in free:
            start(one)

    def nudge(self) -> None:
        """Begin one more clip if those that are begun wait for something, such as a copy of another clip."""
        with self._lock:
            free = list(self._admitted(one_more=True)) if self._flying <= 0 else []
        for one, start in free:
            start(one)

    def _admitted(self, *, one_more: bool = False) -> Iterator[tuple[Item, Begin]]:
        while self._queue and (one_more or self._has_room()):
            one_more = False
            clip = self._clips[heapq.heappop(self._queue)[2]]
            clip.begun = True
            self._begun += 1
            self._counted += self._counts(clip)
            self.most_begun = max(self.most_begun, self._begun)
            self._flying += len(clip.held)
            yield from clip.held
            clip.held = []

    def _counts(self, clip: _Clip) -> bool:
        return clip.begun and bool(clip.left if self._to_the_end else clip.heavy)

    def _has_room(self) -> bool:
        if self._begun == 0:
            return True
        limit = self._limit()
        enough = limit is None or self._counted < limit
        if not enough or self._most_bytes is None:
            return enough
        mean = self._finished_bytes / max(1, self._finished)
        return max(self._bytes, (self._begun + 1) * mean) <= self._most_bytes


def open_intake(config: ExecutionConfig, store_root: str, automatic: Callable[[], int | None]) -> Intake:
    """Return the configured limits; automatic: how many clips keep the workers busy."""
    clips = config.clips_in_flight
    most = config.gigabytes_in_flight
    limit = _share_of_disk(store_root) if most is None else most * GIGABYTE
    if clips is None:
        return Intake(automatic, limit, to_the_end=False)
    return Intake(lambda: clips, limit)


def _share_of_disk(store_root: str) -> float | None:
    """Return the bytes that unfinished clips may write to a local store; None: the size is not known."""
    filesystem, root = open_filesystem(store_root)
    if not isinstance(filesystem, LocalFileSystem):
        return None
    filesystem.makedirs(root, exist_ok=True)
    return SHARE_OF_DISK * shutil.disk_usage(root).free
