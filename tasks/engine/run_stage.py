"""One shard of a stage: sort out what is to be done, have it done, and record the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from recapture.conf.redact import without_credentials
from recapture.datasets.store.artifact import Artifact
from recapture.datasets.store.manifest import named_keys, write_part
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.storage import StoreBusy, StoreFailed
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.board import Board, places
from recapture.tasks.engine.executor import Executor
from recapture.tasks.engine.feed import Feed, as_twin, blocked
from recapture.tasks.engine.intake import Intake
from recapture.tasks.engine.retry import RetryPolicy, StageSick, sick_message
from recapture.tasks.engine.stage import Item, Outcome, Stage, Status


@dataclass(frozen=True)
class RunContext:
    """What all shards of a job share."""

    store: ArtifactStore
    executor: Executor
    dataset: str  # names the manifests and the quarantine
    run_id: str
    policy: RetryPolicy = RetryPolicy()  # noqa: RUF009 - frozen
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    board: Board = field(default_factory=Board)  # what other shards are about to make
    intake: Intake | None = None  # decides when a clip may begin; None: at once
    share: str | None = None  # the folder of manifests of a job over a share of its dataset


@dataclass(frozen=True)
class Todo:
    """A stage's items, by what is to be done with each."""

    todo: tuple[Item, ...]
    reused: tuple[Item, ...]
    blocked: tuple[tuple[Item, str], ...]  # with the parent stage whose artifact is missing
    quarantined: tuple[tuple[Item, Quarantined], ...]
    committed: Mapping[str, Artifact]  # key -> the artifact that exists already
    elsewhere: tuple[Item, ...] = ()  # another shard makes their artifacts

    @classmethod
    def nothing(cls, items: Sequence[Item], committed: Mapping[str, Artifact]) -> Todo:
        """Return the Todo of items that are all complete."""
        return cls((), tuple(items), (), (), committed)


def sort_items(
    stage: Stage,
    items: Sequence[Item],
    store: ArtifactStore,
    dataset: str,
    *,
    expected: bool = False,
    board: Board | None = None,
    shard: int = 0,
) -> Todo:
    """Sort items: existing artifacts are reused, quarantined items skipped, items without parents blocked.

    Only artifacts count, not manifests: an artifact that was deleted is made again. Items of one key (two
    copies of a clip) are made once. expected: assume that missing parents will exist, to plan ahead of a run.
    board: parents that it knows may still be to come.
    """
    board = Board() if board is None else board
    committed = store.whole(stage.name, (item.key for item in items))
    missing = [item for item in items if item.key not in committed]
    quarantined = Quarantine(store.root, dataset).held(stage.name, {item.key for item in missing})
    parents = {} if expected else _parents(missing, store, board)
    todo: dict[str, Item] = {}
    reused, blocked, held, elsewhere = [], [], [], []
    for item in items:
        if item.key in committed or item.key in todo:
            reused.append(item)
        elif item.key in quarantined:
            held.append((item, quarantined[item.key]))
        elif not expected and (gone := _gone(item, parents, board)):
            blocked.append((item, gone[0]))
        elif not board.is_maker(stage.name, item.key, shard):
            elsewhere.append(item)
        else:
            todo[item.key] = item
    found = tuple(reused), tuple(blocked), tuple(held)
    return Todo(tuple(todo.values()), *found, committed, tuple(elsewhere))


def run_stage(
    stage: Stage,
    items: Sequence[Item],
    context: RunContext,
    *,
    shard: int = 0,
    rank: int = 0,
    complete: Mapping[str, Artifact] | None = None,
) -> list[Outcome]:
    """Bring a shard of a stage up to date; return one outcome per item, in the order of the items.

    Writes a manifest part for the items worked on and for artifacts that no part names yet; quarantines
    failed items. Raises StageSick if the stage itself cannot work or the store refuses, StoreBusy if the
    store does not answer; finished artifacts are kept and, if the store allows it, recorded.
    rank: the place of the stage in its job; where stages run side by side, later ones come first.
    complete: the artifacts of all items, by key, if all are known to exist; they are not looked up again.
    """
    with _naming_the_stage(stage):
        if complete is None:
            todo = sort_items(stage, items, context.store, context.dataset, board=context.board, shard=shard)
        else:
            todo = Todo.nothing(items, complete)
        return _Shard(stage, todo, context, shard).bring_up_to_date(items, rank)


@contextmanager
def _naming_the_stage(stage: Stage) -> Iterator[None]:
    try:
        yield
    except StoreBusy:
        raise
    except StoreFailed as error:
        raise StageSick(sick_message(stage, without_credentials(str(error)))) from None


class _Shard:
    """One shard while its items are worked on."""

    def __init__(self, stage: Stage, todo: Todo, context: RunContext, number: int) -> None:
        self._stage, self._todo, self._context, self._number = stage, todo, context, number
        self._settled: dict[str, Outcome] = {}  # by item
        self._made: list[Outcome] = []

    def bring_up_to_date(self, items: Sequence[Item], rank: int) -> list[Outcome]:
        given, todo = self._context, self._todo
        self._settle_held_back()
        self._record(self._adopted())  # first, or garbage collection could delete what others are made from
        self._settle_committed()
        feed = Feed(self._stage, todo.todo, todo.elsewhere, board=given.board, intake=given.intake, rank=rank)
        try:
            given.executor.run(self._stage, feed, self._finished, given.policy)
        except BaseException:
            with suppress(StoreFailed):  # the artifacts exist; the next run names them
                self._record(self._made_rows())
            raise
        self._record(self._made_rows())
        self._settle_copies()
        return [self._settled[item.name] for item in items]

    def _settle(self, outcome: Outcome) -> None:
        self._settled[outcome.item] = outcome
        self._context.on_outcome(outcome)
        self._context.board.settle(outcome)
        if self._context.intake is not None:
            self._context.intake.settled(outcome)  # when what depends on it has been submitted

    def _settle_held_back(self) -> None:
        for item, entry in self._todo.quarantined:
            self._settle(_outcome(self._stage, item, entry.state, entry.error_type, entry.error))
        for item, parent in self._todo.blocked:
            self._settle(blocked(self._stage, item, parent))

    def _settle_committed(self) -> None:
        for item in self._todo.reused:
            if (found := self._todo.committed.get(item.key)) is not None:
                self._settle(_outcome(self._stage, item, "reused", metrics=found.metrics))

    def _settle_copies(self) -> None:
        """Settle the items whose artifact was made for another item of this shard."""
        made = {outcome.key: outcome for outcome in self._settled.values()}
        for item in self._todo.reused:
            if item.key not in self._todo.committed:
                self._settle(as_twin(item, made[item.key]))

    def _finished(self, outcome: Outcome) -> None:
        if outcome.attempts:  # otherwise it was not tried here
            self._made.append(outcome)
            if outcome.status == "quarantined":
                self._quarantine(outcome)
        self._settle(outcome)

    def _made_rows(self) -> list[dict[str, Any]]:
        by_name = {item.name: item for item in self._todo.todo}
        return [self._row(by_name[outcome.item], outcome) for outcome in self._made]

    def _record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            given, stage = self._context, self._stage.name
            root, number = given.store.root, self._number
            write_part(root, given.dataset, stage, given.run_id, number, rows, share=given.share)

    def _adopted(self) -> list[dict[str, Any]]:
        """Return rows of reused artifacts that the dataset's manifest does not name.

        They were made for another dataset, or by a run that was killed before it could record them.
        """
        committed, given = self._todo.committed, self._context
        where = given.store.root, given.dataset, self._stage.name
        named = named_keys(*where, committed.keys(), share=given.share)
        unknown = committed.keys() - named
        unnamed = {item.key: item for item in self._todo.reused if item.key in unknown}
        rows = []
        for key, item in unnamed.items():
            outcome = _outcome(self._stage, item, "reused", metrics=committed[key].metrics)
            rows.append(self._row(item, replace(outcome, bytes=committed[key].total_bytes)))
        return rows

    def _quarantine(self, outcome: Outcome) -> None:
        entry = Quarantined(
            outcome.item,
            outcome.clip_id,
            outcome.stage,
            outcome.key,
            outcome.error_type,
            outcome.error,
            outcome.traceback,
            outcome.attempts,
            self._context.run_id,
        )
        Quarantine(self._context.store.root, self._context.dataset).add(entry)

    def _row(self, item: Item, outcome: Outcome) -> dict[str, Any]:
        return {
            "clip_id": item.clip_id,
            "item": item.name,
            "key": item.key,
            "stage": self._stage.name,
            "status": outcome.status,
            "attempts": outcome.attempts,
            "error_type": outcome.error_type,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "gpu_seconds": outcome.gpu_seconds,
            "bytes": outcome.bytes,
            "device": outcome.device,
            "vram_peak_mb": outcome.vram_peak_mb,
            "parent_keys": list(item.inputs.values()),
            "code_version": self._stage.version,
            "run_id": self._context.run_id,
            "metrics": dict(outcome.metrics),
        }


def _parents(items: Sequence[Item], store: ArtifactStore, board: Board) -> dict[str, Collection[str]]:
    """Return parent stage -> those of the keys that the items need that exist; not those the board knows."""
    wanted: dict[str, set[str]] = {}
    for item in items:
        for parent, key in places(item.inputs):
            if not board.knows(parent, key):
                wanted.setdefault(parent, set()).add(key)
    return {parent: store.whole(parent, keys) for parent, keys in wanted.items()}


def _gone(item: Item, parents: Mapping[str, Collection[str]], board: Board) -> list[str]:
    """Return the stages of the inputs that do not exist, and are not to come."""
    return [
        stage
        for stage, key in places(item.inputs)
        if (
            (found := board.found(stage, key)) is not None and not found.usable
            if board.knows(stage, key)
            else key not in parents[stage]
        )
    ]


def _outcome(
    stage: Stage,
    item: Item,
    status: Status,
    error_type: str = "",
    error: str = "",
    metrics: Mapping[str, float] | None = None,
) -> Outcome:
    name, clip, key = item.name, item.clip_id, item.key
    return Outcome(name, clip, key, stage.name, status, error_type, error, attempts=0, metrics=metrics or {})
