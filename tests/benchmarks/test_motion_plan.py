"""Which jobs benchmarks/motion.py makes of its rows, and how gains get their intervals."""

import json
from pathlib import Path

import motion
import numpy as np
import pytest

from bench.motion_cells import store, stored
from bench.motion_plan import ABLATIONS, DEFAULT, MAIN, ROWS, cell_name, jobs_of


def test_cells_of_one_tuning_are_one_job_and_no_cell_is_measured_twice() -> None:
    rows = ["base", "wrong", "reversed", "adapter", "scale-1.5", "truth"]
    jobs = jobs_of(rows, ["single"], 3, 2, set())
    cells = [(name, own, job.seed) for job in jobs for name, own in job.cells]
    assert sorted(cells) == sorted((row, own, seed) for row in rows for own in range(3) for seed in range(2))
    assert len([job for job in jobs if job.tuning == DEFAULT]) == 3 * 2
    for job in jobs:
        for name, own in job.cells:
            assert (own != job.reference) == (name == "wrong")
    done = {cell_name(name, "single", own, seed) for name, own, seed in cells if name != "adapter"}
    left = jobs_of(rows, ["single"], 3, 2, done)
    assert {name for job in left for name, _ in job.cells} == {"adapter"}
    assert jobs_of(["wrong"], ["single"], 1, 1, set())[0].reference == 1


def test_every_ablation_changes_one_thing_and_has_a_tuning_of_its_own() -> None:
    assert len({row.title for row in ROWS.values()}) == len(ROWS)
    changed = {name: row for name, row in ABLATIONS.items() if row.tuning not in (None, DEFAULT)}
    assert len({row.tuning.key for row in changed.values() if row.tuning}) == len(changed)
    for name, row in changed.items():
        assert row.tuning is not None
        differs = [key for key, value in vars(row.tuning).items() if value != vars(DEFAULT)[key]]
        assert len(differs) == 1 or name in ("sparse-native", "sparse-paper"), name
        settings = row.tuning.settings(33, 0)
        assert settings.sparse.kept == (33 if row.tuning.sparse == "full" else 17)
    assert motion.chosen(["adapter"]) == ["base", "adapter"]
    assert motion.chosen(["main"]) == list(MAIN)
    with pytest.raises(SystemExit, match="unknown nonsense"):
        motion.chosen(["nonsense"])


def test_cells_are_found_again_once_they_have_all_targets(tmp_path: Path) -> None:
    store(tmp_path / "single-00-0-base.json", {"row": "base", "targets": {"0": {"end": 1}}, "tuning": {}})
    assert list(stored(tmp_path, 1)) == ["single-00-0-base"] and stored(tmp_path, 2) == {}
    assert json.loads((tmp_path / "single-00-0-base.json").read_text())["targets"]["0"] == {"end": 1}


def test_intervals_are_over_references_and_hold_the_mean() -> None:
    random = np.random.default_rng(1)
    levels = random.normal(0.5, 0.4, (12, 1))
    gains = levels + random.normal(0, 0.05, (12, 6))
    found = motion.gained(gains)
    assert found is not None
    middle, low, high = found
    assert middle == pytest.approx(gains.mean()) and low < middle < high
    assert high - low == pytest.approx(2 * 1.96 * levels.std() / np.sqrt(12), rel=0.2)  # not over all 72
    gains[3] = np.nan
    gains[4, 2:] = np.nan
    again = motion.gained(gains)
    assert again is not None and np.isfinite(again).all()
    assert motion.gained(np.full((2, 2), np.nan)) is None
