"""The site is built without a broken link; what is generated is up to date; the tutorials run."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import recapture

ROOT = Path(__file__).parents[1]
TUTORIALS = [ROOT / f"docs/tutorials/{name}.md" for name in ("own-videos", "tuning", "nightly")]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TINY = {  # of every command of the tutorials
    "RECAPTURE_INGEST__SHORT_SIDE": "48",
    "RECAPTURE_INGEST__MAX_SECONDS": "0.2",
    "RECAPTURE_FILL__STEPS": "1",
    "RECAPTURE_EXECUTION__EXECUTOR": "inline",
    "RECAPTURE_MEASURE__BASELINES": "false",
    "RECAPTURE_TUNE__CURRICULUM__ROUNDS": "[{low: 5, high: 10, steps: 2}]",
    "RECAPTURE_TUNE__PAIRS__WINDOW": "5",
    "RECAPTURE_TUNE__PAIRS__MOVES": "1",
    "RECAPTURE_TUNE__CYCLE__MOVES": "0",
    "RECAPTURE_TUNE__EXPLORE__ANGLES": "[10]",
    "RECAPTURE_TUNE__EXPLORE__STEPS": "1",
    "RECAPTURE_TRACKING__ENABLED": "false",
}


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def listed(entry):
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in listed(part)]


def test_the_navigation_names_pages_that_exist_each_once():
    # A page that it leaves out fails the build, below.
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    nav = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(nav) == len(set(nav))
    assert set(nav) - {"notebooks/recapture.md"} <= pages  # made of the notebook
    assert len(nav) > 25


def test_links_that_leave_the_site_keep_their_text_and_missing_files_fail(monkeypatch):
    links = module(ROOT / "docs/site_links.py")
    page = Path("tutorials/a.md")
    for given, wanted in (
        ("[a](../tuning.md#commands)", "[a](../tuning.md#commands)"),
        ("[tables](../../benchmarks/render.md)", "tables (`benchmarks/render.md`)"),
        ("[`x.py`](../../flows/cli.py)", "`x.py`"),
        ("[n](../notebooks/recapture.ipynb)", "[n](../notebooks/recapture.md)"),
        ("![p](../images/demo.png)", "![p](../images/demo.png)"),
        ("```\n[a](b)\n```", "```\n[a](b)\n```"),
        ("[a](https://example.org)", "[a](https://example.org)"),
    ):
        assert links.within(given, page) == wanted
    with pytest.raises(links.PluginError, match=r"tutorials/a\.md: the link gone\.md leads nowhere"):
        links.within("[a](gone.md)", page)


def test_what_a_repository_tells_about_itself_can_be_read_and_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == recapture.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert f"## {recapture.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for form in forms:
        read = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(read)
        ids = [field["id"] for field in read["body"]]
        assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in read["body"])
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tools = {hook["entry"].split()[0] for hook in local["hooks"]} - {"bash"}
    assert tools == {".venv/bin/ruff", ".venv/bin/lint-imports"}


@pytest.mark.full
def test_the_page_of_commands_is_that_of_the_commands():
    make_cli = module(ROOT / "docs/reference/make_cli.py")
    assert make_cli.PAGE.read_text() == make_cli.page()


@pytest.mark.full
def test_the_site_is_built_without_a_warning(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site/reference/python.html").read_text()
    for name in ("configure", "run", "render", "fill"):
        assert f'id="{"jobs_in_python" if name in ("configure", "run") else "in_memory"}' in page
    assert "data:image/png" in (tmp_path / "site/notebooks/recapture.html").read_text()
    assert "http" not in re.sub(r"https?://(localhost|127)[^\s\"<]*", "", " ".join(scripts(page)))


def scripts(page):
    """The addresses from which a page loads code and styles."""
    return re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]+)"', page)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two short videos, where the tutorials go one after the other."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "videos").mkdir()
    clips = sorted((ROOT / "datasets/sample/real").glob("*.mp4"))[:1]
    for clip in clips:
        shutil.copy(clip, folder / "videos")
    assert clips
    for _, block in FENCED.findall(TUTORIALS[2].read_text()):
        if block.startswith("# nightly.yaml"):
            (folder / "nightly.yaml").write_text(block)
    return folder


def commands(page):
    """The commands of a tutorial's blocks for a shell."""
    blocks = [block for language, block in FENCED.findall(page.read_text()) if language == "sh"]
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line]


@pytest.mark.full
@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_command_to_its_last(page, place):
    for words in commands(page):
        assert words[0] == "recapture"
        done = subprocess.run(
            [sys.executable, "-m", "recapture.flows.cli", *words[1:]],
            cwd=place,
            env={**os.environ, **TINY},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (words, done.stdout[-1500:], done.stderr[-1500:])
