"""The items of one shard of a stage that are to be made, each given out when its parents exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from recapture.tasks.engine.board import Board
from recapture.tasks.engine.intake import Intake
from recapture.tasks.engine.stage import InParts, Item, Outcome, Stage


class Feed:
    """Items on their way to an executor, which returns one outcome for each.

    Outcomes of items that cannot be made, because a parent cannot, or that another shard makes, come from
    here. rank: the place of the stage in its job; items of later stages are worked on first.
    """

    def __init__(
        self,
        stage: Stage,
        items: Sequence[Item],
        elsewhere: Sequence[Item] = (),  # made by another shard
        *,
        board: Board | None = None,
        intake: Intake | None = None,
        rank: int = 0,
    ) -> None:
        self.rank, self._stage, self._items, self._elsewhere = rank, stage, items, elsewhere
        self._board, self._intake = board, intake

    def __len__(self) -> int:
        return len(self._items) + len(self._elsewhere)

    @property
    def parts(self) -> int:
        """Return into how many parts its items can be cut at most, as far as the plan knows."""
        if not isinstance(self._stage, InParts):
            return len(self)
        return sum(max(1, self._stage.most_parts(item)) for item in self._items)

    def attach(self, begin: Callable[[Item], None], tell: Callable[[Outcome], None]) -> None:
        """Call begin(item) for each item when it is its turn, tell(outcome) for those that have none.

        Both are called from any thread, each item's once.
        """

        def ready(item: Item) -> None:
            if self._intake is None:
                begin(item)
            else:
                self._intake.submit(item, begin)

        def lost(item: Item, parent: str) -> None:
            tell(blocked(self._stage, item, parent))

        for item in self._items:
            if self._board is None:
                ready(item)
            else:
                self._board.when_ready(item, ready, lost)
        for item in self._elsewhere:
            assert self._board is not None
            self._board.follow(self._stage.name, item.key, partial(_tell_twin, item, tell))

    def __iter__(self) -> Iterator[Item | Outcome]:
        """Yield items to be worked on one after the other, and outcomes of those that are not.

        For stages that run one after the other: nothing is pending, so each item is ready or lost.
        """
        given: list[Item | Outcome] = []
        for item in self._items:
            if self._board is None:
                given.append(item)
            else:
                self._board.when_ready(
                    item, given.append, lambda one, parent: given.append(blocked(self._stage, one, parent))
                )
            yield from given
            given.clear()
        for item in self._elsewhere:
            assert self._board is not None
            if (made := self._board.found(self._stage.name, item.key)) is not None:
                yield as_twin(item, made)


def _tell_twin(item: Item, tell: Callable[[Outcome], None], made: Outcome) -> None:
    tell(as_twin(item, made))


def blocked(stage: Stage, item: Item, parent: str) -> Outcome:
    """Return the outcome of an item whose parent does not exist."""
    reason = f"stage {parent!r} has no artifact for it"
    name, clip, key = item.name, item.clip_id, item.key
    return Outcome(name, clip, key, stage.name, "blocked", "Blocked", reason, attempts=0)


def as_twin(item: Item, made: Outcome) -> Outcome:
    """Return the outcome of an item whose artifact was made, or failed, for another item of the same key."""
    status = "reused" if made.usable else made.status
    own = replace(made, item=item.name, clip_id=item.clip_id, status=status, attempts=0, traceback="")
    return replace(own, seconds=0.0, gpu_seconds=0.0, bytes=0, device="", vram_peak_mb=0.0)
