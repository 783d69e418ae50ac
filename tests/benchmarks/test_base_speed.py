"""The benchmark of sampling speed runs to its end on a tiny base."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import base_speed


def test_every_part_of_the_benchmark_of_speed_runs_and_no_way_is_further_from_float32(capsys, monkeypatch):
    parts = ["--parts", "passes", "vae", "run", "--ways", "eager", "all, one batch"]
    small = ["--size", "tiny", "--device", "cpu", "--clip", "9x32x32", "--steps", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["base_speed.py", *small, *parts, "--backend", "aot_eager"])
    rows = []
    passes = base_speed.passes

    def kept(*given):
        columns, found = passes(*given)
        rows.extend(found)
        return columns, found

    monkeypatch.setattr(base_speed, "passes", kept)
    base_speed.main()
    assert [row[0] for row in rows] == ["eager", "all, one batch"]
    assert all(0 < row[-2] < 0.1 and row[-1] <= 1.1 for row in rows)
    printed = capsys.readouterr().out
    assert "| large blocks compiled |" in printed and "| as the profile |" in printed
