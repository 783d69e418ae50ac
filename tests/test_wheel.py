"""The wheel stands alone: installed and called from an empty folder, the README's commands work."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("conf", "datasets", "flows", "models", "tasks", "weights")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
FLOWS = """
import sys
from prefect.flows import load_flow_from_entrypoint
print(*[load_flow_from_entrypoint(one, use_placeholder_flow=False).name for one in sys.argv[1:]])
"""


def tracked(*folders: str) -> list[str]:
    """Return the files of a commit that is to come, by their paths."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is tracked, built in a copy: left-overs of earlier builds are not in it."""
    root = tmp_path_factory.mktemp("wheel")
    tree = root / "tree"
    tree.mkdir()
    copy = ["xargs", "-0", "cp", "--parents", "-P", "-t", str(tree)]
    subprocess.run(copy, cwd=ROOT, input="\0".join(tracked()), check=True, text=True)
    subprocess.run([sys.executable, "-c", BUILD, str(root)], cwd=tree, check=True, capture_output=True)
    (built,) = root.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A virtual environment with the wheel; its requirements are found where these tests find them."""
    home = wheel.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    install = ["-m", "pip", "--python", str(home / "bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    (site,) = home.glob("lib/python*/site-packages")
    requirements = Path(str(distribution("prefect").locate_file(""))).resolve()
    (site / "requirements.pth").write_text(f"{requirements}\n")  # its own .pth files are not read
    return home


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Call a program of that environment from an empty folder; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    kept |= {"PREFECT_HOME": str(tmp_path / "prefect"), "OMP_NUM_THREADS": "1"}

    def call(program: str, *words: str) -> str:
        command = [str(installed / "bin" / program), *words]
        done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    return call


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        links = [one.filename for one in archive.infolist() if one.external_attr >> 16 & 0o170000 == 0o120000]
    assert held == {
        *(f"recapture/{path}" for path in tracked(*FOLDERS)),
        *("recapture/__init__.py", "recapture/py.typed"),
    }
    assert links == []


@pytest.mark.full
@pytest.mark.integration
def test_the_installed_package_is_the_one_that_is_called(call: Callable[..., str], installed: Path) -> None:
    found = Path(call("python", "-c", "import recapture; print(recapture.__file__)").strip())
    assert found.is_relative_to(installed)


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plan", "deliver"),
        ("demo --dry-run", "deliver"),
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
    assert shown in call("recapture", *words.split())


@pytest.mark.full
@pytest.mark.integration
def test_the_demo_recaptures_bundled_clips_with_the_bundled_models_on_ray(
    call: Callable[..., str], tmp_path: Path
) -> None:
    small = ["--dataset.where", "real/bunny", "--ingest.max_seconds", "0.3", "--ingest.short_side", "64"]
    shown = call("recapture", "demo", *small, "--fill.steps", "2")
    assert "2 of 2 videos" in shown
    assert len(list((tmp_path / "outputs/sample/real/bunny").glob("*/recapture.mp4"))) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"artifacts", "outputs", "prefect", "state"}
    assert "every artifact was already there" in call("recapture", "demo", *small, "--fill.steps", "2")


@pytest.mark.full
@pytest.mark.integration
def test_a_file_that_is_named_and_missing_is_not_replaced_by_a_bundled_one(
    installed: Path, tmp_path: Path
) -> None:
    for command, setting, value in (
        ("demo", "fill.base", "weights/base"),
        ("plan", "dataset.uri", "datasets/sample"),
    ):
        words = [str(installed / "bin/recapture"), command, f"--{setting}", value]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        assert value in done.stderr and "Traceback" not in done.stderr


@pytest.mark.full
@pytest.mark.integration
def test_the_printed_deployments_name_flows_of_the_package(call: Callable[..., str]) -> None:
    printed = yaml.safe_load(call("recapture", "deployments"))["deployments"]
    names = call("python", "-c", FLOWS, *(one["entrypoint"] for one in printed)).split()
    assert names == ["recapture", "train-iterative", "inpaint"]
