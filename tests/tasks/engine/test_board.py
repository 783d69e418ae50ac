"""An item is ready when all its parents exist, and lost as soon as one cannot be made; whatever the order."""

import random
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from recapture.tasks.engine.board import Board
from recapture.tasks.engine.feed import Feed
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Item, Outcome


def stage(number):
    return SimpleNamespace(name=f"stage{number}")


def outcome(place, usable=True):
    name, key = place
    return Outcome(key, key, key, name, "ok" if usable else "quarantined")


def graph(choose, stages=5, width=6):
    """Items of some stages; each has parents in earlier ones."""
    levels = []
    for number in range(stages):
        before = [(earlier, item.key) for earlier, level in enumerate(levels) for item in level]
        level = []
        for place in range(width):
            parents = choose.sample(before, min(len(before), choose.randrange(4)))
            inputs = {f"stage{one}/{n}": key for n, (one, key) in enumerate(parents)}
            level.append(Item("clip", f"{number}-{place}", f"{number}-{place}", inputs))
        levels.append(level)
    return levels


def expect(board, levels):
    for number, level in enumerate(levels):
        board.expect(StagePlan(stage(number), tuple(level), ""), number)


@pytest.mark.parametrize("seed", range(20))
def test_items_are_ready_or_lost_as_a_walk_through_the_graph_says(seed):
    choose = random.Random(seed)
    levels, board = graph(choose), Board()
    expect(board, levels)
    fails = {item.key for level in levels for item in level if choose.random() < 0.15}
    usable = {}  # the slow twin: level after level
    for level in levels:
        for item in level:
            usable[item.key] = item.key not in fails and all(usable[key] for key in item.inputs.values())
    told, waiting = {}, []
    items = [(number, item) for number, level in enumerate(levels) for item in level]
    choose.shuffle(items)
    for number, item in items:

        def lost(one, parent, number=number):
            assert one.key not in told and not usable[one.key]
            assert any(name.startswith(parent) and not usable[key] for name, key in one.inputs.items())
            told[one.key] = "lost"
            waiting.append(outcome((f"stage{number}", one.key), usable=False))

        def ready(one, number=number):
            assert one.key not in told and all(usable[key] for key in one.inputs.values())
            told[one.key] = "ready"
            waiting.append(outcome((f"stage{number}", one.key), one.key not in fails))

        board.when_ready(item, ready, lost)
    while waiting:
        board.settle(waiting.pop(choose.randrange(len(waiting))))
    assert told.keys() == usable.keys()
    ready = {item.key for _, item in items if all(usable[key] for key in item.inputs.values())}
    assert {key for key, what in told.items() if what == "ready"} == ready


def test_many_threads_settle_and_every_item_is_told_once():
    parents = [Item("clip", str(n), str(n)) for n in range(200)]
    child = Item("clip", "child", "child", {f"stage0/{n}": str(n) for n in range(200)})
    board, told = Board(), []
    board.expect(StagePlan(stage(0), tuple(parents), ""), 0)
    board.when_ready(child, told.append, lambda item, parent: told.append(parent))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda item: board.settle(outcome(("stage0", item.key))), parents * 2))
    assert told == [child]


def test_what_the_board_does_not_know_does_not_hold_an_item_back():
    told = []
    Board().when_ready(Item("clip", "a", "a", {"stage0": "x"}), told.append, lambda item, parent: None)
    assert [item.key for item in told] == ["a"]


def test_the_first_shard_that_announces_an_artifact_makes_it():
    board, copy = Board(), Item("clip", "copy", "k")
    first, second = (StagePlan(stage(0), (one,), "") for one in (Item("clip", "a", "k"), copy))
    board.expect(first, 0)
    board.expect(second, 1)
    assert board.is_maker("stage0", "k", 0) and not board.is_maker("stage0", "k", 1)
    assert board.is_maker("stage0", "unknown", 7)
    told = []
    Feed(stage(0), (), (copy,), board=board).attach(lambda item: None, told.append)
    assert told == []
    board.settle(outcome(("stage0", "k")))
    assert [(one.item, one.status, one.attempts) for one in told] == [("copy", "reused", 0)]


def test_closed_shards_are_forgotten_unless_another_one_names_their_artifacts():
    board = Board()
    shared, own = Item("clip", "a", "k"), Item("clip", "b", "l")
    plans = [StagePlan(stage(0), items, "") for items in ((shared, own), (shared,))]
    for number, plan in enumerate(plans):
        board.expect(plan, number)
    board.settle(outcome(("stage0", "k"), usable=False))
    board.forget(plans[0])
    assert not board.knows("stage0", "l")
    assert board.found("stage0", "k").status == "quarantined"
    board.forget(plans[1])
    assert len(board) == 0
