"""The benchmark of stages: it runs each in a process of its own and keeps what it made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import stage_costs

SIZE = ["--frames", "5", "--height", "48", "--width", "64"]


@pytest.mark.full
def test_stages_of_a_small_clip_are_measured_on_the_artifacts_that_are_kept(tmp_path):
    command = [sys.executable, stage_costs.__file__, *SIZE, "--clip", "scene", "--keep", str(tmp_path)]
    done = subprocess.run([*command, "--stages", "measure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("| measure")] == [
        "measure"
    ]
    made = {path.parts[-4] for path in Path(tmp_path, "artifacts", "objects").glob("*/*/*/meta.json")}
    assert made == {"ingest", "depth", "render", "fill", "baselines", "measure"}
    (metrics,) = Path(tmp_path, "artifacts", "objects", "measure").glob("*/*/metrics.json")
    found = json.loads(metrics.read_text())
    assert {name.split("/")[0] for name in found} == {"base", "base_unpasted", "classical", "copy_source"}


def test_a_stage_that_is_unknown_is_named(tmp_path, monkeypatch):
    words = [stage_costs.__file__, *SIZE, "--stages", "mesure", "--keep", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="no stage is called mesure"):
        stage_costs.main()
