"""Linked folders, libraries that only some folders know, and no name that is taken."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("flows", "tasks", "models", "datasets", "conf")
LINKED = (*FLOORS, "weights")
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


@cache
def imports(path):
    """Return (dotted name, whether it is imported with the module) of every import in a file."""
    found = []
    tree = ast.parse(path.read_text(), str(path))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        at_once = id(node) not in inner
        if isinstance(node, ast.Import):
            found += [(alias.name, at_once) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found += [(f"{node.module}.{alias.name}", at_once) for alias in node.names]
    return found


def importers(library, *, at_once=False):
    """Return the files that import a library: anywhere, or when they are imported themselves."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for name, first in imports(path)
        if name.split(".")[0] == library and (first or not at_once)
    }


def python(code, **environment):
    """Run code in a fresh interpreter at the root of the checkout and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_scan_sees_the_code():
    assert len(SOURCES) > 50
    assert "tasks/engine/worker.py" in importers("torch")
    assert "tasks/engine/worker.py" not in importers("torch", at_once=True)


@pytest.mark.parametrize("folder", LINKED)
def test_the_package_links_to_the_folder_at_the_top(folder):
    link = ROOT / "src/recapture" / folder
    assert link.is_symlink()
    assert link.readlink() == Path(f"../../{folder}")
    assert link.resolve() == ROOT / folder
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder).is_symlink()


def test_the_package_holds_nothing_but_links():
    held = {path.name for path in (ROOT / "src/recapture").iterdir()} - {"__pycache__"}
    assert held == {"__init__.py", "py.typed", *LINKED}


def test_links_are_committed_as_links():
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "src/recapture"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    modes = {line.split("\t")[1]: line.split()[0] for line in listed.stdout.splitlines()}
    assert {folder: modes[f"src/recapture/{folder}"] for folder in LINKED} == dict.fromkeys(LINKED, "120000")


@pytest.mark.parametrize("floor", FLOORS)
def test_no_folder_is_a_regular_package(floor):
    # With an __init__.py, ./datasets would stand before Hugging Face's for whoever starts Python here.
    assert list((ROOT / floor).rglob("__init__.py")) == []


def test_our_modules_are_imported_by_their_full_names():
    # `make lint` checks which folder may import which; it cannot see an import by a folder's bare name.
    bare = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in SOURCES
        for name, _ in imports(path)
        if name.split(".")[0] in set(FLOORS) - {"datasets"}
    ]
    assert bare == []


def test_hugging_face_datasets_is_imported_nowhere_by_mistake():
    # `import datasets` in our code is Hugging Face's; ours is recapture.datasets.
    assert importers("datasets") == set()


def test_prefect_is_known_in_flows_alone():
    assert importers("prefect")
    assert {path.split("/")[0] for path in importers("prefect")} == {"flows"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        (
            "ray",
            {
                f"tasks/engine/ray_{part}.py"
                for part in ("cluster", "work", "setups", "help", "watch", "gang")
            },
        ),
        ("mlflow", {"tasks/engine/mlflow_link.py"}),
    ],
)
def test_ray_and_mlflow_are_known_to_no_other_files(library, homes):
    found = importers(library)
    assert homes <= found
    # The command line may look at them (`doctor`, `status`), but only when it is asked to.
    assert {path.split("/")[0] for path in found - homes} <= {"flows"}
    assert importers(library, at_once=True) <= homes


@pytest.mark.parametrize("library", ["prefect", "ray", "mlflow", "fsspec", "s3fs", "pyarrow"])
def test_models_know_neither_storage_nor_orchestration(library):
    assert not [path for path in importers(library) if path.startswith("models/")]


def test_a_worker_imports_no_prefect_and_no_mlflow():
    # Together they take six seconds and 250 MB in each worker.
    code = (
        "import sys, recapture.tasks.engine.worker, recapture.tasks.jobs.job\n"
        "print(sorted({'prefect', 'mlflow', 'ray'} & sys.modules.keys()))"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("start", ["-c", "-m"])
def test_datasets_is_hugging_faces_even_at_the_root_of_the_checkout(start, tmp_path):
    (tmp_path / "probe.py").write_text(
        "import importlib.util, sys\nprint(sys.path[0]); print(importlib.util.find_spec('datasets').origin)"
    )
    words = ["-c", (tmp_path / "probe.py").read_text()] if start == "-c" else ["-m", "probe"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, origin = done.stdout.splitlines()
    assert first in ("", str(ROOT))  # ./datasets comes first on the path, and is yet passed over
    assert Path(origin).name == "__init__.py"
    assert not Path(origin).is_relative_to(ROOT / "datasets")
    assert python("import datasets; print(datasets.Dataset.__name__)") == "Dataset"


def test_our_datasets_are_found_under_our_name():
    assert files("recapture.datasets.store").joinpath("store.py").is_file()
    assert files("recapture.conf").joinpath("profile/demo.yaml").is_file()
    assert Path(python("import recapture.datasets.store.store as s; print(s.__file__)")).resolve() == (
        ROOT / "datasets/store/store.py"
    )


def test_hugging_face_datasets_is_a_dependency():
    # Without it ./datasets would answer `import datasets`, and transformers would believe it.
    assert re.search(r'^ +"datasets[>=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_no_test_ends_processes_by_their_name():
    # Beside it run tests of other files, whose processes have the same names.
    words = re.compile(r"\b(ray[\"', ]+stop|pkill|killall)\b")
    found = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
    assert [path.name for path in found if words.search(path.read_text())] == []
