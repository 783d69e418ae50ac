"""Trainings on made-up examples: checkpoints, divergence, a full disk, several processes, warm starts."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from support.trainings import (
    KEY,
    PAIRS,
    difference,
    encoded,
    run_and_commit,
    store_with_pairs,
    stored_adapter,
    tune_item,
    tune_stage,
)

from recapture.models.wan.adapter_file import FILE_NAME
from recapture.tasks.engine.retry import StageSick
from recapture.tasks.tune import one_node
from recapture.tasks.tune.checkpoint import Checkpoint, curve_until
from recapture.tasks.tune.encoded_pairs import held_out_examples, open_pairs, pack_pairs, training_examples
from recapture.tasks.tune.params import PairsKey
from recapture.tasks.tune.tune_stage import mapped_pairs


@pytest.fixture
def store(tmp_path):
    return store_with_pairs(tmp_path / "store")


def test_pairs_come_back_as_they_were_packed(tmp_path):
    pairs = [
        encoded("source", 0, masks=2),
        encoded("pseudo", 5, weight=0.25),
        encoded("cycle", 6, held_out=True),
    ]
    (tmp_path / "pairs.safetensors").write_bytes(pack_pairs(pairs))
    back = open_pairs(tmp_path / "pairs.safetensors")
    for before, after in zip(pairs, back, strict=True):
        assert (before.kind, before.angle, before.weight, before.held_out) == (
            *(after.kind, after.angle, after.weight, after.held_out),
        )
        for old, new in zip(before.examples, after.examples, strict=True):
            assert torch.equal(old.clean, new.clean) and torch.equal(old.channels, new.channels)
            assert torch.equal(old.text, new.text) and new.image is None


def test_masks_divide_the_share_of_their_pair_and_source_pairs_keep_theirs():
    pairs = [
        encoded("source", 0, masks=2),
        *(encoded("cycle", n) for n in range(3)),
        encoded("source", 9, held_out=True),
    ]
    examples = training_examples(pairs, 0.4)
    assert [example.share for example in examples] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.2])
    assert len(held_out_examples(pairs)) == 1


def test_earlier_rounds_do_not_judge(store):
    wanted = [PairsKey(PAIRS, judges=True), PairsKey(PAIRS, judges=False)]
    with mapped_pairs(store, wanted) as everything:
        assert [pair.held_out for pair in everything] == [False] * 3 + [True] + [False] * 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel's count of memory is Linux's")
def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path):
    """Every pair of every clip and round was read into each worker: some 40 GB for 100 clips at real size."""

    def own_memory():
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024

    large = [replace_latents(encoded("source", n), 16 << 20) for n in range(4)]
    for name in range(3):
        (tmp_path / f"{name}.safetensors").write_bytes(pack_pairs(large))
    expected = [float(pair.examples[0].clean.double().sum()) for pair in large] * 3
    del large
    before = own_memory()
    pairs = [pair for name in range(3) for pair in open_pairs(tmp_path / f"{name}.safetensors")]
    sums = []
    for pair in pairs:
        sums += [float(chunk.double().sum()) for chunk in pair.examples[0].clean.reshape(1, -1)]
    assert sums == pytest.approx(expected)
    assert own_memory() - before < 100  # of 200 MB; one pair at a time is converted above


def replace_latents(pair, count):
    """The pair with `count` random bytes of clean latents."""
    clean = torch.rand(1, 1, 1, count // 4, generator=torch.Generator().manual_seed(count + int(pair.angle)))
    return replace(pair, examples=tuple(replace(example, clean=clean) for example in pair.examples))


def test_a_training_leaves_an_adapter_that_has_moved_and_its_curve(store):
    outcome = run_and_commit(store, tune_stage(store))
    assert outcome.status == "ok", outcome.error
    weights = stored_adapter(store)
    moved = [float(value.abs().max()) for name, value in weights.items() if ".lora_B." in name]
    assert min(moved) > 0
    curve = store.open("tune", KEY).read_json("curve.json")
    losses = [(step, values["loss"]) for step, values in curve if "loss" in values]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert [step for step, values in curve if "held_out_loss" in values] == [0, 4, 6]
    assert outcome.metrics["steps"] == 6 and outcome.metrics["loss"] == losses[-1][1]


def test_blocks_before_the_first_one_get_no_adapter(store):
    assert run_and_commit(store, tune_stage(store, first_block=5)).status == "ok"
    assert {int(name.split(".")[2]) for name in stored_adapter(store)} == {5, 6}


def test_a_training_goes_on_from_its_parent(store):
    run_and_commit(store, tune_stage(store))
    other = "c" * 32
    assert (
        run_and_commit(store, tune_stage(store, rate=1e-9, ema=0.0), tune_item(other, 1, tune=KEY)).status
        == "ok"
    )
    assert difference(stored_adapter(store), stored_adapter(store, other)) < 1e-6
    with_file = store.open("tune", KEY).uri(FILE_NAME).removeprefix("file://")
    third = "d" * 32
    assert (
        run_and_commit(
            store, tune_stage(store, rate=1e-9, ema=0.0, start=with_file), tune_item(third, 1)
        ).status
        == "ok"
    )
    assert difference(stored_adapter(store), stored_adapter(store, third)) < 1e-6


def test_an_interrupted_training_resumed_is_bit_for_bit_an_undisturbed_one(store, monkeypatch):
    run_and_commit(store, tune_stage(store))
    undisturbed, curve = stored_adapter(store), store.open("tune", KEY).read_json("curve.json")
    store.delete("tune", KEY)

    class Killed(BaseException):
        pass

    put, saved = Checkpoint.save, []

    def save_twice(self, state, curve):
        put(self, state, curve)
        saved.append(curve[-1][0])
        if len(saved) == 3:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", save_twice)
    with pytest.raises(Killed):
        run_and_commit(store, tune_stage(store, checkpoint_seconds=0))
    monkeypatch.undo()
    assert saved == [1, 2, 3] and not store.exists("tune", KEY)
    assert run_and_commit(store, tune_stage(store)).status == "ok"
    assert difference(undisturbed, stored_adapter(store)) == 0
    assert store.open("tune", KEY).read_json("curve.json") == curve


def test_a_loss_that_is_no_number_names_item_and_way_out_and_keeps_the_last_good_adapter(store):
    outcome = run_and_commit(store, tune_stage(store, rate=1e30, warm_up=1, clip=1e30))
    assert (outcome.status, outcome.error_type) == ("quarantined", "Diverged")
    assert "lower the learning rate" in outcome.error
    kept = outcome.error.rsplit("it is stored at ", 1)[1]
    assert torch.isfinite(
        torch.cat([value.flatten() for value in load(Path(kept).read_bytes()).values()])
    ).all()


def test_a_full_disk_stops_the_stage_in_one_sentence_and_the_older_checkpoint_stays(store, monkeypatch):
    from recapture.datasets.store import storage

    replace, writes = storage._replace_file, []

    def full(target, content):
        writes.append(target)
        if len(writes) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(target, content)

    monkeypatch.setattr(storage, "_replace_file", full)
    with pytest.raises(StageSick, match="No space left on device; free space"):
        run_and_commit(store, tune_stage(store, checkpoint_seconds=0))
    monkeypatch.undo()
    saved = Checkpoint(store.root, "tune", KEY).load()
    assert saved is not None and saved[1][-1][0] == 1


def test_a_checkpoint_of_other_settings_is_refused(store):
    run_and_commit(store, tune_stage(store, checkpoint_seconds=0))  # leaves its last checkpoint to the flow
    store.delete("tune", KEY)
    outcome = run_and_commit(store, tune_stage(store, rate=1e-4))
    assert "its rate is 0.001, this run's 0.0001" in outcome.error


def test_the_curve_is_cut_where_its_state_ends():
    assert curve_until([(1, {"a": 1.0}), (2, {"a": 2.0}), (3, {"a": 3.0})], 2) == [
        (1, {"a": 1.0}),
        (2, {"a": 2.0}),
    ]


@pytest.mark.integration
def test_two_processes_make_the_steps_of_one_and_pass_their_progress_on(store, monkeypatch):
    # Without their progress the worker that waits for them would be taken for hung.
    beats = []
    monkeypatch.setattr(one_node, "beat", lambda: beats.append(1))
    monkeypatch.setattr(one_node, "RELAY_SECONDS", 0.2)
    run_and_commit(store, tune_stage(store))
    alone, curve = stored_adapter(store), store.open("tune", KEY).read_json("curve.json")
    store.delete("tune", KEY)
    beats.clear()
    outcome = run_and_commit(store, tune_stage(store, workers=2))
    assert outcome.status == "ok", outcome.error
    assert beats
    for (step, values), (same, others) in zip(
        curve, store.open("tune", KEY).read_json("curve.json"), strict=True
    ):
        assert step == same and values == pytest.approx(others, rel=1e-4)
    # AdamW makes steps of equal size of gradients that are zero but for rounding
    assert difference(alone, stored_adapter(store)) < 2e-4


@pytest.mark.full
def test_what_goes_wrong_in_one_of_two_processes_is_said(store):
    outcome = run_and_commit(store, tune_stage(store, workers=2, rate=1e30, warm_up=1, clip=1e30))
    assert outcome.error_type == "Diverged" and "it is stored at" in outcome.error
