"""Clips are begun while there are few, or little is written for them; all of them finish."""

import random
from types import SimpleNamespace

import pytest

from recapture.conf.schema import ExecutionConfig
from recapture.tasks.engine.intake import SHARE_OF_DISK, Intake, open_intake
from recapture.tasks.engine.planner import StagePlan
from recapture.tasks.engine.stage import Item, Outcome, Resources

STAGES = ("ingest", "fill", "deliver")


def item(clip, stage, weight=0.0):
    return Item(clip, clip, f"{stage}/{clip}", params=SimpleNamespace(weight=weight))


def plan(stage, items):
    heavy = Resources(gpus=1) if stage == "fill" else Resources()
    return StagePlan(SimpleNamespace(name=stage, resources=heavy), tuple(items), stage)


def made(clip, stage, size=10, status="ok", attempts=1):
    return Outcome(clip, clip, f"{stage}/{clip}", stage, status, bytes=size, attempts=attempts)


def work_through(intake, clips, choose, fails=()):
    """Begin and finish items in an order of choice; return the order of begun clips, and assert the bound."""
    for stage in STAGES:
        intake.expect(plan(stage, [item(clip, stage) for clip in clips]))
    flying, begun, finished, order = [], set(), set(), []

    def begin(stage, one):
        if one.clip_id not in begun:
            order.append(one.clip_id)
        begun.add(one.clip_id)
        flying.append((stage, one.clip_id))

    for clip in clips:
        intake.submit(item(clip, STAGES[0]), lambda one: begin(STAGES[0], one))
    while flying:
        yield len(begun - finished)
        stage, clip = flying.pop(choose(len(flying)))
        number = STAGES.index(stage)
        if (clip, stage) in fails:
            finished |= {clip} if stage == STAGES[-1] else set()
            intake.settled(made(clip, stage, 0, "quarantined"))
            for later in STAGES[number + 1 :]:
                if later == STAGES[-1]:
                    finished.add(clip)
                intake.settled(made(clip, later, 0, "blocked", attempts=0))
            continue
        if number + 1 < len(STAGES):
            later = STAGES[number + 1]
            intake.submit(item(clip, later), lambda one, later=later: begin(later, one))
        else:
            finished.add(clip)
        intake.settled(made(clip, stage))
    assert finished == begun == set(clips)


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_clips_in_flight_reach_the_limit_and_never_exceed_it(limit, seed):
    choose = random.Random(seed).randrange
    clips = [f"clip/{number}" for number in range(20)]
    fails = {("clip/3", "fill"), ("clip/4", "ingest"), ("clip/5", "deliver")}
    intake = Intake(lambda: limit)
    seen = list(work_through(intake, clips, choose, fails))
    assert max(seen) == limit == intake.most_begun


def test_without_limits_all_clips_are_begun_at_once():
    clips = [f"clip/{number}" for number in range(20)]
    assert next(work_through(Intake(lambda: None), clips, lambda n: 0)) == 20


def test_what_finished_clips_wrote_bounds_how_many_are_in_flight():
    # Each clip writes 30 bytes: 70 bytes hold two.
    clips = [f"clip/{number}" for number in range(9)]
    seen = list(work_through(Intake(lambda: 4, 70), clips, lambda n: 0))
    assert seen[0] == 4  # nothing is known yet
    assert set(seen[len(seen) // 2 :]) == {1, 2}
    assert set(list(work_through(Intake(lambda: 4, 1), clips, lambda n: 0))[13:]) == {1}


def test_the_longest_clips_are_begun_first():
    intake, begun = Intake(lambda: 1), []
    weights = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}
    intake.expect(plan("ingest", [item(clip, "ingest") for clip in weights]))
    for clip, weight in weights.items():
        intake.submit(item(clip, "ingest", weight), lambda one: begun.append(one.clip_id))
    for _ in range(3):
        intake.settled(made(begun[-1], "ingest"))
    assert begun == ["a", "d", "b", "c"]  # the first one came before it could be compared


def test_a_clip_that_waits_for_one_that_is_held_back_lets_it_in():
    intake, begun = Intake(lambda: 1), []
    intake.expect(plan("ingest", [item("copy", "ingest"), item("original", "ingest")]))
    intake.expect(plan("fill", [item("copy", "fill")]))
    intake.submit(item("copy", "ingest"), lambda one: begun.append(one.clip_id))
    intake.submit(item("original", "ingest"), lambda one: begun.append(one.clip_id))
    intake.nudge()
    assert begun == ["copy"]  # it is at work
    intake.settled(made("copy", "ingest"))
    intake.nudge()
    assert begun == ["copy", "original"]


def test_an_outcome_that_is_told_twice_counts_once():
    intake, begun = Intake(lambda: 1), []
    intake.expect(plan("ingest", [item(clip, "ingest") for clip in "abc"]))
    intake.expect(plan("fill", [item(clip, "fill") for clip in "abc"]))
    for clip in "abc":
        intake.submit(item(clip, "ingest"), lambda one: begun.append(one.clip_id))
    intake.settled(made("a", "ingest"))
    intake.settled(made("a", "ingest"))
    assert begun == ["a"]
    intake.settled(made("a", "fill"))
    assert begun == ["a", "b"]


def test_the_settings_reach_the_intake_and_null_takes_a_share_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    given = open_intake(ExecutionConfig(clips_in_flight=3, gigabytes_in_flight=2), str(tmp_path), lambda: 7)
    assert (given._limit(), given._most_bytes) == (3, 2e9)
    automatic = open_intake(ExecutionConfig(), str(tmp_path / "new"), lambda: 7)
    assert (automatic._limit(), automatic._most_bytes) == (7, SHARE_OF_DISK * 1000)
    assert open_intake(ExecutionConfig(), "memory://x", lambda: 7)._most_bytes is None


def test_a_limit_that_is_not_to_the_end_counts_clips_until_the_heaviest_workers_have_done_with_them():
    intake, begun = Intake(lambda: 1, to_the_end=False), []
    for stage in STAGES:
        intake.expect(plan(stage, [item(clip, stage) for clip in "abc"]))
    for clip in "abc":
        intake.submit(item(clip, "ingest"), lambda one: begun.append(one.clip_id))
    intake.settled(made("a", "ingest"))
    assert begun == ["a"]
    intake.settled(made("a", "fill"))
    assert begun == ["a", "b"]  # although a is not delivered
    intake.settled(made("b", "ingest", status="quarantined"))
    intake.settled(made("b", "fill", status="blocked", attempts=0))
    assert begun == ["a", "b", "c"]
    assert intake.most_begun == 3


def test_what_is_written_bounds_clips_that_do_not_count_any_more():
    intake, begun = Intake(lambda: 1, 25, to_the_end=False), []
    for stage in STAGES:
        intake.expect(plan(stage, [item(clip, stage) for clip in "abcd"]))
    for clip in "abcd":
        intake.submit(item(clip, "ingest"), lambda one: begun.append(one.clip_id))
    for clip in "ab":
        intake.settled(made(clip, "ingest"))
        intake.settled(made(clip, "fill"))
    assert begun == ["a", "b"]  # they have written 40 bytes
    intake.settled(made("a", "deliver"))
    assert begun == ["a", "b"]  # b has written 20, and two clips come to 60
    intake.settled(made("b", "deliver"))
    assert begun == ["a", "b", "c"]


def test_a_clip_whose_heaviest_items_come_later_counts_again():
    intake, begun = Intake(lambda: 1, to_the_end=False), []
    for stage in STAGES[:2]:
        intake.expect(plan(stage, [item(clip, stage) for clip in "abc"]))
    for clip in "abc":
        intake.submit(item(clip, "ingest"), lambda one: begun.append(one.clip_id))
    intake.settled(made("a", "ingest"))
    again = Item("a", "a@2", "fill/a2", params=SimpleNamespace(weight=0.0))
    intake.expect(plan("fill", [again]))  # the next wave, before the first is settled
    intake.settled(made("a", "fill"))
    assert begun == ["a"]
    intake.settled(Outcome("a@2", "a", "fill/a2", "fill", "ok", attempts=1))
    assert begun == ["a", "b"]
