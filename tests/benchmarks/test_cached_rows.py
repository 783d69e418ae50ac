"""No command prints numbers of another setting, whatever its rows file holds."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import editing
import embedded_base
import inverse
import packing
import pytest
import tuning

from bench.cached_rows import HOW, CachedRows, setting_key, source_hash

SCRIPTS = {
    editing: ["--scenes", "1"],
    embedded_base: [],
    inverse: ["report"],
    packing: [],
    tuning: [],
}


def key_of(script: ModuleType, given: argparse.Namespace) -> str:
    assert script.__file__ is not None
    return setting_key(script.__file__, given, chooses=script.CHOOSES)


def changed(value: Any, folder: Path) -> Any:
    """Another value of the same kind; models become another directory."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[0]] if value else ["x"]
    return str(folder)


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    folder = tmp_path / "other_model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_argument_that_changes_numbers_changes_the_key_and_no_other(
    script: ModuleType, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cached_rows.machine", lambda device: device)  # cuda need not be here
    given = script.arguments(SCRIPTS[script])
    key = key_of(script, given)
    for name, value in vars(given).items():
        other = argparse.Namespace(**{**vars(given), name: changed(value, other_model)})
        same = name in HOW or name in script.CHOOSES
        assert (key_of(script, other) == key) == same, name


def test_steps_rank_rate_batch_moves_angles_clips_and_base_of_a_tuning_are_in_its_key(
    other_model: Path,
) -> None:
    key = key_of(tuning, tuning.arguments([]))
    for words in (
        ["--steps", "3000"],
        ["--rank", "64"],
        ["--rate", "3e-4"],
        ["--batch", "4"],
        ["--moves", "3"],
        ["--clips", "12"],
        ["--angles", "20", "45"],  # packed fills show frames of the angle before
        ["--base", str(other_model)],
    ):
        assert key_of(tuning, tuning.arguments(words)) != key, words


def test_adapters_and_pairs_of_other_settings_are_stored_in_other_folders() -> None:
    folders = {
        tuning.plan_of(tuning.arguments(words)).folder
        for words in ([], ["--steps", "3000"], ["--rank", "64"], ["--moves", "3"], ["--clips", "12"])
    }
    assert len(folders) == 5
    assert tuning.plan_of(tuning.arguments(["--angles", "5"])).folder in folders


def test_a_changed_base_changes_the_key_and_a_moved_one_does_not(tmp_path: Path, other_model: Path) -> None:
    words = ["--base", str(other_model)]
    key = key_of(tuning, tuning.arguments(words))
    moved = tmp_path / "moved"
    shutil.copytree(other_model, moved)
    assert key_of(tuning, tuning.arguments(["--base", str(moved)])) == key
    (other_model / "config.json").write_text('{"changed": true}')
    assert key_of(tuning, tuning.arguments(words)) != key


def test_rows_of_one_setting_are_not_found_by_another_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    CachedRows(path, "a").add(("single", 0, 0, 20.0), {"psnr_hole": 17.5})
    CachedRows(path, "b").add(("single", 0, 0, 20.0), {"psnr_hole": 18.5})
    assert CachedRows(path, "a")["single", 0, 0, 20.0] == {"psnr_hole": 17.5}
    assert CachedRows(path, "b")["single", 0, 0, 20.0] == {"psnr_hole": 18.5}
    assert ("single", 0, 0, 20.0) not in CachedRows(path, "c")


def test_rows_without_a_key_as_earlier_versions_wrote_them_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(["single", 0, 0, 20.0, {"psnr_hole": 17.5}]) + "\n")
    assert not list(CachedRows(path, "a").items())


def test_a_tuning_with_other_steps_prints_nothing_of_the_rows_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--table", "--rows", str(tmp_path / "rows.jsonl"), "--clips", "1", "--seeds", "1"]
    words += ["--angles", "20", "45"]
    rows = CachedRows(tmp_path / "rows.jsonl", key_of(tuning, tuning.arguments(words)))
    for fill, value in (("base", 17.25), ("single", 17.75)):
        for angle in (20.0, 45.0):
            rows.add((fill, 0, 0, angle), {"psnr_hole": value, "returned_hole": 16.0})
    monkeypatch.setattr(sys, "argv", ["tuning.py", *words])
    tuning.main()
    assert "+0.50" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tuning.py", *words, "--steps", "3000"])
    tuning.main()
    assert "0.50" not in capsys.readouterr().out


def test_a_changed_computation_changes_the_hash_of_the_sources_and_a_comment_does_not(tmp_path: Path) -> None:
    def hash_of(text: str) -> str:
        script = tmp_path / "script.py"
        script.write_text(text)
        source_hash.cache_clear()
        return source_hash(str(script))

    plain = hash_of("from bench.held_out import score\nvalue = 1\n")
    assert hash_of('"""Words."""\nfrom bench.held_out import score  # more\n\nvalue = 1\n') == plain
    assert hash_of("from bench.held_out import score\nvalue = 2\n") != plain
    assert hash_of("from bench.agreement import looked_up\nvalue = 1\n") != plain
