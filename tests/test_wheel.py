"""The wheel stands alone: installed and called from an empty folder, the README's commands work."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.full, pytest.mark.integration]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed into, without its requirements."""
    root = tmp_path_factory.mktemp("wheel")
    tree, site = root / "tree", root / "site"
    tree.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    copy = ["xargs", "-0", "cp", "--parents", "-P", "-t", str(tree)]
    subprocess.run(copy, cwd=ROOT, input=listed, check=True)
    subprocess.run([sys.executable, "-c", BUILD, str(root)], cwd=tree, check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return site


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Call Python with the installed package alone, from an empty folder; return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(installed), "PREFECT_HOME": str(tmp_path / "prefect")}

    def call(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    return call


def test_the_installed_package_is_the_one_that_is_called(call: Callable[..., str], installed: Path) -> None:
    assert Path(call("-c", "import recapture; print(recapture.__file__)").strip()).parent.parent == installed
    links = [path for path in (installed / "recapture").rglob("*") if path.is_symlink()]
    assert links == []


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plan", "deliver"),
        ("plan --profile demo", "deliver"),
        ("plan --job train", "tune"),
        (
            "preview --execution.executor inline --tracking.enabled false --dataset.limit 1",
            "CLIP/TRAJECTORY/preview.mp4",
        ),
        ("settings", "dataset.uri"),
        ("config --profile wan", "precision"),
        ("doctor", "ok   ray"),
        ("status", "sample"),
    ],
)
def test_commands_of_the_readme_work_from_an_empty_folder(
    call: Callable[..., str], words: str, shown: str
) -> None:
    """The bundled clips and models are found in the package, not in the folder that one is in."""
    assert shown in call("-m", "recapture.flows.cli", *words.split())
