"""`plan`, `replay`, `gc --old-settings` and `quarantine retry` know the artifacts of a tuning."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from recapture.conf.load import load_config
from recapture.datasets.store.manifest import read_manifest
from recapture.datasets.store.quarantine import Quarantine, Quarantined
from recapture.datasets.store.store import ArtifactStore
from recapture.flows.commands.plan import print_plan
from recapture.flows.commands.quarantine import retry_quarantined
from recapture.flows.commands.replay import replay
from recapture.flows.commands.upkeep import collect_garbage
from recapture.flows.train_iterative import train_iterative

pytestmark = pytest.mark.integration
STAGES = ["ingest", "depth", "pairs", "explore", "tune"]
TRAINED = ["pairs", "explore", "tune"]
TWO_ROUNDS = "[{low: 5, high: 10, steps: 2}, {low: 10, high: 20, steps: 2}]"
OTHER = ("--tune.training.rank", "3")


def configured(root, *more):
    return load_config(
        arguments=[
            *(
                "--dataset.name",
                "small",
                "--dataset.uri",
                "scenes://?count=1&seed=3&frames=5&height=48&width=64",
            ),
            *("--store", f"{root}/artifacts", "--outputs", f"{root}/outputs", "--state", f"{root}/state"),
            *("--execution.executor", "inline", "--tracking.enabled", "false"),
            *("--tune.training.rank", "2", "--tune.training.log_every", "1", "--tune.pairs.window", "5"),
            *("--tune.pairs.moves", "1", "--tune.pairs.masks", "1", "--tune.cycle.moves", "1"),
            *("--tune.cycle.steps", "1", "--tune.curriculum.threshold", "5", "--tune.explore.steps", "1"),
            *("--tune.explore.angles", "[20]", "--tune.curriculum.rounds", TWO_ROUNDS, *more),
        ]
    )


@pytest.fixture(scope="module")
def finished(prefect_server, tmp_path_factory):
    """A finished tuning of two rounds, made once; tests copy it."""
    root = tmp_path_factory.mktemp("finished")
    assert train_iterative(configured(root)).acceptable
    return root


@pytest.fixture(scope="module")
def superseded(finished, tmp_path_factory):
    """The same after a run with other settings, and stage -> how many items that run has made."""
    root = tmp_path_factory.mktemp("superseded")
    shutil.copytree(finished, root, dirs_exist_ok=True)
    counts = train_iterative(configured(root, *OTHER)).counts
    return root, {stage: counts[stage].get("ok", 0) for stage in STAGES}


@pytest.fixture
def tuning(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return configured(tmp_path)


def forecast(config, capsys):
    """Return stage -> what `plan --job train` says of it."""
    capsys.readouterr()
    print_plan(config, as_json=True, kind="train")
    return {row["stage"]: row for row in json.loads(capsys.readouterr().out)["stages"]}


def keys(config):
    return {stage: ArtifactStore(config.store).keys(stage) for stage in STAGES}


def row_of(config, stage, item):
    rows = read_manifest(config.store, "small", stage).values()
    (row,) = (row for row in rows if row["item"] == item)
    return row


def quarantine(config, row, stage):
    """Put what a row names into quarantine in place of its artifact, as if it had failed."""
    ArtifactStore(config.store).delete(stage, row["key"])
    entry = Quarantined(row["item"], row["clip_id"], stage, row["key"], "ValueError", "no", "trace", 1, "run")
    Quarantine(config.store, "small").add(entry)


def test_plan_of_a_new_tuning_counts_every_round_and_of_a_finished_one_reuses_all(tuning, tmp_path, capsys):
    new = forecast(configured(tmp_path / "new"), capsys)
    # Two rounds; the curve is measured for the base, after round 0 to decide on round 1, and at the end.
    expected = {"ingest": 1, "depth": 1, "pairs": 2, "explore": 3, "tune": 2}
    assert {stage: row["new"] for stage, row in new.items()} == expected
    assert {row["reused"] for row in new.values()} == {0}
    assert not (tmp_path / "new/artifacts/objects").exists()

    done = forecast(tuning, capsys)
    assert {stage: row["reused"] for stage, row in done.items()} == expected
    assert {(row["new"], row["blocked"]) for row in done.values()} == {(0, 0)}

    other = forecast(configured(tmp_path, *OTHER), capsys)
    assert {stage: (row["new"], row["reused"]) for stage, row in other.items()} == {
        "ingest": (0, 1),
        "depth": (0, 1),
        "pairs": (1, 1),  # those of round 0 know no adapter
        "explore": (2, 1),  # nor does the curve of the base
        "tune": (2, 0),
    }


def test_what_plan_forecasts_of_a_tuning_is_what_a_run_makes(tuning, superseded, tmp_path, capsys):
    told = forecast(configured(tmp_path, *OTHER), capsys)
    assert {stage: told[stage]["new"] for stage in STAGES} == superseded[1]


@pytest.mark.parametrize("stage", ["pairs", "tune"])
def test_replay_of_a_finished_tuning_compares_and_changes_nothing(tuning, stage, capsys):
    (name,) = {
        row["item"]
        for row in read_manifest(tuning.store, "small", stage).values()
        if "round-1" in row["item"]
    }
    before = keys(tuning)
    assert replay(tuning, name, stage, "train") == 0
    assert "the committed artifact" in (said := capsys.readouterr().out)
    assert "has the same bytes" in said
    assert keys(tuning) == before


def test_a_quarantined_pairs_item_shows_in_plan_and_a_retry_makes_the_tuning_whole(tuning, tmp_path, capsys):
    adapter = (tmp_path / "outputs/small/adapter").rglob("*.safetensors")
    before = {path: path.read_bytes() for path in adapter}
    row = row_of(tuning, "pairs", "scene-000003@round-1")
    quarantine(tuning, row, "pairs")
    told = forecast(tuning, capsys)["pairs"]
    assert (told["reused"], told["quarantined"], told["new"]) == (1, 1, 0)
    retry_quarantined(tuning, row["item"], False)
    assert Quarantine(tuning.store, "small").entries() == []
    assert forecast(tuning, capsys)["pairs"]["new"] == 1
    summary = train_iterative(tuning)
    assert summary.failures == [] and summary.counts["pairs"] == {"reused": 1, "ok": 1}
    assert summary.counts["tune"] == {"reused": 2}
    assert {path: path.read_bytes() for path in before} == before


def test_a_quarantined_pairs_item_of_the_only_clip_can_be_planned_replayed_and_leaves_quarantine(
    tuning, capsys
):
    row = row_of(tuning, "pairs", "scene-000003@round-0")
    quarantine(tuning, row, "pairs")
    told = forecast(tuning, capsys)["pairs"]
    assert (told["quarantined"], told["new"]) == (1, 0)
    assert replay(tuning, row["item"], "pairs", "train") == 0
    assert "out of quarantine" in capsys.readouterr().out
    assert Quarantine(tuning.store, "small").entries() == []
    assert {one["new"] for one in forecast(tuning, capsys).values()} == {0}


def collected(config, kept, capsys):
    """Return stage -> keys that `gc --old-settings` deletes."""
    capsys.readouterr()
    collect_garbage(config, 24, False, as_json=True, kept=kept)
    found = {}
    for item in json.loads(capsys.readouterr().out):
        found.setdefault(item["stage"], set()).add(item["key"])
    return found


def age(config):
    then = time.time() - 25 * 3600
    for path in Path(config.store).rglob("*"):
        os.utime(path, (then, then))


def test_gc_of_old_settings_keeps_a_finished_tuning_and_deletes_a_superseded_one(
    finished, superseded, tmp_path, capsys
):
    shutil.copytree(superseded[0], tmp_path, dirs_exist_ok=True)
    tuning, changed = configured(tmp_path), configured(tmp_path, *OTHER)
    old = keys(configured(finished))
    age(tuning)
    assert collected(tuning, [tuning, changed], capsys) == {}

    found = collected(tuning, [changed], capsys)
    counts = {"pairs": 1, "explore": 2, "tune": 2}
    assert {stage: len(made) for stage, made in found.items()} == counts
    assert all(found[stage] <= old[stage] for stage in TRAINED)
    assert {row["new"] for row in forecast(changed, capsys).values()} == {0}
    again = forecast(tuning, capsys)
    assert {stage: again[stage]["new"] for stage in TRAINED} == counts


def test_gc_of_old_settings_works_while_quarantine_holds_all_pairs(tuning, capsys):
    row = row_of(tuning, "pairs", "scene-000003@round-0")
    quarantine(tuning, row, "pairs")
    age(tuning)
    assert collected(tuning, [tuning], capsys) == {}
