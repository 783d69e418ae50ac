"""Quarantined items stay until somebody retries or drops them."""

from dataclasses import replace

import pytest

from recapture.datasets.store.quarantine import Quarantine, Quarantined

ENTRY = Quarantined(
    item="bmx/003@left",
    clip_id="bmx/003",
    stage="depth",
    key="abc1",
    error_type="ValueError",
    error="depth has 3 non-finite frames ☹",
    traceback="Traceback …",
    attempts=3,
    run_id="r1",
)


@pytest.fixture
def quarantine(root):
    return Quarantine(root, "set")


def test_nothing_is_quarantined_at_first(quarantine):
    assert quarantine.entries() == []
    assert quarantine.entries("depth") == []
    assert quarantine.matching("a") == []


def test_entries_come_back_by_stage_and_item(quarantine):
    other = replace(ENTRY, key="abd2", item="a")
    fill = replace(ENTRY, stage="fill", key="f00")
    for entry in (fill, ENTRY, other):
        quarantine.add(entry)
    assert quarantine.entries() == [other, ENTRY, fill]
    assert quarantine.entries("fill") == [fill]
    assert quarantine.entries("render") == []


def test_adding_again_overwrites(quarantine):
    quarantine.add(ENTRY)
    quarantine.add(replace(ENTRY, attempts=6))
    assert [entry.attempts for entry in quarantine.entries()] == [6]


def test_a_retried_entry_is_forgotten_and_the_others_stay(quarantine):
    other = replace(ENTRY, key="abd2")
    quarantine.add(ENTRY)
    quarantine.add(other)
    quarantine.retry(ENTRY)
    assert quarantine.entries() == [other]


def test_retrying_what_somebody_else_has_retried_is_no_error(quarantine):
    quarantine.add(ENTRY)
    quarantine.retry(ENTRY)
    quarantine.retry(ENTRY)
    assert quarantine.entries() == []


def test_a_dropped_entry_keeps_its_reason(quarantine):
    quarantine.add(ENTRY)
    quarantine.drop(ENTRY)
    assert quarantine.entries() == [replace(ENTRY, state="dropped")]


def test_keys_may_be_shortened(quarantine):
    other = replace(ENTRY, key="abd2", item="a")
    quarantine.add(ENTRY)
    quarantine.add(other)
    assert quarantine.matching("abc") == [ENTRY]
    assert quarantine.matching("ab") == [other, ENTRY]
    assert quarantine.matching("all") == []
    assert quarantine.matching("b") == []


def test_no_key_is_not_every_key(quarantine):
    quarantine.add(ENTRY)
    assert quarantine.matching("") == []


def test_datasets_are_kept_apart(root, quarantine):
    quarantine.add(ENTRY)
    assert Quarantine(root, "other").entries() == []
