"""Keys chain from stage to stage, and items that follow others are planned when those have their outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from recapture.datasets.store.keys import content_key
from recapture.tasks.engine.planner import Planner, expected, supposed
from recapture.tasks.engine.stage import Item, PlannedStage


@dataclass(frozen=True)
class Word:
    """An item about a word; in the stage `letters` there is one item per letter."""

    name: str

    @property
    def clip_id(self) -> str:
        return self.name

    def sources(self, parent: str) -> Sequence[str]:
        return (self.name, self.name[0]) if parent == "letters" else ()


class Unrun(PlannedStage[Word]):
    def run(self, item: Item[Word], inputs: Mapping[str, Any], output: Any) -> dict[str, float]:
        raise AssertionError("plans run nothing")


@dataclass
class Letters(Unrun):
    name: ClassVar[str] = "letters"

    def settings(self, params: Word, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {}

    def identity(self, params: Word, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"letter": params.name}


@dataclass
class Words(Unrun):
    """Each word follows the shorter ones that it begins with."""

    name: ClassVar[str] = "words"
    version: ClassVar[str] = "3"
    parents: ClassVar[tuple[str, ...]] = ("letters", "nothing")
    size: int = 0

    def settings(self, params: Word, inputs: Mapping[str, str]) -> Mapping[str, Any]:
        return {"size": self.size + len(params.name)}

    def follows(self, params: Sequence[Word]) -> Mapping[str, Sequence[str]]:
        names = sorted((one.name for one in params), key=len)
        return {
            name: [shorter for shorter in names if shorter != name and name.startswith(shorter)]
            for name in names
        }


def planner(*letters):
    found = Planner()
    supposed([found.plan(Letters(), [Word(letter) for letter in letters])])
    return found


def words(*names):
    return [Word(name) for name in names]


def test_a_key_is_the_hash_of_name_version_settings_inputs_and_identity():
    letter = content_key("letters", "1", {}, {}, {"letter": "a"})
    plan = planner("a").plan(Words(size=2), words("and"), "title")
    (item,) = plan.items
    assert item.inputs == {"letters": letter}  # it names nothing of the other parent
    assert item.key == content_key("words", "3", {"size": 5}, {"letters": letter}, {})
    assert (plan.title, item.name, item.params) == ("title", "and", Word("and"))


def test_a_parent_of_the_same_name_comes_before_that_of_the_clip():
    (item,) = planner("a", "and").plan(Words(), words("and")).items
    assert item.inputs["letters"] == content_key("letters", "1", {}, {}, {"letter": "and"})


def test_a_parent_that_was_never_planned_is_an_error():
    with pytest.raises(KeyError, match="stage 'letters' has no item called bee or b; plan it first"):
        planner("a").plan(Words(), words("bee"))


def test_a_stage_that_stands_in_for_a_parent_is_the_input():
    class Capitals(Letters):
        name = "capitals"

    found = planner("a")
    supposed([found.plan(Capitals(), words("a"))])
    with pytest.raises(KeyError, match="capitals"):
        found.plan(Words(reads={"letters": "capitals"}), [CapitalWord("bee")])
    (item,) = found.plan(Words(reads={"letters": "capitals"}), [CapitalWord("and")]).items
    assert list(item.inputs) == ["capitals"]


class CapitalWord(Word):
    def sources(self, parent: str) -> Sequence[str]:
        return (self.name[0],) if parent == "capitals" else ()


def carried_out(plans, failed=()):
    """The plans of a stage whose items called `failed` cannot be made."""
    found = []
    for plan in plans:
        for item in plan.items:
            outcome = expected(plan.stage, item)
            plan.outcomes.append(replace(outcome, status="error") if item.name in failed else outcome)
        found.append(plan)
    return found


def test_items_come_after_those_that_they_follow_and_are_given_their_artifacts():
    plans = carried_out(planner("a").waves(Words(), words("and", "a", "android", "an")))
    assert [[item.name for item in plan.items] for plan in plans] == [["a"], ["an"], ["and"], ["android"]]
    keys = {item.name: item.key for plan in plans for item in plan.items}
    (last,) = plans[-1].items
    followed = {name: key for name, key in last.inputs.items() if name.startswith("words/")}
    assert followed == {"words/0": keys["a"], "words/1": keys["an"], "words/2": keys["and"]}


class Chained(Words):
    def follows(self, params: Sequence[Word]) -> Mapping[str, Sequence[str]]:
        return {"and": ["an"], "an": ["a"], "at": ["a"]}


def test_an_item_comes_after_what_the_items_before_it_follow_in_turn():
    plans = carried_out(planner("a").waves(Chained(), words("and", "at", "an", "a")))
    assert [[item.name for item in plan.items] for plan in plans] == [["a"], ["at", "an"], ["and"]]
    assert plans[-1].items[0].inputs["words/0"] == plans[1].items[1].key


def test_what_could_not_be_made_is_left_out_of_later_items_under_another_key():
    whole = carried_out(planner("a").waves(Words(), words("a", "an", "and")))
    less = carried_out(planner("a").waves(Words(), words("a", "an", "and")), failed={"an"})
    assert less[2].notes == ("and: stage 'words' runs without an, which could not be made",)
    assert set(less[2].items[0].inputs) == {"letters", "letters/0", "words/0"}
    assert less[2].items[0].key != whole[2].items[0].key and less[1].items == whole[1].items
    assert [plan.usable for plan in less] == [list(less[0].items), [], list(less[2].items)]


def test_shards_keep_the_order_and_leave_nothing_out():
    plan = planner(*"abcde").plan(Letters(), words(*"abcde"))
    for size in (1, 2, 5, 9):
        shards = list(plan.shards(size))
        assert [item for shard in shards for item in shard] == list(plan.items)
        assert all(len(shard) <= size for shard in shards)
