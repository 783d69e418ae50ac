"""The notebooks in docs are executed, small and free of the machine that executed them; they run."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PLACES = re.compile(r"/(?:tmp|home|root|Users|work|mnt|var|opt|usr)/")


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_executed_small_and_names_no_place_of_a_machine(path):
    assert path.stat().st_size < 300_000
    assert not PLACES.search(re.sub(r'"image/png": "[^"]*"', "", path.read_text()))
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    assert not [out for cell in cells(path) for out in cell["outputs"] if out["output_type"] == "error"]
    assert any("image/png" in out.get("data", {}) for cell in cells(path) for out in cell["outputs"])


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_in_an_empty_folder_with_the_results_that_it_shows(path, tmp_path):
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    fresh = execute.executed(path, tmp_path)
    shown = [cell["outputs"] for cell in cells(path)]
    found = [cell["outputs"] for cell in fresh.cells if cell["cell_type"] == "code"]
    for before, now in zip(shown, found, strict=True):
        assert plain(now) == plain(before)


def plain(outputs):
    """What cells return as text; not pictures, whose bytes depend on fonts, nor logs with times."""
    return ["".join(out["data"]["text/plain"]) for out in outputs if out["output_type"] == "execute_result"]


def test_there_is_a_notebook():
    assert NOTEBOOKS
